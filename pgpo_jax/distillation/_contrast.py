"""Advantages that a teacher moves where a right hint and wrong hints disagree (RLCSD)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax._multiplier import check_number


class Contrasted(NamedTuple):
    """Result of `contrasted_advantages`.

    Attributes:
        advantages: A' of each token.
        selected: the tokens whose advantage was moved.

    >>> import jax.numpy as jnp
    >>> found = contrasted_advantages(jnp.array([1.0]), jnp.array([0.5]))
    >>> type(found).__name__, found.selected.tolist()
    ('Contrasted', [True])

    Added in version 0.2.0.
    """

    advantages: Float[Array, "*batch"]
    selected: Bool[Array, "*batch"]


def hint_contrast(
    right: Float[Array, "B T"], wrong: Float[Array, "K B T"], count: Int[Array, " B"]
) -> Float[Array, "B T"]:
    r"""How much likelier a token is behind a right hint than behind wrong ones.

    $$e = \log q_+(y) - \log \frac{1}{K} \sum_{k=1}^K q_{-,k}(y)$$

    Both sides are the same teacher behind prompts of the same words, so that what any hint does to
    the style of an answer cancels.

    Args:
        right: log-probabilities of the tokens behind the right hint, nats.
        wrong: the same behind each of K wrong hints.
        count: how many of them each sequence has, from 1 to K; those behind are not read.

    Returns:
        e of each token, nats; no gradient.

    References:
        RLCSD, https://arxiv.org/abs/2606.11709.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> right, wrong = jnp.log(jnp.full((1, 1), 0.4)), jnp.log(jnp.array([[[0.1]], [[0.3]]]))
    >>> for count in (1, 2):
    ...     e = pgpo.distillation.hint_contrast(right, wrong, jnp.array([count]))
    ...     print(round(float(jnp.exp(e[0, 0])), 4))
    4.0
    2.0

    Added in version 0.2.0.
    """
    there = (
        jnp.arange(wrong.shape[0], dtype=jnp.int32)[:, None, None]
        < count.astype(jnp.int32)[:, None]
    )
    mixture = jax.nn.logsumexp(jnp.where(there, wrong, -jnp.inf), axis=0)
    mean = mixture - jnp.log(count.astype(wrong.dtype))[:, None]
    return jax.lax.stop_gradient(right - mean)


def contrasted_advantages(
    advantages: Float[Array, "*batch"],
    contrast: Float[Array, "*batch"],
    *,
    scale: float | int = 0.5,
    temperature: float | int = 0.02,
    clip: float | int = 2.0,
    threshold: float | int = 0.02,
) -> Contrasted:
    r"""Advantages moved by the contrast of hints, but not beyond 0.

    With r = clip(scale * tanh(e / temperature), -clip, clip), the advantage of a token is A + r
    where the size of r is above the threshold, and A elsewhere. Where A + r has not the sign of A
    it is 0: the reward decides the direction, the teacher the size.

    Args:
        advantages: A of each token.
        contrast: e of each token, nats; see `hint_contrast`.
        scale: largest move; beta times lambda in the authors' settings.
        temperature: nats; a contrast that is large beside it moves by the whole scale.
        clip: bound of a move.
        threshold: a move of this size or less is left out.

    Returns:
        The advantages, which have no gradient, and which tokens were moved.

    Raises:
        ValueError: a scale, clip or threshold that is negative, a temperature that is not positive,
            or one of them that is not finite.

    References:
        RLCSD, https://arxiv.org/abs/2606.11709; github.com/THU-BPM/RLCSD at 7eeff3c.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> a, e = jnp.array([1.0, 1.0, -0.3, -1.0]), jnp.array([1.0, -1.0, 1.0, 0.0])
    >>> out = pgpo.distillation.contrasted_advantages(a, e)
    >>> out.advantages.tolist(), out.selected.tolist()
    ([1.5, 0.5, 0.0, -1.0], [True, True, True, False])

    Added in version 0.2.0.
    """
    for name, value in (("scale", scale), ("clip", clip), ("threshold", threshold)):
        check_number(name, value, "a number >= 0 and finite", lambda x: (x >= 0) & (x < jnp.inf))
    check_number(
        "temperature",
        temperature,
        "a number > 0 and finite, in nats",
        lambda x: (x > 0) & (x < jnp.inf),
    )
    move = jnp.clip(scale * jnp.tanh(contrast / temperature), -clip, clip)
    selected = jnp.abs(move) > threshold
    moved = advantages + jnp.where(selected, move, 0.0)
    kept = jnp.where(advantages > 0, jnp.maximum(moved, 0.0), jnp.minimum(moved, 0.0))
    return Contrasted(
        jax.lax.stop_gradient(jnp.where(advantages == 0, 0.0, kept)),
        jax.lax.stop_gradient(selected),
    )
