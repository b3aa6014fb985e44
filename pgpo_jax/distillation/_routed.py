"""One loss: some responses learn by a policy gradient, others from the teacher (SRPO)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._categorical import entropy, finite, log_probs, token_log_probs
from pgpo_jax._multiplier import check_number
from pgpo_jax.distillation._policy import policy_loss
from pgpo_jax.distillation._taught_head import TokenLoss


def entropy_weights(
    teacher_logits: Float[Array, "*batch V"], beta: float | int = 1.0
) -> Float[Array, "*batch"]:
    """exp(-beta H(q)): a smaller weight where the teacher is uncertain.

    SRPO divides these weights by their mean over all distilled tokens.

    Args:
        teacher_logits: logits of the teacher, divided by the temperature.
        beta: beta, per nat. With 0 all weights are 1.

    Returns:
        A weight in (0, 1] per token; no gradient.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> logits = jnp.array([[0.0, 0.0], [0.0, -jnp.inf]])
    >>> pgpo.distillation.entropy_weights(logits).tolist()
    [0.5, 1.0]

    Added in version 0.2.0.
    """
    return jax.lax.stop_gradient(jnp.exp(-beta * entropy(log_probs(teacher_logits))))


def rebellious_weights(
    log_ratio: Float[Array, "*batch"],
    share: Float[Array, "*batch"] | float | int = 1.0,
    *,
    margin: float | int = 0.2,
    most: float | int = 2.0,
) -> Float[Array, "*batch"]:
    r"""A larger weight for words of a right response that the teacher did not expect (DRIFT).

    With d = log p(y) - log q(y) the weight is

    $$1 + s\,(\mathrm{clip}(e^{\max(d - m, 0)}, 1, M) - 1)$$

    Args:
        log_ratio: log q(y) - log p(y) of each token in nats, which is -d.
        share: strength s, in [0, 1].
        margin: margin m, nats.
        most: largest weight M, at least 1.

    Returns:
        A weight in [1, M] per token; no gradient.

    Raises:
        ValueError: a negative margin, or M below 1.

    References:
        DRIFT, https://arxiv.org/abs/2606.30345, pseudo-code of github.com/LianjiaTech/drift at
        d45aa0d. Its factor for a local decrease of both entropies is not published; it is 1 here.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> d = jnp.array([1.0, -0.2, -0.5, -9.0])
    >>> [round(float(x), 3) for x in pgpo.distillation.rebellious_weights(d, 0.5)]
    [1.0, 1.0, 1.175, 1.5]

    Added in version 0.2.0.
    """
    check_number("margin", margin, "a number >= 0", lambda x: x >= 0)
    check_number("most", most, "a number >= 1", lambda x: x >= 1)
    bonus = jnp.clip(jnp.exp(jnp.maximum(-log_ratio - margin, 0.0)), 1.0, most)
    return jax.lax.stop_gradient(1 + share * (bonus - 1))


def routed_loss(
    distance: Callable[[Array, Array, dict[str, Array]], Array],
    *,
    beta: float | int = 1.0,
    bonus: Callable[[Array, Array], Array] | None = None,
) -> TokenLoss:
    """A weighted divergence for distilled tokens and a policy loss for reinforced ones.

    Args:
        distance: the divergence of each token, as a `TokenLoss`.
        beta: beta of `entropy_weights`, per nat.
        bonus: function of log q(y) - log p(y) and `rebellious` of each token. It returns a further
            factor of the token's policy loss, such as `rebellious_weights`.

    Returns:
        A loss that reads three numbers of each token. `distil` multiplies its weighted divergence,
        `reinforce` multiplies its policy loss, and `advantages` is its advantage. With a bonus it
        also reads `rebellious`.

    References:
        SRPO, https://arxiv.org/abs/2604.02288 (v1); DRIFT, https://arxiv.org/abs/2606.30345.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> def distance(student, teacher, chunk):
    ...     return pgpo.distillation.divergence(student, teacher, support="full")
    >>> one, none = jnp.ones(1), jnp.zeros(1)
    >>> chunk = {"tokens": jnp.zeros(1, int), "advantages": 2 * one}
    >>> loss = pgpo.distillation.routed_loss(distance)
    >>> flat = jnp.zeros((1, 3))
    >>> loss(flat, flat, {**chunk, "distil": none, "reinforce": one}).tolist()
    [-2.0]

    Added in version 0.2.0.
    """

    def loss(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
        logprobs = token_log_probs(student, chunk["tokens"])
        policy = policy_loss(logprobs, jax.lax.stop_gradient(logprobs), chunk["advantages"])
        if bonus is not None:
            log_ratio = finite(token_log_probs(teacher, chunk["tokens"])) - finite(logprobs)
            policy = policy * bonus(log_ratio, chunk["rebellious"])
        taught = distance(student, teacher, chunk)
        if beta:
            taught = entropy_weights(teacher, beta) * taught
        return chunk["distil"] * taught + chunk["reinforce"] * policy

    return loss
