"""A policy gradient whose advantages are log-ratios of teacher and student, held constant."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import finite, log_probs, token_log_probs
from pgpo_jax._multiplier import check_number
from pgpo_jax.distillation._divergence import check_divergence, on_support, tempered
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.errors import PGPOValueError


def check_advantage(support: str, floor: object = None) -> None:
    """Refuse an advantage that is not defined, before anything is computed."""
    if support == "topk_teacher_ce":
        raise PGPOValueError(
            "support='topk_teacher_ce' is a cross-entropy, which has no advantages; give "
            "'topk_teacher'."
        )
    if floor is None:
        return
    check_number("floor", floor, "a number < 0", lambda x: x < 0)
    if support != "sampled":
        raise PGPOValueError(
            f"floor bounds the advantage of the sampled token, so support must be 'sampled', got "
            f"{support!r}."
        )


def advantage_loss(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    *,
    support: str = "sampled",
    k: int = 16,
    tokens: Int[Array, "*batch"] | None = None,
    temperature: float | int = 1.0,
    floor: float | None = None,
    sharding: HeadSharding | None = None,
) -> Float[Array, "*batch"]:
    r"""The policy loss whose advantages are the teacher's log-ratios, at each token.

    $$\ell = -\sum_v r_v A_v,\qquad A_v = -w_v (\log p_v - \log q_v)$$

    The sum is over the words v of a support. A is a constant. The ratio r = p/p_old is 1 in value,
    and its gradient is that of log p_v. No clip is active at r = 1. For `"sampled"` the support is
    the sampled token y alone, and A = log q(y) - log p(y).

    On a normalised support (`"full"`, `"topk_tail"`, `"topk"`, `"topk_teacher"`) w is p. There the
    value is KL(p||q) and the gradient is its gradient. On the raw supports this does not hold.
    There w is p renormalised for `"topk_raw"` and p itself for `"topk_union"`, and log p and log q
    are those of the whole vocabulary.

    Args:
        student_logits: logits of the student, any float dtype; arithmetic in float32 or wider.
        teacher_logits: logits of the teacher at the same tokens; nothing is differentiated.
        support: `"sampled"`, or one of `on_support` but `"topk_teacher_ce"`.
        k: words kept by the top-k supports; at or above V they equal `"full"`.
        tokens: sampled tokens, needed by `"sampled"`.
        temperature: divides both logits first.
        floor: lower bound of the advantage of the sampled token, in nats; no bound if omitted.
        sharding: see `divergence`.

    Returns:
        The loss per token, to be minimised; it may have either sign.

    Raises:
        ValueError: an undefined combination, or a floor that is not below 0.

    References:
        `"sampled"`: https://github.com/thinking-machines-lab/tinker-cookbook (9dfcc3a2,
        distillation/train_on_policy.py). `"topk_raw"` and `"topk_union"`:
        https://github.com/thunlp/OPD (0a44395, core_algos.py). The paper of that code,
        https://arxiv.org/abs/2604.13016, prints another loss, the KL of renormalised distributions.
        That one is `divergence` with `support="topk"` and `teacher_weight=1`. The floor:
        https://arxiv.org/abs/2603.11137.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])).reshape(2, 1, 2)
    >>> loss = pgpo.distillation.advantage_loss(student, teacher, tokens=jnp.array([0]))
    >>> round(float(loss[0]), 4)  # log .5 - log .9
    -0.5878

    Added in version 0.2.0.
    """
    check_advantage(support, floor)
    check_divergence(1, support, k, tokens is not None, temperature)
    teacher_logits = jax.lax.stop_gradient(teacher_logits)
    if temperature != 1:
        student_logits = tempered(student_logits, temperature)
        teacher_logits = tempered(teacher_logits, temperature)
    if support == "sampled":
        assert tokens is not None
        log_p = token_log_probs(student_logits, tokens)[..., None]
        log_q = token_log_probs(teacher_logits, tokens)[..., None]
        weights = jnp.ones_like(log_p)
    else:
        log_p, log_q = on_support(student_logits, teacher_logits, support, k, sharding)
        weights = jnp.exp(log_probs(log_p) if support == "topk_raw" else log_p)
    log_p, log_q = finite(log_p), finite(log_q)
    advantages = weights * (log_q - log_p)
    if floor is not None:
        advantages = jnp.maximum(advantages, jnp.asarray(floor, advantages.dtype))
    ratio = jnp.exp(log_p - jax.lax.stop_gradient(log_p))
    return -jnp.sum(jax.lax.stop_gradient(advantages) * ratio, axis=-1)
