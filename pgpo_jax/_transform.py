"""Information-modulated steps as an optax transform (Alg. 1 of arXiv 2606.03620)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from pgpo_jax._multiplier import check_hyperparameters, check_number, multiplier, refuse_rounded
from pgpo_jax._precision import at_least_float32
from pgpo_jax.errors import PGPOTypeError, PGPOValueError

# Nats. A sum over a batch is smaller too: 80,000 tokens have at most 12 nats each.
SIGNAL_BOUND = 1e6


class ScaleByInformationState(NamedTuple):
    """State of `scale_by_information`; every field is a scalar of fixed dtype.

    Attributes:
        count: number of updates so far.
        information: the signal of the last update in nats, as given, even if not finite.
        rho: the multiplier of the last update.
        clipped_count: number of updates whose multiplier was clipped to `rho_max`.
        nonfinite_count: number of updates with rho = 1 because the signal or the multiplier was not
            finite, or the signal was beyond the bound.
        average: decayed sum of the signals that were used, in nats.
        weight: decayed sum of ones; `average / weight` is the bias-corrected mean.
    """

    # optax uses this name, which is also a method of tuples.
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    information: Float[Array, ""]
    rho: Float[Array, ""]
    clipped_count: Int[Array, ""]
    nonfinite_count: Int[Array, ""]
    average: Float[Array, ""]
    weight: Float[Array, ""]


def initial_state() -> ScaleByInformationState:
    """The state before the first update."""
    return ScaleByInformationState(
        count=jnp.zeros([], jnp.int32),
        information=jnp.zeros([], jnp.float32),
        rho=jnp.ones([], jnp.float32),
        clipped_count=jnp.zeros([], jnp.int32),
        nonfinite_count=jnp.zeros([], jnp.int32),
        average=jnp.zeros([], jnp.float32),
        weight=jnp.zeros([], jnp.float32),
    )


def as_signal(information: ArrayLike | None) -> Float[Array, ""]:
    """The signal as a float32 scalar that is not weakly typed."""
    if information is None:
        raise PGPOTypeError(
            "scale_by_information needs the keyword argument `information`: pass "
            "`tx.update(grads, state, params, information=I)`, where I is a scalar in nats, for "
            "example from pgpo_jax.information.entropy_gain(student_logits, teacher_logits, mask). "
            "If it was passed, a wrapper between here and there drops extra arguments."
        )
    signal = jnp.asarray(information)
    if signal.shape != ():
        raise PGPOValueError(
            f"`information` must be one scalar for the whole batch, got shape {signal.shape}; "
            "reduce it first (pgpo_jax.information reduces over tokens and sequences)."
        )
    if not jnp.issubdtype(signal.dtype, jnp.floating) and not jnp.issubdtype(
        signal.dtype, jnp.integer
    ):
        raise PGPOTypeError(f"`information` must be a real number, got dtype {signal.dtype}.")
    return signal.astype(jnp.float32)


def scaled(update: ArrayLike, rho: Float[Array, ""]) -> Array:
    """`rho * update` in the dtype of the update; rho is never rounded to 16 bits."""
    update = jnp.asarray(update)
    dtype = at_least_float32(update.dtype)
    return (update.astype(dtype) * rho.astype(dtype)).astype(update.dtype)


def count_if(count: Int[Array, ""], happened: Bool[Array, ""]) -> Int[Array, ""]:
    """The count, one higher if something happened."""
    return jnp.where(happened, jnp.asarray(optax.safe_increment(count)), count)


def scale_by_information(
    alpha: ScalarLike | optax.Schedule = 1.0,
    rho_max: ScalarLike = 2.0,
    *,
    rho_min: ScalarLike = 0.0,
    decay: ScalarLike = 0.0,
    delay: ScalarLike = 0,
    signal_bound: ScalarLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Scale the update by the information in this step's feedback.

    $$u_k \leftarrow \rho(I_k)\, u_k,\qquad
      \rho(I) = \max\{\rho_{\min}, \min(e^{\alpha I}, \rho_{\max})\}$$

    See Eq. 9 and Alg. 1. Put it last in the chain, as `pgpo` does. The moments of an adaptive
    optimizer then never see the multiplier. A signal that is not finite, or larger in absolute
    value than `signal_bound`, gives rho = 1 and is counted. The mean and the delayed signal ignore
    it, since one wrong number would stay in the mean for many updates.

    Args:
        alpha: sensitivity per nat, >= 0, or an optax schedule of the update count.
        rho_max: largest multiplier, >= 1.
        rho_min: smallest multiplier, in [0, 1]. With 0 this is Eq. 9 as written. With 1, rho is at
            least 1, as the text of the paper says.
        decay: decay of the running mean, in [0, 1). The multiplier sees the bias-corrected
            exponential mean of the signals, in which the newest has weight `1 - decay`. With 0 it
            sees the signal itself.
        delay: 0, or 1 to use the signal (or mean) of the previous update. The multiplier is then
            independent of this minibatch. This removes the covariance of rho and gradient, which
            biases the drift. The first update has rho = 1.
        signal_bound: largest absolute signal that is used, in nats, positive; `None`: 1e6. An
            entropy per token is at most log(vocabulary size), about 12. A sum over 80,000 tokens is
            then still below 1e6. With `inf` every finite signal is used.

    Returns:
        A transform whose `update` requires the keyword `information`, a scalar in nats.
        Hyperparameters may be injected with `optax.inject_hyperparams`. For parameters of 16 bits
        pass it `hyperparam_dtype=jnp.float32`, or it would round them.

    Raises:
        ValueError: a hyperparameter outside its range (tracers are not checked), or a signal that
            is not a scalar.
        TypeError: `update` without `information`; a hyperparameter of 16 bits.

    >>> import jax.numpy as jnp, optax, pgpo_jax as pgpo
    >>> tx = optax.chain(optax.sgd(0.1), pgpo.scale_by_information(alpha=1.0, rho_max=2.0))
    >>> params = jnp.ones(2)
    >>> updates, state = tx.update(jnp.ones(2), tx.init(params), params, information=9.0)
    >>> updates.tolist(), int(state[1].clipped_count)
    ([-0.20000000298023224, -0.20000000298023224], 1)
    """
    refuse_rounded(alpha=alpha, rho_max=rho_max, rho_min=rho_min, decay=decay, delay=delay)
    check_hyperparameters(0.0 if callable(alpha) else alpha, rho_max, rho_min)
    check_number("decay", decay, "a number in [0, 1)", lambda x: (x >= 0) & (x < 1))
    check_number("delay", delay, "0 or 1", lambda x: (x == 0) | (x == 1))
    most = SIGNAL_BOUND if signal_bound is None else signal_bound
    check_number("signal_bound", most, "a number > 0", lambda x: x > 0)

    def init_fn(params: optax.Params) -> ScaleByInformationState:
        del params
        return initial_state()

    def update_fn(
        updates: optax.Updates,
        state: ScaleByInformationState,
        params: optax.Params | None = None,
        *,
        information: ArrayLike | None = None,
        **extra_args,
    ) -> tuple[optax.Updates, ScaleByInformationState]:
        del params, extra_args
        signal = as_signal(information)
        keep = jnp.asarray(decay, jnp.float32)
        sensitivity = jnp.asarray(alpha(state.count) if callable(alpha) else alpha, jnp.float32)
        cap = jnp.asarray(rho_max, jnp.float32)

        believed = jnp.isfinite(signal) & (jnp.abs(signal) <= jnp.asarray(most, jnp.float32))
        average = jnp.where(believed, keep * state.average + (1 - keep) * signal, state.average)
        weight = jnp.where(believed, keep * state.weight + (1 - keep), state.weight)

        delayed = jnp.asarray(delay) == 1
        numerator = jnp.where(delayed, state.average, average)
        denominator = jnp.where(delayed, state.weight, weight)
        known = denominator > 0
        effective = jnp.where(known, numerator / jnp.where(known, denominator, 1.0), 0.0)

        rho = multiplier(effective, sensitivity, cap, jnp.asarray(rho_min, jnp.float32))
        usable = believed & jnp.isfinite(rho)
        rho = jnp.where(usable & known, rho, 1.0)
        clipped = usable & known & (sensitivity * effective > jnp.log(cap))
        new_state = ScaleByInformationState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            information=signal,
            rho=rho,
            clipped_count=count_if(state.clipped_count, clipped),
            nonfinite_count=count_if(state.nonfinite_count, ~usable),
            average=average,
            weight=weight,
        )
        return jax.tree.map(lambda u: scaled(u, rho), updates), new_state

    # optax types a state as any tree of arrays
    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]


