"""The base of objectives with a teacher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pgpo_jax._reduce import mean_of
from pgpo_jax.distillation import (
    HeadLoss,
    TokenLoss,
    advantage_loss,
    divergence,
    head_entropies,
    head_logprobs,
    modulation_weights,
    taught_head_loss,
)
from pgpo_jax.information import SIGNALS, outcome_contrast
from pgpo_jax.training.config import InformationConfig, LossConfig, TeacherConfig
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._means import mean_over_loss, reduction_denominators
from pgpo_jax.training.objectives._models import Models, student_states, teacher_states
from pgpo_jax.training.objectives._signal_weights import SIGNAL_WEIGHTS, SignalWeight
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout

# What is handed to the head of what `denominators` gives; the rest is for `per_token`.
_DENOMINATORS = ("num_sequences", "num_tokens")


class Passed(NamedTuple):
    """The results of one pass of student and teacher: hidden states, heads and a reference."""

    student_hidden: Float[Array, "R T D"]
    student_head: Float[Array, "D V"]
    teacher_hidden: Float[Array, "R T Dt"]
    teacher_head: Float[Array, "Dt V"]
    mix: dict[str, Any]


class Known(NamedTuple):
    """What numbers of each token may be made from besides the rows.

    Attributes:
        denominators: of the whole batch, with what `beforehand` gave.
        entropies: the teacher's at each token of the loss, nats; one more product with its head if
            it is called.
    """

    denominators: Mapping[str, Any]
    entropies: Callable[[], Float[Array, "R T"]]


@dataclass(frozen=True)
class Taught(Objective):
    """What the objectives with a teacher share: its weights, the one pass over both, the signal.

    A subclass says in `prepare` what the teacher is shown. In `token_loss` it may have another loss
    than the divergence; in `per_token`, numbers that this loss reads.

    Args:
        teacher: which weights the teacher has and what it is shown.
        loss: the divergence and how it is reduced.
        information: the estimator of I, and the multiplier of a modulated loss.

    Added in version 0.2.0.
    """

    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = LossConfig()
    information: InformationConfig = InformationConfig()

    # What the loss of a token is called in metrics and texts.
    loss_name: ClassVar[str] = "divergence"
    # What of `per_token` the metrics read, as `HeadLoss.numbers`.
    kept_numbers: ClassVar[tuple[str, ...]] = ()

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

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the weight."""
        return () if self.weight is None else self.weight.columns

    @property
    def weight(self) -> SignalWeight | None:
        """What the losses of tokens are weighed by besides the information."""
        name = self.loss.weight
        return None if name == "none" else SIGNAL_WEIGHTS[name](self.loss)

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the weight does."""
        return self.weight is not None and bool(self.weight.whole)

    def beforehand(self, models: Models, batch: Experience) -> dict[str, Array]:
        """What the weight needs of the whole batch."""
        return self._weight_beforehand(models, batch, self.passed(models, batch))

    def weighed(self, rollout: Rollout, lesson: Lesson) -> Lesson:
        """The lesson of `prepare`, with the columns of the weight."""
        if self.weight is None:
            return lesson
        rows = self.weight.rows(rollout, lesson.kept, self.teacher.success_threshold)
        return lesson._replace(columns={**lesson.columns, **rows})

    def counted(self, batch: Experience) -> Experience:
        """The batch with the tokens of loss and information as its response tokens."""
        skip = self.loss.skip_tokens
        if not skip:
            return batch
        late = jnp.arange(batch.response_mask.shape[1]) >= skip
        return batch._replace(response_mask=batch.response_mask & late)

    def token_loss(self, models: Models) -> TokenLoss:
        """The loss of each token, from the logits of both: here, what `loss.form` says."""
        settings, sharding = self.loss, models.head_sharding
        shared: dict[str, Any] = {
            "support": settings.support,
            "k": settings.k,
            "sharding": sharding,
        }

        def policy_gradient(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
            return advantage_loss(student, teacher, tokens=chunk["tokens"], **shared)

        def loss(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
            return divergence(
                student,
                teacher,
                teacher_weight=settings.teacher_weight,
                tokens=chunk["tokens"],
                entry_clip=settings.entry_clip,
                **shared,
            )

        return policy_gradient if settings.form == "advantage" else loss

    def per_token(self, batch: Experience, known: Known) -> dict[str, Float[Array, "R T"]]:
        """Further numbers of each token that `token_loss` reads.

        Args:
            batch: some rows.
            known: of the whole batch and the teacher.
        """
        del batch, known
        return {}

    def teacher_entropies(self, models: Models, batch: Experience) -> Float[Array, "R T"]:
        """The teacher's entropies at the tokens of the loss, nats, by a pass of its own."""
        return self._entropies(models, batch, *self._teacher(models, batch))

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """Of the loss's reduction."""
        return reduction_denominators(self.loss.reduction, self.counted(batch), sequences)

    def loss_of_rows(
        self, models: Models, batch: Experience, denominators: dict[str, Any]
    ) -> HeadLoss:
        """The loss of student and teacher, and the information, of some rows."""
        settings, counted = self.loss, self.counted(batch)
        passed = self.passed(models, batch)
        denominators = self.completed(models, batch, denominators, passed)
        student_hidden, student_head, teacher_hidden, teacher_head, mix = passed
        entropies = partial(self._entropies, models, batch, teacher_hidden, teacher_head, mix)
        # What the head cannot measure by itself is made of the graded gain: see `signal`.
        estimator = self.information.estimator
        estimator = estimator if estimator in SIGNALS else "outcome"
        clip, weight = settings.rollout_clip, self.weight
        numbers = self.per_token(batch, Known(denominators, entropies))
        if weight is not None:
            measured = all(name in denominators for name in weight.whole)
            # If not, these are all rows of the step.
            own = {} if measured else self._weight_beforehand(models, batch, passed)
            numbers |= weight.numbers(batch, denominators | own)
        out = taught_head_loss(
            self.token_loss(models),
            student_hidden,
            teacher_hidden,
            student_head,
            teacher_head,
            batch.response,
            counted.response_mask,
            batch.sequence_mask,
            per_token=numbers,
            token_weight=None if weight is None else weight.weigh,
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
            rollout_level=settings.rollout_level,
            overlap_k=settings.overlap_k,
            **self._head(models),
            **{name: denominators[name] for name in _DENOMINATORS if name in denominators},
            **mix,
        )
        if not self.kept_numbers:
            return out
        return out._replace(numbers={name: numbers[name] for name in self.kept_numbers})

    def passed(self, models: Models, batch: Experience) -> Passed:
        """One pass of both models over some rows."""
        return Passed(*student_states(models, batch), *self._teacher(models, batch))

    def completed(
        self, models: Models, batch: Experience, denominators: dict[str, Any], passed: Passed
    ) -> dict[str, Any]:
        """The denominators with what follows from the whole batch.

        Args:
            models: as of `loss_of_rows`.
            batch: some rows.
            denominators: of the whole batch, with what `beforehand` gave.
            passed: of these rows.

        Returns:
            All that `per_token` and the head read.
        """
        del models, batch, passed
        return denominators

    def _weight_beforehand(
        self, models: Models, batch: Experience, passed: Passed
    ) -> dict[str, Array]:
        """What the weight needs of these rows; one more product with each head."""
        if self.weight is None or not self.weight.whole:
            return {}
        counted = self.counted(batch)
        student = self._logprobs(models, batch, *passed[:2], {})
        teacher = self._logprobs(models, batch, *passed[2:])
        return self.weight.beforehand(counted, student, teacher)

    def _teacher(
        self, models: Models, batch: Experience
    ) -> tuple[Float[Array, "R T D"], Float[Array, "D V"], dict[str, Any]]:
        """The teacher's hidden states and head, and what its logits are mixed with."""
        kind = self.teacher.kind
        live = kind in ("live", "trust_region")
        hidden, head = teacher_states(models, models.student if live else models.teacher, batch)
        mix: dict[str, Any] = {}
        if kind == "trust_region":
            reference_hidden, reference_head = teacher_states(models, models.teacher, batch)
            mix = {
                "reference_hidden": reference_hidden,
                "reference_head": reference_head,
                "trust_region_rate": self.teacher.rate,
            }
        return hidden, head, mix

    def _entropies(
        self, models: Models, batch: Experience, hidden: Array, head: Array, mix: dict[str, Any]
    ) -> Float[Array, "R T"]:
        mask = self.counted(batch).response_mask
        return head_entropies(hidden, head, mask, **self._head(models), **mix)

    def _logprobs(
        self, models: Models, batch: Experience, hidden: Array, head: Array, mix: dict[str, Any]
    ) -> Float[Array, "R T"]:
        """Log-probabilities of the tokens of the loss, nats, by one product with a head."""
        mask = self.counted(batch).response_mask
        return head_logprobs(hidden, head, batch.response, mask, **self._head(models), **mix)

    def _head(self, models: Models) -> dict[str, Any]:
        """How a product with a head is taken."""
        return {
            "temperature": models.temperature,
            "chunk_size": self.loss.chunk,
            "sharding": models.head_sharding,
        }

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
            self.counted(batch).response_mask,
            batch.signal_mask,
            reduction=self.information.reduction,
        )

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """Means over the response tokens of the sequences that enter the loss."""
        whole, batch = batch, self.counted(batch)
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
        if self.weight is not None:
            measured = self.weight.beforehand(batch, out.student_logprobs, out.teacher_logprobs)
            numbers = self.weight.numbers(whole, measured)
            weights = self.weight.weigh(numbers, out.teacher_entropy)
            modulated["distillation/weight"] = mean_over_loss(batch, weights)
        return (
            modulated
            | _agreement(out, batch)
            | {
                "loss": out.loss,
                f"self_distillation/{self.loss_name}": mean_over_loss(batch, out.divergence),
                "self_distillation/student_entropy": mean_over_loss(batch, out.student_entropy),
                "self_distillation/teacher_entropy": mean_over_loss(batch, out.teacher_entropy),
                "self_distillation/teacher_log_ratio": mean_over_loss(batch, log_ratio),
                "rollout/importance_ratio": mean_over_loss(batch, ratio),
            }
        )

    def tokens(self, out: HeadLoss) -> dict[str, Float[Array, "R T"]]:
        """Loss, gain and both entropies of each response token, in nats."""
        return {
            self.loss_name: out.divergence,
            "information": out.gain,
            "student_entropy": out.student_entropy,
            "teacher_entropy": out.teacher_entropy,
        }

    def _success(self, batch: Experience) -> Bool[Array, " R"]:
        return batch.score >= self.teacher.success_threshold


def of_each_row(batch: Experience, *names: str) -> dict[str, Float[Array, "R T"]]:
    """Columns of the batch, at each token of their row."""
    assert batch.columns is not None
    shape = batch.response_mask.shape
    return {name: jnp.broadcast_to(batch.columns[name][:, None], shape) for name in names}


def _agreement(out: HeadLoss, batch: Experience) -> dict[str, Array]:
    """How far student and teacher agree, if that was measured."""
    if out.overlap_ratio is None or out.overlap_advantage is None:
        return {}
    gap = jnp.abs(out.teacher_entropy - out.student_entropy)
    return {
        "distillation/overlap_ratio": mean_over_loss(batch, out.overlap_ratio),
        "distillation/overlap_advantage": mean_over_loss(batch, out.overlap_advantage),
        "distillation/entropy_gap": mean_over_loss(batch, gap),
    }
