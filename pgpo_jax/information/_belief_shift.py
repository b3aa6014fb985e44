"""How far a context moves the belief in an answer, a score to select questions by."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pgpo_jax._multiplier import check_number
from pgpo_jax.information._js import js_gain_per_token


def belief_shift(
    without: Float[Array, "*batch answers"], within: Float[Array, "*batch answers"]
) -> Float[Array, "*batch"]:
    r"""How far a context shifts a model's belief in the answers to a question.

    $$B = \mathrm{JS}(p(a \mid x),\, p(a \mid x, c))$$

    B is the mutual information of the answer and a fair coin that decides whether the context is
    shown. `js_gain` is the same quantity for tokens. A large shift need not be toward the right
    answer.

    Args:
        without: log-probabilities or logits of the answers without the context.
        within: the same with the context.

    Returns:
        B of each question in nats, in [0, log 2].

    References:
        InFlow, arXiv 2609.36695. It distils the fifth of the questions with the largest B. We know
        it from a reader's note; we did not find the paper's code.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> sure = jnp.log(jnp.array([0.98, 0.01, 0.01]))
    >>> flat = jnp.zeros(3)
    >>> round(float(pgpo.information.belief_shift(flat, sure)), 3)
    0.276

    Added in version 0.2.0.
    """
    return js_gain_per_token(without, within)


def largest_share(
    scores: Float[Array, " questions"], share: float | int = 0.2
) -> Bool[Array, " questions"]:
    """Choose the questions with the largest scores; ties go to the earlier question.

    Args:
        scores: score of each question; NaN is never chosen.
        share: share of the questions to choose, in (0, 1], rounded up to whole questions.

    Returns:
        Whether each question is chosen.

    Raises:
        ValueError: a share outside its range.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> pgpo.information.largest_share(jnp.array([0.1, 0.5, 0.3]), 0.5).tolist()
    [False, True, True]

    Added in version 0.2.0.
    """
    check_number("share", share, "a number in (0, 1]", lambda x: (x > 0) & (x <= 1))
    known = ~jnp.isnan(scores)
    # Rounded first: .07 * 100 is 7.000000000000001.
    count = math.ceil(round(share * scores.shape[0], 9))
    order = jnp.argsort(jnp.where(known, -scores, jnp.inf), stable=True)
    place = jnp.zeros(scores.shape[0], int).at[order].set(jnp.arange(scores.shape[0]))
    return known & (place < count)
