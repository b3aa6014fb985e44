"""What the multiplier is given in place of the measured information."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training import Callback, Run

_BLOCK = 1024


class ReplayState(NamedTuple):
    """The state of `controlled`.

    Attributes:
        inner: of the optimizer that is wrapped.
        gain: 1 gives the measured information, -1 its negative, 0 the replayed values.
        values: nats by step; NaN where there is none.
        step: the steps so far, which is the place of the next value.
    """

    inner: Any
    gain: Float[Array, ""]
    values: Float[Array, " steps"]
    step: Int[Array, ""]


def controlled(
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    replay: Sequence[float] = (),
    flip: bool = False,
    steps: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that is given other information than was measured.

    The control lives in the state alone. All controls of one optimizer have the same `update`, the
    same object, and states of the same shapes: they share a compiled step.

    Args:
        optimizer: its `update` takes `information`.
        replay: what it is given instead, in nats, a value for each step. Empty: the measured one.
        flip: give it minus the measured information.
        steps: of the run. There is room for this many values, in blocks of 1024, so that a run can
            be continued.

    Returns:
        The wrapped optimizer.

    Raises:
        ValueError: a replay that is shorter than the run, or that is to be flipped.

    >>> from pgpo_jax import scale_by_information
    >>> given = controlled(scale_by_information(1.0), replay=(0.5, 0.25), steps=2)
    >>> update = jnp.ones(3)
    >>> state = given.init(update)
    >>> for measured in (7.0, float("nan")):
    ...     _, state = given.update(update, state, information=measured)
    ...     print(state.inner.information)
    0.5
    0.25
    """
    if replay and len(replay) < steps:
        raise PGPOValueError(
            f"replay must hold a value for each step, that is {steps} values, got {len(replay)}"
        )
    if replay and flip:
        raise PGPOValueError("flip must be False with a replay, which may hold -I itself, got True")
    size = -(-max(steps, len(replay)) // _BLOCK) * _BLOCK
    values = np.full(size, np.nan, np.float32)
    values[: len(replay)] = replay
    gain = 0.0 if replay else -1.0 if flip else 1.0

    def init(params: optax.Params) -> ReplayState:
        return ReplayState(
            optimizer.init(params),
            jnp.asarray(gain, jnp.float32),
            jnp.asarray(values),
            jnp.zeros([], jnp.int32),
        )

    return optax.GradientTransformationExtraArgs(init, _controlled_update(optimizer.update))


# One function per optimizer: the trainer tells programs apart by it.
@functools.lru_cache(maxsize=64)
def _controlled_update(inner: Callable[..., Any]) -> Callable[..., Any]:
    def update(
        updates: optax.Updates,
        state: ReplayState,
        params: optax.Params | None = None,
        *,
        information: Any,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ReplayState]:
        # NaN and not the last value where the replay has ended.
        value = state.values.at[state.step].get(mode="fill", fill_value=jnp.nan)
        replays = state.gain == 0
        # A replayed value is itself even where the information is not finite.
        measured = jnp.where(replays, 0.0, state.gain * jnp.asarray(information, jnp.float32))
        given = measured + jnp.where(replays, value, 0.0)
        updates, new = inner(updates, state.inner, params, information=given, **extra_args)
        step = jnp.asarray(optax.safe_increment(state.step))
        return updates, ReplayState(new, state.gain, state.values, step)

    return update


class FollowSteps(Callback):
    """Keeps the position in a replay at the number of the step.

    The trainer may skip a step, because the gradient is not finite or no response trains. The state
    of the optimizer, with the position in the replay, then does not change. Without this callback
    the next step would get the value of this one.
    """

    def on_start(self, run: Run) -> None:
        """Of a run that is resumed, too, whatever its last step was."""
        self._follow(run)

    def on_step(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """After a step that was not applied."""
        if not metrics["optimizer/applied"]:
            self._follow(run)

    def _follow(self, run: Run) -> None:
        state = run.state
        number, controls = int(state.step), state.opt_state
        assert isinstance(controls, ReplayState)
        if int(controls.step) != number:
            place = jax.device_put(np.int32(number), controls.step.sharding)
            run.state = state._replace(opt_state=controls._replace(step=place))
