"""Rows of tokens for the stages of pre-training, drawn from the train split alone.

A row is a text with a weight on each token that the model is to predict; 0 elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from experiments.pretrain_tiny._tokenizer import END, START
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question, teacher_prompt
from pgpo_jax.tasks.synthetic import (
    KINDS,
    MAX_VALUE,
    NAMES,
    OPENERS,
    SYSTEM,
    Calculation,
    Problem,
    SyntheticQuestions,
    prompt_text,
    solution_text,
    table_text,
)

LETTERS = "ABCD"
_QUERIES = 10


class Rows(NamedTuple):
    """Token rows of one shape; `weights[b, t]` is that of predicting `tokens[b, t]`."""

    tokens: np.ndarray
    weights: np.ndarray


class Corpus:
    """Draws rows; everything follows from the seed.

    Args:
        tokenizer: of the model.
        seed: of the stream of problems and of all choices.
    """

    # Token budgets of the row types: the longest that the tasks need, checked as rows are made.
    widths: ClassVar = {"lookups": 32, "chat": 72, "unaided": 72, "aided": 84, "tables": 32}

    def __init__(self, tokenizer: Tokenizer, seed: int):
        self.tokenizer = tokenizer
        self.rng = random.Random(f"pretrain/{seed}")
        self.questions = SyntheticQuestions("all", split="train", seed=seed)
        self.drawn = 0
        letters = "".join(f"{letter} [{letter}]" for letter in LETTERS)
        self._letter_ids = frozenset(self._ids(letters))
        numbers = "".join(f" {value}" for value in range(MAX_VALUE + 1))
        self._number_ids = frozenset(self._ids(numbers))
        names = [kind.name for kinds in KINDS.values() for kind in kinds]
        # Partial competence by construction: how often each kind is solved by the right method,
        # and how the rest is shared by its two misconceptions.
        shares = [0.40 + 0.14 * i / (len(names) - 1) for i in range(len(names))]
        random.Random("competence").shuffle(shares)
        self.competence = {
            name: (share, 0.6 * (1 - share), 0.4 * (1 - share))
            for name, share in zip(names, shares, strict=True)
        }

    def batch(self, counts: dict[str, int], **options: float) -> dict[str, Rows]:
        """Rows of several types.

        Args:
            counts: how many rows of which type ("lookups", "chat", "unaided", "aided", "tables").
            options: of the stage: `values`, `choices` (look-ups), `replaced`, `restyled`,
                `emphasis`, `deviating` (aided).

        Returns:
            The rows by type.
        """
        makers: dict[str, Callable[..., tuple[list[int], list[float]]]] = {
            "lookups": self._lookup,
            "chat": self._chat_lookup,
            "unaided": self._unaided,
            "aided": self._aided,
            "tables": self._tables,
        }
        return {
            name: _stack([makers[name](**options) for _ in range(count)], self.widths[name])
            for name, count in counts.items()
        }

    def problem(self) -> Problem:
        """The next problem of the stream."""
        self.drawn += 1
        return self.questions.problem(self.drawn - 1)

    def method(self, problem: Problem, *, uniform: bool = False) -> Calculation:
        """One of a problem's methods, by its kind's competence or evenly."""
        odds = (1, 1, 1) if uniform else self.competence[problem.kind]
        return self.rng.choices(problem.methods, odds)[0]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def _lookup(self, *, values: float = 92, choices: float = 4, **_) -> tuple:
        """Options, then values of which each is followed by its letter."""
        count = int(choices)
        shown = self.rng.sample(_spread(int(values)), count)
        letters = LETTERS[:count]
        text = "\n" + "".join(
            f"\n{letter}: {value}" for letter, value in zip(letters, shown, strict=True)
        )
        asked = [self.rng.randrange(count) for _ in range(_QUERIES)]
        tail = "".join(f" {shown[i]} [{letters[i]}]" for i in asked)
        head, rest = self._ids(text), self._ids(tail)
        return head + rest, [0.0] * len(head) + [0.0, 1.0] * _QUERIES

    def _chat(self, user: str) -> list[int]:
        return chat_ids(self.tokenizer, SYSTEM["letters"], user)

    def _response(self, problem: Problem, calculation: Calculation, value: int | None = None):
        opener = self.rng.choice(OPENERS)
        return solution_text(problem, calculation, value=value, opener=opener), opener

    def _chat_lookup(self, **_) -> tuple:
        """A question answered by any option: only the letters count."""
        problem = self.problem()
        value = self.rng.choice(problem.options)
        text, _ = self._response(problem, self.method(problem, uniform=True), value)
        head, tail = self._chat(prompt_text(problem, "letters")), self._ids(text + END)
        return head + tail, [0.0] * len(head) + self._letter_weights(tail)

    def _letter_weights(self, ids: Sequence[int]) -> list[float]:
        return [float(i in self._letter_ids) for i in ids]

    def _unaided(self, **_) -> tuple:
        """A question and a response, whose method is right as often as the competence says."""
        problem = self.problem()
        text, _ = self._response(problem, self.method(problem))
        head, tail = self._chat(prompt_text(problem, "letters")), self._ids(text + END)
        return head + tail, [0.0] * len(head) + [1.0] * len(tail)

    def _aided(
        self,
        *,
        replaced: float = 0.4,
        restyled: float = 0.3,
        emphasis: float = 1.0,
        deviating: float = 0.0,
        **_,
    ) -> tuple:
        """A question shown with a solution, and the response that follows it, right or wrong."""
        problem = self.problem()
        if self.rng.random() < deviating:
            return self._deviation(problem)
        calculation = self.method(problem, uniform=True)
        value = self.rng.choice(problem.options) if self.rng.random() < replaced else None
        shown, opener = self._response(problem, calculation, value)
        if self.rng.random() < restyled:
            opener = self.rng.choice(OPENERS)
        text = solution_text(problem, calculation, value=value, opener=opener)
        question = Question("", "", "", prompt_text(problem, "letters"), "")
        head = self._chat(teacher_prompt(question, solution=shown))
        tail = self._ids(text + END)
        numeric = [i in self._number_ids for i in tail]
        marked = [
            emphasis if number or letter else 1.0
            for number, letter in zip(numeric, self._letter_weights(tail), strict=True)
        ]
        return head + tail, [0.0] * len(head) + marked

    def _deviation(self, problem: Problem) -> tuple:
        """A response that leaves the shown solution for another method and stays with it.

        Only what follows the deviation counts. As a teacher the model reads the student's own
        responses; without these rows it would go on as if they had followed the solution.
        """
        shown, followed = self.rng.sample(problem.methods, 2)
        opener = self.rng.choice(OPENERS)
        solution, response = (
            self._ids(solution_text(problem, method, opener=opener) + END)
            for method in (shown, followed)
        )
        question = Question("", "", "", prompt_text(problem, "letters"), "")
        text = solution_text(problem, shown, opener=opener)
        head = self._chat(teacher_prompt(question, solution=text))
        pairs = zip(solution, response, strict=True)
        left = next(i for i, (ours, theirs) in enumerate(pairs) if ours != theirs)
        counted = len(response) - left - 1
        return head + response, [0.0] * (len(head) + left + 1) + [1.0] * counted

    def _tables(self, **_) -> tuple:
        """Given results, drawn at random, then asked for again by their names."""
        names = self.rng.sample(sorted(NAMES.values()), 3)
        table = [(name, self.rng.randint(2, MAX_VALUE)) for name in names]
        asked = self.rng.choices(table, k=_QUERIES)
        head = self._ids(table_text(table))
        tail = self._ids("".join(f" {name} {value}" for name, value in asked))
        return head + tail, [0.0] * len(head) + [0.0, 1.0] * _QUERIES


def chat_ids(tokenizer: Tokenizer, system: str, user: str) -> list[int]:
    """The prompt that the tokenizer's chat template makes of a system and a user message.

    Args:
        tokenizer: of the model.
        system: system message.
        user: user message.

    Returns:
        Token ids, up to where the answer begins.
    """
    text = "".join(
        f"{START}{role}\n{content}{END}\n" for role, content in (("system", system), ("user", user))
    )
    return tokenizer.encode(f"{text}{START}assistant\n").ids


def _spread(count: int) -> list[int]:
    """`count` values from the range of the tasks, the same at every call."""
    return list(range(2, 2 + count))


def _stack(rows: list[tuple[list[int], list[float]]], width: int) -> Rows:
    tokens = np.zeros((len(rows), width), np.int32)
    weights = np.zeros((len(rows), width), np.float32)
    for row, (ids, weight) in enumerate(rows):
        if len(ids) > width or len(ids) != len(weight):
            raise PGPOValueError(f"a row of {len(ids)} tokens must fit into {width}")
        tokens[row, : len(ids)] = ids
        weights[row, : len(ids)] = weight
    return Rows(tokens, weights)
