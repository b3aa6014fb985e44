"""The same estimators from logits that are less than exact: rounded, tempered, cut to the top k."""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from experiments.estimators._moments import FEEDBACK_ONLY
from pgpo_jax.distillation import on_support
from pgpo_jax.information import ESTIMATORS

LARGEST_LOGIT = 20.0
"""Where the top logit of the joint models lies: a model's logits are not normalised, and how much
half precision loses depends on their size."""

Pair = tuple[Float[Array, "*batch V"], Float[Array, "*batch V"]]
Prepare = Callable[[Float[Array, "*batch V"], Float[Array, "*batch V"]], Pair]


class Variant(NamedTuple):
    """One way of knowing the logits less than exactly.

    Attributes:
        kind: what is varied.
        setting: its value, for the table.
        prepare: student and teacher logits as this variant has them.
        words: a vocabulary needs more words than this for the variant to differ from the whole.
    """

    kind: str
    setting: str
    prepare: Prepare
    words: int = 0


def _rounded(student: Array, teacher: Array, dtype: Any = jnp.float32) -> Pair:
    return student.astype(dtype), teacher.astype(dtype)


def _tempered(student: Array, teacher: Array, temperature: float) -> Pair:
    return student / temperature, teacher / temperature


def _cut(student: Array, teacher: Array, support: str, k: int) -> Pair:
    return on_support(student, teacher, support, k)


# Cached, since every `prepare` is a program of its own.
@ft.cache
def variants(temperatures: tuple[float, ...], top: tuple[int, ...]) -> tuple[Variant, ...]:
    """Float32 logits as they are first, then all that is done to them."""
    found = [Variant("none", "float32", _rounded)]
    found += [Variant("rounded", "bfloat16", ft.partial(_rounded, dtype=jnp.bfloat16))]
    found += [
        Variant("temperature", f"{x:g}", ft.partial(_tempered, temperature=x)) for x in temperatures
    ]
    for support, kind in (("topk_tail", "top k and tail"), ("topk", "top k renormalised")):
        found += [Variant(kind, str(k), ft.partial(_cut, support=support, k=k), k) for k in top]
    return tuple(found)


@ft.partial(jax.jit, static_argnums=2)
def varied_means(
    student: Float[Array, " V"],
    teachers: Float[Array, "M V"],
    prepare: Prepare,
) -> dict[str, Float[Array, ""]]:
    """Mean over feedback of each estimator, from the logits that `prepare` leaves."""
    shift = LARGEST_LOGIT - jnp.max(student)
    students = jnp.broadcast_to(student + shift, teachers.shape)
    left, right = prepare(*_rounded(students, teachers + shift))
    return {name: jnp.mean(ESTIMATORS[name](left, right, None)) for name in FEEDBACK_ONLY}
