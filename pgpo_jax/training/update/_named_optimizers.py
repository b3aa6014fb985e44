"""Optimizers of optax by name."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import muon_dimension_numbers
from pgpo_jax.training.update._optimizer_arguments import Value, checked_arguments

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "acprop": optax.contrib.acprop,
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adafactor": optax.adafactor,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamaxw": optax.adamaxw,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "ademamix": optax.contrib.ademamix,
    "adopt": optax.contrib.adopt,
    "amsgrad": optax.amsgrad,
    "cocob": optax.contrib.cocob,
    "dadapt_adamw": optax.contrib.dadapt_adamw,
    "dog": optax.contrib.dog,
    "dowg": optax.contrib.dowg,
    "fromage": optax.fromage,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "madgrad": optax.contrib.madgrad,
    "muon": optax.contrib.muon,
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "novograd": optax.novograd,
    "optimistic_adam_v2": optax.optimistic_adam_v2,
    "optimistic_gradient_descent": optax.optimistic_gradient_descent,
    "prodigy": optax.contrib.prodigy,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "rprop": optax.rprop,
    "sgd": optax.sgd,
    "sign_sgd": optax.sign_sgd,
    "signum": optax.signum,
    "simplified_ademamix": optax.contrib.simplified_ademamix,
    "sm3": optax.sm3,
    "yogi": optax.yogi,
}
"""Optimizers that need only a name and numbers; the first argument of each is a learning rate.

Added in version 0.2.0.
"""

UNSUITABLE: dict[str, str] = {
    "dpsgd": "it needs the gradient of each example",
    "galore": "it cannot project kernels that are stacked over the layers",
    "lbfgs": "its line search evaluates the loss again",
    "momo": "it needs a lower bound of the loss, and a policy loss has none",
    "momo_adam": "it needs a lower bound of the loss, and a policy loss has none",
    "noisy_sgd": "it needs a random key",
    "optimistic_adam": "optax replaced it by optimistic_adam_v2",
    "polyak_sgd": "it needs the least value of the loss, and a policy loss has none",
    "sam": "it evaluates the gradient twice in a step",
    "schedule_free": "the weights that answer would have to be others than those it trains",
    "schedule_free_adamw": "the weights that answer would have to be others than those it trains",
    "schedule_free_sgd": "the weights that answer would have to be others than those it trains",
    "sophia": "it evaluates the Hessian of the loss",
}
"""Optimizers of optax that a trainer cannot run by name, with the reason."""

# Their update needs the rate as a number.
_CONSTANT_RATE = ("rprop", "sm3")
# They divide by the sum of rate times gradient, which is 0 / 0 = NaN after an update with rate 0.
_RATE_ABOVE_ZERO = ("dadapt_adamw", "prodigy")


def named_optimizer(
    name: str,
    learning_rate: ScalarLike | optax.Schedule,
    arguments: Mapping[str, Value] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer of optax by its name.

    Muon gets `pgpo_jax.models.muon_dimension_numbers`, so that it orthogonalises the kernel of each
    layer. Its Adam updates the embedding, the head and the norms. The weights of all layers are one
    stacked leaf. So optimizers that use the norm of a leaf compute it over all layers together
    (lamb, lars, novograd, fromage, and adafactor for scaling and clipping). Optimizers that find
    their own step (cocob, dadapt_adamw, dog, dowg, prodigy) multiply it by `learning_rate`, which
    is usually 1 for them.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: learning rate, or an optax schedule of the update count.
        arguments: other arguments by name; `parse_arguments` reads them from text. Missing ones
            have optax's defaults.

    Returns:
        The optimizer, without a multiplier. It ignores extra arguments that it does not use.

    Raises:
        ValueError: the name is unknown or unsuitable, an argument is unknown or of the wrong type,
            or the optimizer cannot use a schedule.

    >>> optimizer = named_optimizer("sgd", 0.1, {"momentum": 0.9, "nesterov": True})
    >>> named_optimizer("sgd", 0.1, {"momentun": 0.9})
    Traceback (most recent call last):
    ...
    pgpo_jax.errors.PGPOValueError: An argument of the optimizer 'sgd' must be one of: \
momentum=none, nesterov=false, accumulator_dtype=none; got 'momentun' (did you mean 'momentum'?).

    Added in version 0.2.0.
    """
    if name not in OPTIMIZERS:
        raise PGPOValueError(_unknown(name))
    factory = OPTIMIZERS[name]
    given: dict[str, Any] = checked_arguments(name, factory, arguments or {})
    if callable(learning_rate):
        _check_schedule(name, learning_rate, given)
    if name == "muon":
        given["muon_weight_dimension_numbers"] = muon_dimension_numbers
    return optax.with_extra_args_support(factory(learning_rate, **given))


def _unknown(name: str) -> str:
    if name in UNSUITABLE:
        start = f"The optimizer {name!r} cannot be chosen by name: {UNSUITABLE[name]}."
    else:
        near = difflib.get_close_matches(name.lower(), OPTIMIZERS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        start = f"The optimizer {name!r} is unknown.{hint}"
    return f"{start} It must be one of: {', '.join(OPTIMIZERS)}."


def _check_schedule(name: str, schedule: optax.Schedule, given: Mapping[str, Any]) -> None:
    if name in _CONSTANT_RATE:
        raise PGPOValueError(
            f"The optimizer {name!r} needs a constant learning rate, got a schedule: set no "
            "warm-up (warmup_steps 0) and schedule 'constant'."
        )
    if given.get("adam_learning_rate") is not None:
        raise PGPOValueError(
            "The argument 'adam_learning_rate' of muon is a constant and would not follow the "
            f"schedule of the learning rate, got {given['adam_learning_rate']!r}. Leave it out, "
            "or set no warm-up (warmup_steps 0) and schedule 'constant'."
        )
    if name in _RATE_ABOVE_ZERO and given.get("safeguard_warmup") is not True:
        with jax.ensure_compile_time_eval():
            first = float(jnp.asarray(schedule(0)))
        if first <= 0:
            raise PGPOValueError(
                f"The optimizer {name!r} divides by the learning rate of its first update, got "
                f"{first}: it must be above 0, so set no warm-up (warmup_steps 0)."
            )
