"""What the losses of tokens are weighed by besides the information: one small part per signal."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.distillation import certainty_weights, pass_rate_weights, position_weights
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training.config import LossConfig
from pgpo_jax.training.devices._mesh import gather_rows
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Rollout


@dataclass(frozen=True)
class SignalWeight(ABC):
    """A bounded weight per token, from a signal without a gradient.

    Args:
        loss: `weight_min` and `weight_max` are read.
    """

    loss: LossConfig

    # Numbers per response that `rows` gives.
    columns: ClassVar[tuple[str, ...]] = ()

    def rows(self, rollout: Rollout, threshold: float) -> dict[str, np.ndarray]:
        """The columns, on the host.

        Args:
            rollout: the graded responses.
            threshold: a response is right from this score on.
        """
        del rollout, threshold
        return {}

    def numbers(self, batch: Experience) -> dict[str, Float[Array, "R T"]]:
        """What `weigh` reads of each token besides the teacher's entropy."""
        del batch
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

    def numbers(self, batch: Experience) -> dict[str, Float[Array, "R T"]]:
        """The share of the response before the middle of each token."""
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

    def rows(self, rollout: Rollout, threshold: float) -> dict[str, np.ndarray]:
        """The weight of each response, over the mean of all processes."""
        right = (rollout.scores >= threshold).reshape(-1, rollout.samples)
        own = np.repeat(right.mean(1), rollout.samples)
        every = gather_rows(own, rollout.policy.mesh)
        weights = pass_rate_weights(jnp.asarray(every, jnp.float32), most=self.loss.weight_max)
        return {"weight": np.asarray(weights)[rollout.places]}

    def numbers(self, batch: Experience) -> dict[str, Float[Array, "R T"]]:
        """The weight of the response."""
        if batch.columns is None or "weight" not in batch.columns:
            raise PGPOValueError(
                "with loss.weight 'pass_rate' the lesson must hold the column 'weight': prepare "
                "must return self.weighed(rollout, lesson), got a lesson without it"
            )
        shape = batch.response_mask.shape
        return {"weight": jnp.broadcast_to(batch.columns["weight"][:, None], shape)}

    def weigh(self, numbers: Mapping[str, Array], teacher_entropy: Array) -> Array:
        """In [0, weight_max]."""
        del teacher_entropy
        return numbers["weight"]


SIGNAL_WEIGHTS: dict[str, type[SignalWeight]] = {
    "teacher_entropy": ByTeacherEntropy,
    "position": ByPosition,
    "pass_rate": ByPassRate,
}
"""By the name in `loss.weight`."""
