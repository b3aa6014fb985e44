"""Responses of several words: the information of earlier words about the feedback, exactly.

Given the feedback the words are independent. The student does not know the feedback and infers it
from the words so far: p(y_t | y_<t) = sum_f p(f | y_<t) p(y_t | f). With two words in the
vocabulary their counts are sufficient, so the sums are over 0..t instead of 2^t prefixes.

Two laws of what the estimator sees. *Paired*: feedback and words come from the joint model, the
words so far are the teacher's. *Rollouts*, as in training: the words are the student's own, and the
feedback, a solution of somebody else, is independent of them.
"""

import functools as ft
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Key

from experiments.estimators._joint import Joint
from experiments.estimators._moments import FEEDBACK_ONLY, by_feedback

LAWS = ("paired", "rollouts")


class Lengths(NamedTuple):
    """Per position t = 0..T-1.

    Attributes:
        information: I(y_t; f | y_<t), nats.
        counts: p(number of ones among t words | f).
        values: every estimator's value, by number of ones and feedback.
    """

    information: Float[Array, " T"]
    counts: Float[Array, "T N M"]
    values: dict[str, Float[Array, "T N M"]]


@ft.partial(jax.jit, static_argnums=1)
def enumerate_lengths(joint: Joint, length: int) -> Lengths:
    """All positions of a response of two-word vocabulary.

    Args:
        joint: a model of two words; every word of the response is drawn by it.
        length: T, tokens.
    """
    log_one, log_zero = joint.teachers[:, 1], joint.teachers[:, 0]
    t = jnp.arange(length, dtype=joint.teachers.dtype)[:, None]
    n = jnp.arange(length, dtype=joint.teachers.dtype)[None, :]
    possible = n <= t
    zeros = jnp.where(possible, t - n, 0.0)
    ways = gammaln(t + 1) - gammaln(n + 1) - gammaln(zeros + 1)
    log_counts = (ways[..., None] + n[..., None] * log_one + zeros[..., None] * log_zero).astype(
        joint.teachers.dtype
    )
    log_counts = jnp.where(possible[..., None], log_counts, -jnp.inf)
    posterior = jax.nn.softmax(jnp.where(possible[..., None], log_counts, 0.0), axis=-1)
    student = jax.nn.logsumexp(jnp.log(posterior)[..., None] + joint.teachers, axis=-2)  # [T, N, 2]
    values = jax.vmap(jax.vmap(lambda p: by_feedback(p, joint.teachers, FEEDBACK_ONLY)))(student)
    counts = jnp.exp(log_counts)
    q = jnp.exp(joint.teachers)
    gain = jnp.sum(q * (joint.teachers - student[..., None, :]), axis=-1)
    return Lengths(jnp.mean(jnp.sum(counts * gain, axis=1), axis=-1), counts, values)


def position_means(lengths: Lengths, law: str) -> dict[str, Float[Array, " T"]]:
    """Expectation of each estimator at each position, under one of `LAWS`."""
    counts = lengths.counts
    if law == "rollouts":
        counts = jnp.broadcast_to(jnp.mean(counts, axis=-1, keepdims=True), counts.shape)
    return {
        name: jnp.mean(jnp.sum(counts * v, axis=1), axis=-1) for name, v in lengths.values.items()
    }


@ft.partial(jax.jit, static_argnums=(3, 4))
def drawn_sequences(
    joint: Joint, lengths: Lengths, key: Key[Array, ""], law: str, repeats: int
) -> dict[str, Float[Array, "repeats T"]]:
    """Values at every position of drawn responses."""
    feedbacks, length = joint.teachers.shape[0], lengths.information.shape[0]
    writer_key, feedback_key, words_key = jax.random.split(key, 3)
    writer = jax.random.randint(writer_key, (repeats,), 0, feedbacks)
    # The student's words are those of a teacher of unknown feedback: that is what a marginal is.
    feedback = writer
    if law == "rollouts":
        feedback = jax.random.randint(feedback_key, (repeats,), 0, feedbacks)
    ones = jax.random.bernoulli(
        words_key, jnp.exp(joint.teachers[writer, 1])[:, None], (repeats, length)
    )
    ones = ones.astype(jnp.int32)
    before = jnp.cumsum(ones, axis=1) - ones
    places = jnp.arange(length)[None, :]
    return {name: v[places, before, feedback[:, None]] for name, v in lengths.values.items()}
