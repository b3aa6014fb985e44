from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax._reduce import mean_of
from pgpo_jax.distillation import HeadLoss, modulation_weights, sdpo_head_loss
from pgpo_jax.information import SIGNALS, outcome_contrast
from pgpo_jax.training.config import InformationConfig, LossConfig, TeacherConfig
from pgpo_jax.training.objectives._base import (
    Models,
    Objective,
    mean_over_loss,
    reduction_denominators,
    student_states,
    teacher_states,
)
from pgpo_jax.training.objectives._teaching import chosen_solutions, write_teacher_prompts
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


class ShownSolutions(NamedTuple):
    """The solutions that the teacher is shown.

    Attributes:
        peers: the response that is shown to the teacher of each response; -1 for none.
        solved: the responses that have a right peer.
        facts: further numbers per response, for `row_metrics`.
    """

    peers: Int[np.ndarray, " N"]
    solved: Bool[np.ndarray, " N"]
    facts: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class SDPO(Objective):
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
    """

    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = LossConfig()
    information: InformationConfig = InformationConfig()

    @property
    def one_pass(self) -> bool:
        """True: the student answers one prompt."""
        return True

    @property
    def teacher_settings(self) -> TeacherConfig:
        """The teacher."""
        return self.teacher

    @property
    def learning_fraction(self) -> str:
        """The share of responses that have a teacher signal."""
        return "self_distillation/reprompt_sample_fraction"

    def solutions(self, rollout: Rollout) -> ShownSolutions:
        """The first right answer of a peer, for each response."""
        return ShownSolutions(*chosen_solutions(rollout, self.teacher))

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps the responses that have a teacher signal."""
        shown = self.solutions(rollout)
        prompts = write_teacher_prompts(rollout, shown.peers, self.teacher)
        kept = np.isin(np.arange(len(rollout.grades)), list(prompts.ids))
        facts = {"solved": shown.solved, "overlong": prompts.overlong, **shown.facts}
        return Lesson(kept, prompts.ids, prompts.texts, facts=facts)

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from."""
        success = rows["score"].reshape(-1, samples) >= self.teacher.success_threshold
        return {
            "self_distillation/success_group_fraction": float(success.any(1).mean()),
            "self_distillation/success_sample_fraction": float(rows["solved"].mean()),
            "self_distillation/reprompt_sample_fraction": int(rows["kept"].sum())
            / len(rows["kept"]),
            "self_distillation/dropped_teacher_prompts": float(rows["overlong"].sum()),
        }

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """Of the loss's reduction."""
        return reduction_denominators(self.loss.reduction, batch, sequences)

    def loss_of_rows(
        self, models: Models, batch: Experience, denominators: dict[str, Any]
    ) -> HeadLoss:
        """The divergence of student and teacher, and the information, of some rows."""
        kind, settings = self.teacher.kind, self.loss
        student_hidden, student_head = student_states(models, batch)
        live = kind in ("live", "trust_region")
        teacher_hidden, teacher_head = teacher_states(
            models, models.student if live else models.teacher, batch
        )
        mix: dict[str, Any] = {}
        if kind == "trust_region":
            reference_hidden, reference_head = teacher_states(models, models.teacher, batch)
            mix = {
                "reference_hidden": reference_hidden,
                "reference_head": reference_head,
                "trust_region_rate": self.teacher.rate,
            }
        # What the head cannot measure by itself is made of the graded gain: see `signal`.
        estimator = self.information.estimator
        estimator = estimator if estimator in SIGNALS else "outcome"
        clip = settings.rollout_clip
        return sdpo_head_loss(
            student_hidden,
            teacher_hidden,
            student_head,
            teacher_head,
            batch.response,
            batch.response_mask,
            batch.sequence_mask,
            teacher_weight=settings.teacher_weight,
            support=settings.support,
            k=settings.k,
            temperature=models.temperature,
            reduction=settings.reduction,
            signal_mask=batch.signal_mask,
            success=self._success(batch) if estimator == "outcome" else None,
            modulation=settings.modulation,
            alpha=self.information.alpha,
            rho_max=self.information.rho_max,
            rho_min=self.information.rho_min,
            estimator=estimator,
            signal_reduction=self.information.reduction,
            sampler_logprobs=None if clip is None else batch.sampler_logprobs,
            rollout_clip=clip,
            chunk_size=settings.chunk,
            sharding=models.head_sharding,
            **denominators,
            **mix,
        )

    def combine(self, out: HeadLoss) -> HeadLoss:
        """The information is a mean: its sum and its count add up."""
        return out._replace(information=mean_of(out.information_sum, out.information_count))

    def signal(self, out: HeadLoss, batch: Experience) -> Float[Array, ""]:
        """I_k, in nats."""
        if self.information.estimator != "outcome_contrast":
            return out.information
        return outcome_contrast(
            out.student_logprobs,
            out.teacher_logprobs,
            self._success(batch),
            batch.response_mask,
            batch.signal_mask,
            reduction=self.information.reduction,
        )

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """Means over the response tokens of the sequences that enter the loss."""
        ratio = jnp.exp(out.student_logprobs - batch.sampler_logprobs)
        log_ratio = out.teacher_logprobs - out.student_logprobs
        modulated = {}
        if self.loss.modulation != "none":
            weights = modulation_weights(
                out.gain,
                batch.response_mask,
                level=self.loss.modulation,
                alpha=self.information.alpha,
                rho_max=self.information.rho_max,
                rho_min=self.information.rho_min,
            )
            modulated = {"pgpo/weight": mean_over_loss(batch, weights)}
        return modulated | {
            "loss": out.loss,
            "self_distillation/divergence": mean_over_loss(batch, out.divergence),
            "self_distillation/student_entropy": mean_over_loss(batch, out.student_entropy),
            "self_distillation/teacher_entropy": mean_over_loss(batch, out.teacher_entropy),
            "self_distillation/teacher_log_ratio": mean_over_loss(batch, log_ratio),
            "rollout/importance_ratio": mean_over_loss(batch, ratio),
        }

    def tokens(self, out: HeadLoss) -> dict[str, Float[Array, "R T"]]:
        """Divergence, gain and both entropies of each response token, in nats."""
        return {
            "divergence": out.divergence,
            "information": out.gain,
            "student_entropy": out.student_entropy,
            "teacher_entropy": out.teacher_entropy,
        }

    def _success(self, batch: Experience) -> Bool[Array, " R"]:
        return batch.score >= self.teacher.success_threshold
