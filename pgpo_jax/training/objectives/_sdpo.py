from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from pgpo_jax.training.objectives._taught import Taught
from pgpo_jax.training.objectives._teaching import chosen_solutions, write_teacher_prompts
from pgpo_jax.training.rollout._records import Lesson, Rollout


class ShownSolutions(NamedTuple):
    """The solutions that the teacher is shown.

    Attributes:
        peers: the response that is shown to the teacher of each response; -1 for none.
        solved: the responses that have a right peer.
        facts: further numbers per response, for `row_metrics`.
        texts: right responses of earlier steps, by the response whose teacher is shown one.

    Added in version 0.2.0.
    """

    peers: Int[np.ndarray, " N"]
    solved: Bool[np.ndarray, " N"]
    facts: Mapping[str, np.ndarray] = MappingProxyType({})
    texts: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True)
class SDPO(Taught):
    """Self-distillation policy optimization: the student learns from itself, shown a solution.

    The teacher reads the same response behind a prompt with a right answer of a peer, the grader's
    feedback, or both. Responses without either carry no signal: they are dropped before the
    forward pass and stay in the denominator of the loss. The information I_k (Eq. 8 of arXiv
    2606.03620) comes from the same pass.

    Args:
        teacher: which weights the teacher has and what it is shown.
        loss: the divergence and how it is reduced.
        information: the estimator of I, and the multiplier of a modulated loss.

    >>> from pgpo_jax.training import LossConfig
    >>> SDPO(loss=LossConfig(k=20)).loss.k
    20

    Added in version 0.2.0.
    """

    def solutions(self, rollout: Rollout) -> ShownSolutions:
        """The first right answer of a peer, for each response."""
        return ShownSolutions(*chosen_solutions(rollout, self.teacher))

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps the responses that have a teacher signal."""
        shown = self.solutions(rollout)
        prompts = write_teacher_prompts(rollout, shown.peers, self.teacher, earlier=shown.texts)
        kept = np.isin(np.arange(len(rollout.grades)), list(prompts.ids))
        facts = {"solved": shown.solved, "overlong": prompts.overlong, **shown.facts}
        if self.teacher.feedback:
            said = [bool(grade.feedback.strip()) for grade in rollout.grades]
            facts |= {"feedback": np.array(said), "fed": prompts.fed}
        lesson = Lesson(kept, prompts.ids, prompts.texts, facts=facts)
        return self.weighed(rollout, lesson)

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from."""
        words = {}
        if self.teacher.feedback:
            words = {
                "self_distillation/feedback_available_fraction": float(rows["feedback"].mean()),
                "self_distillation/feedback_used_fraction": float(rows["fed"].mean()),
            }
        success = rows["score"].reshape(-1, samples) >= self.teacher.success_threshold
        return words | {
            "self_distillation/success_group_fraction": float(success.any(1).mean()),
            "self_distillation/success_sample_fraction": float(rows["solved"].mean()),
            "self_distillation/reprompt_sample_fraction": int(rows["kept"].sum())
            / len(rows["kept"]),
            "self_distillation/dropped_teacher_prompts": float(rows["overlong"].sum()),
        }
