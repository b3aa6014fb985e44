"""What the losses of tokens are weighed by besides the information: one small part per signal."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pgpo_jax.distillation import certainty_weights, pass_rate_weights, position_weights
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.information import group_belief_shift, largest_share_of_groups
from pgpo_jax.training.config import LossConfig
from pgpo_jax.training.devices._mesh import gather_rows
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Rollout


@dataclass(frozen=True)
class SignalWeight(ABC):
    """A bounded weight per token, from a signal without a gradient.

    Args:
        loss: `weight_min`, `weight_max` and `weight_share` are read.
    """

    loss: LossConfig

    # Numbers per response that `rows` gives.
    columns: ClassVar[tuple[str, ...]] = ()
    # What `beforehand` gives, and `numbers` reads of all rows of the step.
    whole: ClassVar[tuple[str, ...]] = ()

    def rows(
        self, rollout: Rollout, kept: Bool[np.ndarray, " N"], threshold: float
    ) -> dict[str, np.ndarray]:
        """The columns, on the host.

        Args:
            rollout: the graded responses.
            kept: those that train.
            threshold: a response is right from this score on.
        """
        del rollout, kept, threshold
        return {}

    def beforehand(
        self, batch: Experience, student: Float[Array, "R T"], teacher: Float[Array, "R T"]
    ) -> dict[str, Array]:
        """Numbers per row that `numbers` needs of the whole batch.

        Args:
            batch: some rows.
            student: log-probabilities of their tokens, nats; 0 off the tokens of the loss.
            teacher: the same of the teacher.
        """
        del batch, student, teacher
        return {}

    def numbers(
        self, batch: Experience, whole: Mapping[str, Any]
    ) -> dict[str, Float[Array, "R T"]]:
        """What `weigh` reads of each token besides the teacher's entropy.

        Args:
            batch: some rows.
            whole: of all rows of the step, what `beforehand` gave.
        """
        del batch, whole
        return {}

    @abstractmethod
    def weigh(self, numbers: Mapping[str, Array], teacher_entropy: Array) -> Array:
        """The weights.

        Args:
            numbers: of some tokens, among others those of `numbers`.
            teacher_entropy: of these tokens, nats.
        """


class ByTeacherEntropy(SignalWeight):
    """`certainty_weights`."""

    def weigh(self, numbers: Mapping[str, Array], teacher_entropy: Array) -> Array:
        """In [weight_min, 1]."""
        del numbers
        return certainty_weights(teacher_entropy, least=self.loss.weight_min)


class ByPosition(SignalWeight):
    """`position_weights`, by the place in the whole response."""

    def numbers(
        self, batch: Experience, whole: Mapping[str, Any]
    ) -> dict[str, Float[Array, "R T"]]:
        """The share of the response before the middle of each token."""
        del whole
        length = jnp.maximum(batch.response_mask.sum(1, keepdims=True), 1).astype(jnp.float32)
        middle = jnp.arange(batch.response_mask.shape[1], dtype=jnp.float32) + 0.5
        return {"fraction": middle / length}

    def weigh(self, numbers: Mapping[str, Array], teacher_entropy: Array) -> Array:
        """In [weight_min, 1]."""
        del teacher_entropy
        return position_weights(numbers["fraction"], least=self.loss.weight_min)


class ByPassRate(SignalWeight):
    """`pass_rate_weights` of the share of right responses among those to the same question."""

    columns: ClassVar[tuple[str, ...]] = ("weight",)

    def rows(
        self, rollout: Rollout, kept: Bool[np.ndarray, " N"], threshold: float
    ) -> dict[str, np.ndarray]:
        """The weight of each response, over the mean of all processes."""
        del kept
        right = (rollout.scores >= threshold).reshape(-1, rollout.samples)
        own = np.repeat(right.mean(1), rollout.samples)
        every = gather_rows(own, rollout.policy.mesh)
        weights = pass_rate_weights(jnp.asarray(every, jnp.float32), most=self.loss.weight_max)
        return {"weight": np.asarray(weights)[rollout.places]}

    def numbers(
        self, batch: Experience, whole: Mapping[str, Any]
    ) -> dict[str, Float[Array, "R T"]]:
        """The weight of the response."""
        del whole
        shape = batch.response_mask.shape
        weight = _column(batch, "weight", "pass_rate")
        return {"weight": jnp.broadcast_to(weight[:, None], shape)}

    def weigh(self, numbers: Mapping[str, Array], teacher_entropy: Array) -> Array:
        """In [0, weight_max]."""
        del teacher_entropy
        return numbers["weight"]


class ByBeliefShift(SignalWeight):
    """The questions whose belief in the sampled answers the context moves most (InFlow)."""

    columns: ClassVar[tuple[str, ...]] = ("question", "differs")
    whole: ClassVar[tuple[str, ...]] = (
        "shift_question",
        "shift_there",
        "shift_differs",
        "shift_student",
        "shift_teacher",
    )

    def rows(
        self, rollout: Rollout, kept: Bool[np.ndarray, " N"], threshold: float
    ) -> dict[str, np.ndarray]:
        """The question of each response, and whether no earlier one to it is the same."""
        del threshold
        seen: set[tuple[int, str]] = set()
        differs = np.zeros(len(kept), np.float32)
        for row, owner in enumerate(rollout.owners.tolist()):
            answer = (owner, rollout.responses.texts[row])
            if kept[row] and answer not in seen:
                seen.add(answer)
                differs[row] = 1.0
        question = (rollout.places // rollout.samples).astype(np.float32)
        return {"question": question, "differs": differs}

    def beforehand(
        self, batch: Experience, student: Float[Array, "R T"], teacher: Float[Array, "R T"]
    ) -> dict[str, Array]:
        """Of each response: its question, whether it counts, and how likely both find it, nats."""
        there = batch.sequence_mask & batch.response_mask.any(1)
        return {
            "shift_question": _column(batch, "question", "belief_shift").astype(jnp.int32),
            "shift_there": there,
            "shift_differs": there & (_column(batch, "differs", "belief_shift") > 0),
            "shift_student": student.sum(1),
            "shift_teacher": teacher.sum(1),
        }

    def numbers(
        self, batch: Experience, whole: Mapping[str, Any]
    ) -> dict[str, Float[Array, "R T"]]:
        """1 over the share of chosen questions where the question is chosen, else 0."""
        question, there = whole["shift_question"], whole["shift_there"]
        shift = group_belief_shift(
            whole["shift_student"], whole["shift_teacher"], question, whole["shift_differs"]
        )
        chosen = largest_share_of_groups(shift, question, there, self.loss.weight_share)
        # Of responses, since the loss is a mean over them or over their tokens.
        every, few = (x.sum(dtype=jnp.float32) for x in (there, chosen))
        scale = every / jnp.maximum(few, 1.0)
        own = _column(batch, "question", "belief_shift").astype(jnp.int32)
        weight = jnp.where(jnp.any((own[:, None] == question) & chosen, axis=1), scale, 0.0)
        return {"weight": jnp.broadcast_to(weight[:, None], batch.response_mask.shape)}

    def weigh(self, numbers: Mapping[str, Array], teacher_entropy: Array) -> Array:
        """0, or the number of responses over that of chosen ones."""
        del teacher_entropy
        return numbers["weight"]


def _column(batch: Experience, name: str, weight: str) -> Float[Array, " R"]:
    if batch.columns is None or name not in batch.columns:
        raise PGPOValueError(
            f"with loss.weight {weight!r} the lesson must hold the column {name!r}: prepare must "
            "return self.weighed(rollout, lesson), got a lesson without it"
        )
    return batch.columns[name]


SIGNAL_WEIGHTS: dict[str, type[SignalWeight]] = {
    "teacher_entropy": ByTeacherEntropy,
    "position": ByPosition,
    "pass_rate": ByPassRate,
    "belief_shift": ByBeliefShift,
}
"""By the name in `loss.weight`."""
