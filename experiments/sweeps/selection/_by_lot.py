"""OPSD on questions that are drawn by lot: the control of a selection."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from pgpo_jax.training import OPSD, Lesson, Objective, ObjectiveSections, Rollout, gather_rows


@dataclass(frozen=True)
class ByLot(OPSD):
    """OPSD that trains as many questions as `loss.weight_share` says, drawn by lot.

    Which ones is a function of seed and step. The loss is a mean over the tokens of the drawn ones.

    Args:
        teacher: as of `OPSD`, as are `loss` and `information`.
    """

    def program(self) -> Objective:
        """Plain OPSD: what is drawn is no part of the program."""
        return OPSD(self.teacher, self.loss, self.information).program()

    def prepare(self, rollout: Rollout) -> Lesson:
        """Draws among the questions of which a response trains."""
        lesson = super().prepare(rollout)
        question = rollout.places // rollout.samples
        there = np.unique(gather_rows(np.where(lesson.kept, question, -1), rollout.policy.mesh))
        there = there[there >= 0]
        count = math.ceil(round(self.loss.weight_share * len(there), 9))
        drawn = np.random.default_rng((rollout.seed, rollout.step)).permutation(there)[:count]
        return lesson._replace(trained=np.isin(question, drawn), measured=lesson.kept)


def by_lot(sections: ObjectiveSections) -> ByLot:
    """The objective of a configuration; `FILE.py:by_lot`."""
    made = ByLot(*sections.taught)
    return dataclasses.replace(made, loss=dataclasses.replace(made.loss, weight="none"))
