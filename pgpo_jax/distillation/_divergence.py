"""Divergence of student and teacher per token, on the supports that published methods use."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import (
    finite,
    log_normalizer,
    log_probs,
    mixture_divergence,
    token_log_probs,
)
from pgpo_jax._multiplier import check_number
from pgpo_jax._precision import at_least_float32
from pgpo_jax._reduce import check_choice
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._most_likely import most_likely
from pgpo_jax.errors import PGPOValueError

Support = Literal[
    "full",
    "topk_tail",
    "topk",
    "topk_raw",
    "topk_union",
    "topk_teacher",
    "topk_teacher_ce",
    "sampled",
]
# These supports say nothing about the words that they leave out, so their sums may be negative.
RAW = ("topk_raw", "topk_union")

# Smallest tail probability. A smaller float32 tail is rounding error only.
_LEAST_TAIL = 1e-7


def check_temperature(temperature: float | int) -> None:
    """Refuse a temperature that is not positive and finite."""
    if not 0 < temperature < float("inf"):
        raise PGPOValueError(f"temperature must be a finite number > 0, got {temperature!r}.")


def check_divergence(
    teacher_weight: float | int,
    support: str,
    k: int,
    has_tokens: bool,
    temperature: float | int,
    entry_clip: float | int | None = None,
) -> None:
    """Refuse a divergence that is not defined, before anything is computed."""
    check_choice("support", support, get_args(Support))
    if not 0 <= teacher_weight <= 1:
        raise PGPOValueError(f"teacher_weight must be in [0, 1], got {teacher_weight!r}.")
    check_temperature(temperature)
    if support.startswith("topk") and k < 1:
        raise PGPOValueError(f"k must be at least 1 for support={support!r}, got {k!r}.")
    if support == "sampled" and teacher_weight != 1:
        raise PGPOValueError(
            f"support='sampled' estimates KL(student||teacher), so teacher_weight must be 1, "
            f"got {teacher_weight!r}."
        )
    if support == "sampled" and not has_tokens:
        raise PGPOValueError("support='sampled' needs the sampled `tokens`, got None.")
    if support == "topk_teacher_ce" and teacher_weight != 0:
        raise PGPOValueError(
            "support='topk_teacher_ce' is a cross-entropy under the teacher, so teacher_weight "
            f"must be 0, got {teacher_weight!r}."
        )
    if entry_clip is not None and support in ("sampled", "topk_teacher_ce"):
        raise PGPOValueError(
            f"entry_clip cuts the entries of a divergence, so support={support!r} takes none, "
            f"got {entry_clip!r}."
        )
    if entry_clip is not None:
        check_number("entry_clip", entry_clip, "a number > 0", lambda x: x > 0)


def tempered(
    logits: Float[Array, "*batch V"], temperature: float | int
) -> Float[Array, "*batch V"]:
    """Logits divided by the temperature, in at least float32."""
    return logits.astype(at_least_float32(logits.dtype)) / temperature


def _with_tail(log_p: Float[Array, "*batch k"]) -> Float[Array, "*batch k+1"]:
    """Append the log of the remaining probability."""
    left = 1 - jnp.sum(jnp.exp(log_p), axis=-1, keepdims=True)
    tail = jnp.log(jnp.maximum(left, -jnp.expm1(jnp.asarray(-_LEAST_TAIL, log_p.dtype))))
    return jnp.concatenate([log_p, tail], axis=-1)


def on_support(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    support: str,
    k: int,
    sharding: HeadSharding | None = None,
) -> tuple[Float[Array, "*batch C"], Float[Array, "*batch C"]]:
    """Log-probabilities of student and teacher on the words that `divergence` compares.

    Args:
        student_logits: logits of the student, any float dtype.
        teacher_logits: logits of the teacher at the same tokens.
        support: the words that are compared.
            `"full"`: the whole vocabulary.
            `"topk_tail"`: the student's k most likely words, then one column with the rest.
            `"topk"`: the student's k most likely words, renormalised.
            `"topk_teacher"`: the teacher's k most likely words, renormalised.
            `"topk_teacher_ce"`: the same words, with the teacher alone renormalised.
            `"topk_raw"`: the student's k most likely words, not renormalised.
            `"topk_union"`: those and the teacher's, not renormalised.
        k: words kept by the top-k supports; at or above V they equal `"full"`.
        sharding: how the logits are cut over a mesh.

    Returns:
        Two arrays in nats, in float32 or wider; C is V, k + 1, k or 2 k. Of equally likely words
        the one with the lowest index is kept. In the union a shared word counts once: its second
        place has probability 0 in both arrays.

    Raises:
        ValueError: unknown support, or k below 1.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    >>> p, q = pgpo.distillation.on_support(student, teacher, "topk_tail", 1)
    >>> [round(float(x), 2) for x in jnp.exp(q)]
    [0.1, 0.9]

    Added in version 0.2.0.
    """
    check_choice("support", support, tuple(x for x in get_args(Support) if x != "sampled"))
    if k < 1 and support != "full":
        raise PGPOValueError(f"k must be at least 1 for support={support!r}, got {k!r}.")
    if support == "full" or k >= student_logits.shape[-1]:
        return log_probs(student_logits), log_probs(teacher_logits)
    by_teacher = support.startswith("topk_teacher")
    indices = most_likely(teacher_logits if by_teacher else student_logits, k, sharding)
    once = None
    if support == "topk_union":
        of_teacher = most_likely(teacher_logits, k, sharding)
        again = (of_teacher[..., :, None] == indices[..., None, :]).any(-1)
        once = ~jnp.concatenate([jnp.zeros_like(again), again], axis=-1)
        indices = jnp.concatenate([indices, of_teacher], axis=-1)

    def gathered(logits: Float[Array, "*batch V"]) -> Float[Array, "*batch k"]:
        # Gathering before normalising avoids a second array over the vocabulary.
        chosen = jnp.take_along_axis(logits, indices, axis=-1)
        return chosen.astype(at_least_float32(logits.dtype)) - log_normalizer(logits)

    student, teacher = gathered(student_logits), gathered(teacher_logits)
    if support == "topk_raw":
        return student, teacher
    if once is not None:
        return jnp.where(once, student, -jnp.inf), jnp.where(once, teacher, -jnp.inf)
    if support == "topk_tail":
        return _with_tail(student), _with_tail(teacher)
    return student if support == "topk_teacher_ce" else log_probs(student), log_probs(teacher)


def divergence(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    *,
    teacher_weight: float | int = 0.5,
    support: str = "topk_tail",
    k: int = 100,
    tokens: Int[Array, "*batch"] | None = None,
    temperature: float | int = 1.0,
    entry_clip: float | int | None = None,
    sharding: HeadSharding | None = None,
) -> Float[Array, "*batch"]:
    r"""Divergence of student p and teacher q at each token, in nats.

    $$(1-w)\,\mathrm{KL}(p \| m) + w\,\mathrm{KL}(q \| m),\qquad m = (1-w)\,p + w\,q$$

    This holds for 0 < w < 1. At the ends w=0 is KL(q||p), with the teacher first, and w=1 is
    KL(p||q). The formula itself vanishes at both ends, so the value jumps there. The teacher has no
    gradient.

    Args:
        student_logits: logits of the student, any float dtype; arithmetic in float32 or wider.
        teacher_logits: logits of the teacher at the same tokens.
        teacher_weight: w, a Python number in [0, 1].
        support: the words that are compared.
            `"full"`: the whole vocabulary.
            `"topk_tail"`: the student's k most likely words plus one bucket for the rest (SDPO's
            default).
            `"topk"`: the student's k most likely words, renormalised.
            `"topk_teacher"`: the teacher's k most likely words, renormalised.
            `"topk_teacher_ce"`: the cross-entropy -sum q log p over those words, with q
            renormalised and p not (w=0 only).
            `"sampled"`: the surrogate sg(log p - log q) log p at the sampled token (w=1 only). Its
            gradient estimates that of KL(p||q); its value is no divergence.
            `"topk_raw"`: the sum over the student's k most likely words, not renormalised.
            `"topk_union"`: the same sum over those and the teacher's.
        k: words kept by the top-k supports; at or above V they equal `"full"`.
        tokens: sampled tokens, needed by `"sampled"`.
        temperature: divides both logits first.
        entry_clip: upper bound of each word's term of the sum, in nats (OPSD's point-wise clip); no
            bound if omitted. For w=0 the term is q log(q/p). The clipped sum may be negative, and
            its gradient may lead away from the teacher.
        sharding: how the logits are cut over a mesh. If omitted, the top-k supports expect the
            vocabulary on axes called `tensor`, `model` or `tp`.

    Returns:
        Divergence per token. It is not negative, except for `"sampled"`, `"topk_raw"`,
        `"topk_union"` and with `entry_clip`. The gradient of the raw sums also moves probability
        out of their words, because the probability of other words costs nothing.

    Raises:
        ValueError: an undefined combination.

    References:
        SDPO, https://github.com/lasgroup/SDPO (commit 0e6d510), the loss of PGPO's Eq. 2 as run;
        the clip is that of OPSD, https://arxiv.org/abs/2601.18734 (v3); the raw sums are those of
        OPCD, https://arxiv.org/abs/2602.12275 (github.com/microsoft/LMOps, opcd).

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.9, 0.1]]))
    >>> loss = pgpo.distillation.divergence(student, teacher, teacher_weight=0, support="full")
    >>> round(float(loss[0]), 4)  # 0.9 log 1.8 + 0.1 log 0.2
    0.3681
    """
    check_divergence(teacher_weight, support, k, tokens is not None, temperature, entry_clip)
    teacher_logits = jax.lax.stop_gradient(teacher_logits)
    if temperature != 1:
        student_logits = tempered(student_logits, temperature)
        teacher_logits = tempered(teacher_logits, temperature)
    if support == "sampled":
        assert tokens is not None
        log_p = finite(token_log_probs(student_logits, tokens))
        log_q = finite(token_log_probs(teacher_logits, tokens))
        return jax.lax.stop_gradient(log_p - log_q) * log_p
    log_p, log_q = on_support(student_logits, teacher_logits, support, k, sharding)
    if support == "topk_teacher_ce":
        return -jnp.sum(jnp.exp(log_q) * finite(log_p), axis=-1)
    if support in RAW and entry_clip is None:
        # Nothing is clipped here, and neither is the value at 0.
        entry_clip = float("inf")
    return mixture_divergence(log_p, log_q, teacher_weight, entry_clip)
