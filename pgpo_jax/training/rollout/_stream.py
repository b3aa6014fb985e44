import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question


class Batch(NamedTuple):
    """The questions of one step with their encoded prompts."""

    questions: list[Question]
    prompts: list[list[int]]
    dropped: int

    def take(self, rows: Int[np.ndarray, " own"]) -> "Batch":
        """Some of the questions: those of one process."""
        chosen = [(self.questions[i], self.prompts[i]) for i in rows]
        return Batch([q for q, _ in chosen], [p for _, p in chosen], self.dropped)


class QuestionStream:
    """The questions of each step. They are a function of (seed, step), so nothing needs saving.

    A file is shuffled again in every epoch, and its last partial batch is dropped. An endless
    source is read in order. Questions with too long a prompt are dropped and counted, never cut.

    Args:
        questions: a finite sequence, or an endless one of length `sys.maxsize`.
        encode: function that returns the prompt of a question as token ids.
        per_step: number of questions in a batch.
        max_prompt: longest prompt that is not dropped, in tokens.
        seed: seed of the order of a finite sequence.

    Raises:
        ValueError: too few prompts are short enough for one batch.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        encode: Callable[[Question], list[int]],
        *,
        per_step: int,
        max_prompt: int,
        seed: int,
    ):
        self._questions, self._encode = questions, encode
        self._per_step, self._max_prompt, self._seed = per_step, max_prompt, seed
        self._prompts: list[tuple[Question, list[int]]] | None = None
        self.dropped = 0
        # An endless source has the largest possible length.
        if len(questions) == sys.maxsize:
            self._endless(0)  # Prompts that do not fit are reported now, not at the first step.
            return
        # Every process checks all questions, because all must agree. A question takes about a
        # millisecond, so splitting the work saves little.
        encoded = [(question, encode(question)) for question in questions]
        self._prompts = [row for row in encoded if len(row[1]) <= max_prompt]
        self.dropped = len(encoded) - len(self._prompts)
        if len(self._prompts) < per_step:
            raise PGPOValueError(
                f"a step needs {per_step} questions of at most {max_prompt} prompt tokens, "
                f"the task has {len(self._prompts)} (and {self.dropped} longer ones): "
                "raise rollout.max_prompt or lower rollout.questions"
            )

    def batch(self, step: int) -> Batch:
        """The questions of step `step`, counted from 0.

        Raises:
            ValueError: more than half of the questions of an endless source are too long.
        """
        if self._prompts is None:
            return self._endless(step)
        epoch, position = divmod(step, len(self._prompts) // self._per_step)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._prompts))
        chosen = order[position * self._per_step :][: self._per_step]
        rows = [self._prompts[i] for i in chosen]
        return Batch([q for q, _ in rows], [p for _, p in rows], 0)

    def _endless(self, step: int) -> Batch:
        # Each step has its own block of twice its size, so that dropping needs no history.
        size = self._per_step
        questions, prompts, dropped = [], [], 0
        for i in range(2 * size * step, 2 * size * (step + 1)):
            question = self._questions[i]
            prompt = self._encode(question)
            if len(prompt) > self._max_prompt:
                dropped += 1
                continue
            questions.append(question)
            prompts.append(prompt)
            if len(questions) == size:
                return Batch(questions, prompts, dropped)
        raise PGPOValueError(
            f"more than half of the questions of step {step} have prompts of over "
            f"{self._max_prompt} tokens: raise rollout.max_prompt"
        )
