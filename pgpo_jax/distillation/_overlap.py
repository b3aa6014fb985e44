"""The overlap of the most likely words of student and teacher."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._categorical import finite, log_probs
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._most_likely import most_likely
from pgpo_jax.errors import PGPOValueError


class Overlap(NamedTuple):
    """Overlap of student and teacher at each token.

    Attributes:
        ratio: share of the student's k most likely words that are among the teacher's, in [0, 1].
        advantage: sum of p (log q - log p) over the common words, in nats, with p and q
            renormalised on them. It is at most 0, and 0 without common words.

    Added in version 0.2.0.
    """

    ratio: Float[Array, "*batch"]
    advantage: Float[Array, "*batch"]


def overlap(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    k: int,
    sharding: HeadSharding | None = None,
) -> Overlap:
    """The overlap of the k most likely words of student and teacher, at each token; no gradient.

    In a successful distillation the ratio rises, and the advantage rises toward 0.

    Args:
        student_logits: logits of the student, any float dtype; arithmetic in float32 or wider.
        teacher_logits: logits of the teacher at the same tokens.
        k: words of each model, at least 1. A k above V means V.
        sharding: see `divergence`.

    Returns:
        An `Overlap`.

    Raises:
        ValueError: k below 1.

    References:
        Rethinking On-Policy Distillation, https://arxiv.org/abs/2604.13016 (v2).

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]])[:, None]
    >>> pgpo.distillation.overlap(student, teacher, 2).ratio.tolist()
    [0.5]

    Added in version 0.2.0.
    """
    if k < 1:
        raise PGPOValueError(f"k must be at least 1, got {k!r}.")
    student_logits, teacher_logits = jax.lax.stop_gradient((student_logits, teacher_logits))
    k = min(k, student_logits.shape[-1])
    own, others = (most_likely(x, k, sharding) for x in (student_logits, teacher_logits))
    common = (own[..., :, None] == others[..., None, :]).any(-1)

    def on_common(logits: Float[Array, "*batch V"]) -> Float[Array, "*batch k"]:
        return log_probs(jnp.where(common, jnp.take_along_axis(logits, own, axis=-1), -jnp.inf))

    log_p, log_q = on_common(student_logits), on_common(teacher_logits)
    advantage = jnp.sum(jnp.exp(log_p) * (finite(log_q) - finite(log_p)), axis=-1)
    return Overlap(jnp.mean(common.astype(log_p.dtype), axis=-1), jnp.minimum(advantage, 0.0))
