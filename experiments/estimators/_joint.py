"""Joint models p(f) p(y | f) of a feedback and a word, whose mutual information is known.

The feedback is uniform. The words follow Zipf's law, tilted by the feedback: `dense`, every
feedback moves the logit of every word a little; `sparse`, every feedback raises one word.
"""

import functools as ft
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pgpo_jax.errors import PGPOValueError

FAMILIES = ("dense", "sparse")
_ZIPF = 1.5
_BISECTIONS = 24
_LARGEST_STRENGTH = 30.0


class Joint(NamedTuple):
    """One model; the leading axes of a stack of models come first.

    Attributes:
        student: log p(y), the marginal.
        teachers: log p(y | f), one row per feedback.
        information: I(Y; F) by enumeration, nats.
    """

    student: Float[Array, "*models V"]
    teachers: Float[Array, "*models M V"]
    information: Float[Array, "*models"]


def joint_of(teacher_logits: Float[Array, "M V"]) -> Joint:
    """The model with these teachers, its information in plain sums over both variables.

    >>> with jax.enable_x64(True):  # a binary symmetric channel: log 2 - H(0.1)
    ...     joint = joint_of(jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9]])))
    >>> round(float(joint.information), 6)
    0.368064
    """
    log_q = jax.nn.log_softmax(teacher_logits)
    log_p = jax.nn.logsumexp(log_q, axis=0) - math.log(log_q.shape[0])
    q = jnp.exp(log_q)
    gain = jnp.where(q > 0, q * (log_q - log_p), 0.0)
    return Joint(log_p, log_q, jnp.mean(jnp.sum(gain, axis=-1)))


@ft.partial(jax.jit, static_argnums=(1, 2, 3))
def draw_joint(
    key: Key[Array, ""],
    family: str,
    vocabulary: int,
    feedbacks: int,
    information: Float[Array, ""],
) -> Joint:
    """A random model of (nearly) the given information; call it in double precision.

    The strength of the tilt is found by bisection in single precision; `Joint.information` is
    then exact for the strength found.

    Args:
        key: of the tilt.
        family: one of `FAMILIES`.
        vocabulary: V, words.
        feedbacks: M, values of f.
        information: aimed at, nats; below both log V and log M.
    """
    base, tilt = _ingredients(key, family, vocabulary, feedbacks)
    low, high = base.astype(jnp.float32), tilt.astype(jnp.float32)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        below, above = bounds
        middle = 0.5 * (below + above)
        more = joint_of(low + middle * high).information < information.astype(jnp.float32)
        return jnp.where(more, middle, below), jnp.where(more, above, middle)

    ends = jnp.float32(0.0), jnp.float32(_LARGEST_STRENGTH)
    below, above = jax.lax.fori_loop(0, _BISECTIONS, halve, ends)
    strength = (0.5 * (below + above)).astype(base.dtype)
    return joint_of(base + strength * tilt)


def _ingredients(
    key: Key[Array, ""], family: str, vocabulary: int, feedbacks: int
) -> tuple[Float[Array, " V"], Float[Array, "M V"]]:
    base = -_ZIPF * jnp.log1p(jnp.arange(vocabulary, dtype=jnp.float64))
    if family == "dense":
        return base, jax.random.normal(key, (feedbacks, vocabulary), jnp.float64)
    if family != "sparse":
        raise PGPOValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    # Two different words at least, or the feedback would say nothing.
    words = jax.random.categorical(key, base, shape=(feedbacks,)).at[:2].set(jnp.arange(2))
    return base, jax.nn.one_hot(words, vocabulary, dtype=jnp.float64)
