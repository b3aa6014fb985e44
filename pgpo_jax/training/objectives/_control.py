from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.training.config._train_config import InformationConfig


class SignalControl(NamedTuple):
    """What the multiplier is given in place of I: `gain * I + offset`, in nats.

    (1, 0) is the measured signal, (-1, 0) the flipped one, (0, x) a replayed x. An argument of the
    step and not a part of it, so that all of them run the same compiled program.
    """

    gain: Float[Any, ""]
    offset: Float[Any, ""]

    def __call__(self, information: Float[Array, ""]) -> Float[Array, ""]:
        """The signal; a replayed value is itself even where I is not finite."""
        gain = jnp.asarray(self.gain, jnp.float32)
        return jnp.where(gain == 0, 0.0, gain * information) + self.offset


MEASURED = SignalControl(np.float32(1), np.float32(0))


def signal_control(config: InformationConfig, step: int) -> SignalControl:
    """The control of one step, counted from 0."""
    if config.replay:
        return SignalControl(np.float32(0), np.float32(config.replay[step]))
    return SignalControl(np.float32(-1), np.float32(0)) if config.flip else MEASURED
