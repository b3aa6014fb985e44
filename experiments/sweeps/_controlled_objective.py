"""SDPO with parts of it replaced."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from experiments.sweeps._misleading import mislead, misleading_metrics
from pgpo_jax.training import SDPO, Experience, Lesson, Objective, Rollout, ShownSolutions

Half = Literal["none", "same", "other"]
Rows = Literal["all", "failures"]


@dataclass(frozen=True)
class ControlledSDPO(SDPO):
    """SDPO that is shown wrong solutions, or measures its information on other rows.

    Args:
        teacher: settings of `SDPO`, as are `loss` and `information`.
        samples: responses to each question.
        half: `same` or `other`. The gradient then uses only questions 0, 2, 4, ... of the step. The
            information uses the same questions, or the others, whose noise is independent. The loss
            is divided by the number of sequences of questions 0, 2, 4, ...
        rows: `failures`: the information is measured on responses that are graded below
            `teacher.success_threshold`; it is 0 if there are none. The loss takes all of them.
        misleading: chance that a shown solution is replaced by a wrong answer of its group.

    >>> ControlledSDPO(samples=8, misleading=0.5).program() == SDPO()
    True
    """

    samples: int = 1
    half: Half = "none"
    rows: Rows = "all"
    misleading: float = 0.0

    def program(self) -> Objective:
        """Plain SDPO, unless the loss has another denominator."""
        if self.half == "none":
            return SDPO(self.teacher, self.loss, self.information).program()
        return dataclasses.replace(self, half="same", rows="all", misleading=0.0)

    def solutions(self, rollout: Rollout) -> ShownSolutions:
        """The first right answer of a peer, or a wrong one in its place."""
        return mislead(
            rollout,
            super().solutions(rollout),
            self.misleading,
            threshold=self.teacher.success_threshold,
            exclude_self=self.teacher.exclude_self,
        )

    def prepare(self, rollout: Rollout) -> Lesson:
        """Chooses the rows of the loss and those of the information."""
        even = rollout.places // rollout.samples % 2 == 0
        trained = None if self.half == "none" else even
        measured = ~even if self.half == "other" else trained
        if self.rows == "failures":
            failed = rollout.scores < self.teacher.success_threshold
            measured = failed if measured is None else measured & failed
        return super().prepare(rollout)._replace(trained=trained, measured=measured)

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """Those of SDPO, and what was replaced."""
        return {**super().row_metrics(rows, samples), **misleading_metrics(rows)}

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """Of the loss's reduction, over the questions that train."""
        if self.half != "none":
            questions = sequences // self.samples
            sequences = (questions + 1) // 2 * self.samples
        return super().denominators(batch, sequences)
