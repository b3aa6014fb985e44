"""The endless source of questions."""

import itertools
import operator
import random
import sys
from collections.abc import Iterator, Sequence
from typing import SupportsIndex, overload

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.synthetic import _biology, _chemistry, _materials, _physics
from pgpo_jax.tasks.synthetic._kind import Kind, Problem
from pgpo_jax.tasks.synthetic._text import FORMS, OPENERS, SYSTEM, prompt_text, solution_text

KINDS: dict[str, tuple[Kind, ...]] = {
    "physics": _physics.KINDS,
    "chemistry": _chemistry.KINDS,
    "biology": _biology.KINDS,
    "materials": _materials.KINDS,
}
"""The kinds of question of each domain."""
DOMAINS = (*KINDS, "all")
"""The domains, and `all`, which mixes them."""
_SPLITS = ("train", "test")


class SyntheticQuestions(Sequence[Question]):
    """An endless, deterministic, lazy sequence of questions.

    Any index from 0 up is valid, and no other question is generated for it. The source has no end
    (its length is `sys.maxsize`) and no slices. A finite list is
    `[questions[i] for i in range(n)]`.

    A question has a worked `solution` and, beginning with another word, a `demonstration`.

    Attributes:
        implied: fields of a question that follow from its other fields.

    Args:
        domain: "physics", "chemistry", "biology", "materials", or "all" for their mixture.
        split: "train" or "test". They share no question, operands or fact.
        seed: number of the stream. Two seeds draw from the same split.
        form: "letters" asks for an option letter. "open" shows no options and asks for the value.

    Raises:
        ValueError: the domain, split or form is unknown, or the seed is not an int.

    >>> question = SyntheticQuestions("physics", split="test")[0]
    >>> question.answer in "ABCD"
    True
    """

    implied = ("solution", "demonstration")

    def __init__(
        self, domain: str, *, split: str = "train", seed: int = 0, form: str = "letters"
    ) -> None:
        for name, value, valid in (
            ("domain", domain, DOMAINS),
            ("split", split, _SPLITS),
            ("form", form, FORMS),
        ):
            if value not in valid:
                raise PGPOValueError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise PGPOValueError(f"seed must be an int, got {seed!r}")
        self.domain, self.split, self.seed, self.form = domain, split, seed, form
        self._kinds = [
            (name, kind)
            for name, kinds in KINDS.items()
            if domain in (name, "all")
            for kind in kinds
        ]

    def problem(self, index: SupportsIndex) -> Problem:
        """The problem of question `index`: its methods and options as numbers.

        Args:
            index: number of the question, at least 0.

        Returns:
            The problem.

        Raises:
            ValueError: the index is negative.
        """
        number = operator.index(index)
        if number < 0:
            raise PGPOValueError(f"index must be at least 0 in an endless source, got {number}")
        # A str is hashed by SHA-512, so the numbers are the same on every machine and in every
        # process.
        rng = random.Random(f"{self.domain}/{self.split}/{self.seed}/{number}")
        domain, kind = rng.choice(self._kinds)
        return kind.draw(domain, self.split, rng)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Question]": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Question | Sequence[Question]":
        if isinstance(index, slice):
            raise PGPOValueError(f"an endless source has no slices, got {index}")
        problem = self.problem(index)
        answer = problem.letter(problem.answer) if self.form == "letters" else str(problem.answer)
        return Question(
            id=f"synthetic-{self.form}:{self.domain}:{self.split}:{self.seed}:{index}",
            domain=problem.domain,
            kind=problem.kind,
            system=SYSTEM[self.form],
            prompt=prompt_text(problem, self.form),
            answer=answer,
            solution=solution_text(problem, problem.methods[0], self.form),
            demonstration=solution_text(problem, problem.methods[0], self.form, opener=OPENERS[1]),
        )

    def __iter__(self) -> Iterator[Question]:
        return (self[index] for index in itertools.count())

    def __len__(self) -> int:
        """sys.maxsize, the largest possible length, because a Sequence must have a length."""
        return sys.maxsize