def pgpo(
    optimizer: optax.GradientTransformation,
    alpha: ScalarLike | optax.Schedule = 1.0,
    rho_max: ScalarLike = 2.0,
    *,
    rho_min: ScalarLike = 0.0,
    decay: ScalarLike = 0.0,
    delay: ScalarLike = 0,
    signal_bound: ScalarLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Scale the final update of any optax optimizer by `scale_by_information` (Alg. 1).

    The whole update is scaled, decoupled weight decay included.

    Args:
        optimizer: a complete optimizer, with its learning rate.
        alpha: sensitivity per nat; all further arguments are those of `scale_by_information`.
        rho_max: largest multiplier.
        rho_min: smallest multiplier.
        decay: decay of the running mean of the signal, in [0, 1).
        delay: 1 to use the signal of the previous step, else 0.
        signal_bound: largest absolute signal that is used, in nats.

    Returns:
        `optax.chain(optimizer, scale_by_information(...))`.

    Raises:
        ValueError: as `scale_by_information`.

    >>> import jax.numpy as jnp, optax, pgpo_jax as pgpo
    >>> tx = pgpo.pgpo(optax.adamw(1e-3), alpha=1.0, rho_max=2.0)
    >>> params = {"w": jnp.ones(3)}
    >>> state = tx.init(params)
    >>> updates, state = tx.update(params, state, params, information=0.3)
    >>> round(float(state[-1].rho), 4)
    1.3499
    """
    scale = scale_by_information(
        alpha, rho_max, rho_min=rho_min, decay=decay, delay=delay, signal_bound=signal_bound
    )
    return optax.chain(optimizer, scale)
