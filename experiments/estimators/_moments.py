"""Bias and spread of the estimators on joint models: exactly, and on drawn batches.

`SIGNALS` are the estimators as they are met: the pointwise one depends on whose words are scored.
A batch is B independent pairs of feedback and word; the word matters to the pointwise signals only.
"""

import functools as ft
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from experiments.estimators._joint import Joint
from pgpo_jax.information import ESTIMATORS, pointwise_gain

SIGNALS = {
    "entropy": "entropy_gain",
    "kl": "kl_gain",
    "js": "js_gain",
    "pointwise_teacher": "pointwise_gain, teacher's words",
    "pointwise_student": "pointwise_gain, student's words",
}
FEEDBACK_ONLY = ("entropy", "kl", "js")


class Moments(NamedTuple):
    """Mean and standard deviation of one pair's value, nats, by enumeration of all pairs."""

    mean: Float[Array, ""]
    sd: Float[Array, ""]


def by_feedback(
    student: Float[Array, " V"], teachers: Float[Array, "M V"], names: tuple[str, ...]
) -> dict[str, Float[Array, " M"]]:
    """The library's value of each estimator for each feedback, from logits."""
    student = jnp.broadcast_to(student, teachers.shape)
    return {name: ESTIMATORS[name](student, teachers, None) for name in names}


@jax.jit
def exact_moments(joint: Joint) -> dict[str, Moments]:
    """Mean and spread of every signal over the joint law of feedback and word."""
    values = by_feedback(joint.student, joint.teachers, FEEDBACK_ONLY)
    found = {name: Moments(jnp.mean(v), jnp.std(v)) for name, v in values.items()}
    ratio = joint.teachers - joint.student
    for name, log_law in (
        ("pointwise_teacher", joint.teachers),
        ("pointwise_student", jnp.broadcast_to(joint.student, joint.teachers.shape)),
    ):
        law = jnp.exp(log_law) / joint.teachers.shape[0]
        mean = jnp.sum(law * ratio)
        found[name] = Moments(mean, jnp.sqrt(jnp.sum(law * (ratio - mean) ** 2)))
    return found


@ft.partial(jax.jit, static_argnums=(2, 3))
def drawn_estimates(
    joint: Joint, key: Key[Array, ""], batches: tuple[int, ...], repeats: int
) -> dict[str, Float[Array, "repeats batches"]]:
    """The library's estimates from drawn batches of each size; smaller ones are parts of larger."""
    pairs_key, words_key = jax.random.split(key)
    shape = (repeats, max(batches))
    feedback, word = _pairs(joint, pairs_key, shape)
    own = jnp.searchsorted(
        _cumulative(joint.student), jax.random.uniform(words_key, shape, jnp.float64)
    )
    values = by_feedback(joint.student, joint.teachers, FEEDBACK_ONLY)
    drawn = {name: v[feedback] for name, v in values.items()}
    for name, chosen in (("pointwise_teacher", word), ("pointwise_student", own)):
        pair = joint.student[chosen], joint.teachers[feedback, chosen]
        drawn[name] = _each(*pair)
    return {
        name: jnp.stack([jnp.mean(v[:, :size], axis=1) for size in batches], axis=1)
        for name, v in drawn.items()
    }


def _each(student: Float[Array, "n b"], teacher: Float[Array, "n b"]) -> Float[Array, "n b"]:
    """`pointwise_gain` of single words, so that batches of all sizes can be made of them."""
    one = jnp.ones((1, 1))
    gain = jax.vmap(jax.vmap(lambda s, t: pointwise_gain(s[None, None], t[None, None], one)))
    return gain(student, teacher)


def _pairs(
    joint: Joint, key: Key[Array, ""], shape: tuple[int, int]
) -> tuple[Int[Array, "n b"], Int[Array, "n b"]]:
    """Feedbacks and the teachers' words, by inversion: f decides where row f begins."""
    feedbacks, vocabulary = joint.teachers.shape
    places = jnp.arange(feedbacks, dtype=jnp.float64)[:, None]
    stacked = (_cumulative(joint.teachers) + places).ravel()
    draw = jax.random.uniform(key, shape, jnp.float64, maxval=float(feedbacks))
    index = jnp.minimum(jnp.searchsorted(stacked, draw), stacked.shape[0] - 1)
    return index // vocabulary, index % vocabulary


def _cumulative(log_p: Float[Array, "*rows V"]) -> Float[Array, "*rows V"]:
    total = jnp.cumsum(jnp.exp(log_p), axis=-1)
    return total / total[..., -1:]


@ft.partial(jax.jit, static_argnums=(2, 3))
def mixture_estimates(
    joint: Joint, key: Key[Array, ""], shown: int, repeats: int
) -> Float[Array, " repeats"]:
    """`kl_gain` with a student made of m teachers: the mean of KL(q_i || mean q) over them."""

    def one(chosen: Int[Array, " m"]) -> Float[Array, ""]:
        teachers = joint.teachers[chosen]
        student = jax.nn.logsumexp(teachers, axis=0) - math.log(shown)
        return jnp.mean(by_feedback(student, teachers, ("kl",))["kl"])

    chosen = jax.random.randint(key, (repeats, shown), 0, joint.teachers.shape[0])
    return jax.lax.map(one, chosen)
