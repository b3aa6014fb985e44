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
    """Which questions each step trains on: a function of (seed, step), so nothing needs saving.

    A file is shuffled anew every epoch and its last partial batch dropped. An endless source is
    read in order. Questions whose prompt is too long are dropped and counted, never cut.

    Args:
        questions: a finite sequence, or an endless one of length `sys.maxsize`.
        encode: the prompt of a question as token ids.
        per_step: questions in a batch.
        max_prompt: tokens of the longest prompt that is not dropped.
        seed: of the order of a finite sequence.

    Raises:
        ValueError: if too few prompts are short enough for one batch.
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
        # An endless source has the largest length there is.
        if len(questions) == sys.maxsize:
            self._endless(0)  # Prompts that do not fit are better known now than at the first step.
            return
        # By every process for itself: all must agree on what fits, and at about a millisecond a
        # question there is little to gain from splitting it.
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
            ValueError: if more than half of those of an endless source are too long.
        """
        if self._prompts is None:
            return self._endless(step)
        epoch, position = divmod(step, len(self._prompts) // self._per_step)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._prompts))
        chosen = order[position * self._per_step :][: self._per_step]
        rows = [self._prompts[i] for i in chosen]
        return Batch([q for q, _ in rows], [p for _, p in rows], 0)

    def _endless(self, step: int) -> Batch:
        # Each step owns a block of twice its size, so that dropping needs no history.
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
