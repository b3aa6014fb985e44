"""Emulates the products of accelerators on a CPU by rounding their inputs.

A function is traced, and its operations are run one by one. The inputs of chosen products are
rounded to fewer bits of the mantissa before they are multiplied. Sums stay float32, as in the units
of TPUs and GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal


class Rounding(NamedTuple):
    """Bits of the mantissa that are kept, to the nearest, ties to even.

    Attributes:
        inputs: of a product; a number or an array, so that one program serves several.
        output: of its result.
    """

    inputs: Any
    output: Any


Rule = Callable[[JaxprEqn], Rounding]
BFLOAT16, TF32, FLOAT32 = 7, 10, 23
# Operations that are one inner function, by the parameter that holds it.
_CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def rounded_products(function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """The function with its products rounded.

    Args:
        function: of arrays, to arrays.
        rule: from a product's equation (`dot_general`) to what is kept of it.

    Returns:
        The function; it may be jitted.
    """

    def rounded(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args), rule)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rounded


def _run(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], rule: Rule) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def value(of: Any) -> Any:
        return of.val if isinstance(of, Literal) else values[of]

    for equation in jaxpr.eqns:
        outputs = _applied(equation, [value(one) for one in equation.invars], rule)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [value(one) for one in jaxpr.outvars]


def _applied(equation: JaxprEqn, inputs: list[Any], rule: Rule) -> list[Any]:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        kept = rule(equation)
        product = equation.primitive.bind(*(_cut(x, kept.inputs) for x in inputs), **parameters)
        return [_cut(product, kept.output)]
    if name == "scan":
        return _scanned(parameters, inputs, rule)
    if name in _CALLS:
        inner = parameters[_CALLS[name]]
        if isinstance(inner, ClosedJaxpr):
            return _run(inner.jaxpr, inner.consts, inputs, rule)
        return _run(inner, (), inputs, rule)
    if "dot_general" in str(equation):
        raise NotImplementedError(f"products inside {name} are not rounded")
    parameters = equation.primitive.get_bind_params(parameters)
    outputs = equation.primitive.bind(*inputs, **parameters)
    return outputs if equation.primitive.multiple_results else [outputs]


def _scanned(parameters: dict[str, Any], inputs: list[Any], rule: Rule) -> list[Any]:
    body, fixed, carried = (parameters[name] for name in ("jaxpr", "num_consts", "num_carry"))
    consts, first, rest = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = _run(body.jaxpr, body.consts, [*consts, *carry, *x], rule)
        return outputs[:carried], outputs[carried:]

    last, stacked = jax.lax.scan(
        step, first, rest, length=parameters["length"], reverse=parameters["reverse"]
    )
    return [*last, *stacked]


def _cut(x: Any, bits: Any) -> Any:
    """A float32 array to so many bits; narrower ones as they are."""
    if x.dtype != jnp.float32:
        return x
    one, number = jnp.uint32(1), jax.lax.bitcast_convert_type(x, jnp.uint32)
    dropped = jnp.uint32(FLOAT32) - jnp.asarray(bits).astype(jnp.uint32)
    # Half of the last bit that is kept, less one where that bit is 0: ties go to even.
    up = ((one << dropped) >> 1) + ((number >> dropped) & one) - one
    cut = (number + up) & ~((one << dropped) - one)
    return jax.lax.bitcast_convert_type(jnp.where(dropped > 0, cut, number), jnp.float32)
