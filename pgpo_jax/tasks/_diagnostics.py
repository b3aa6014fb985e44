"""Statistics of responses other than the score: hesitation and pass@k."""

from collections.abc import Sequence
from math import comb

from pgpo_jax.errors import PGPOValueError

HESITATION_WORDS = (
    "wait",
    "hmm",
    "perhaps",
    "maybe",
    "actually",
    "alternatively",
    "seems",
    "might",
    "likely",
    "check",
)
"""Words of doubt, as Kim et al. count them (arXiv 2603.24472, code at 5c51051).

Added in version 0.2.0.
"""


def hesitation_count(text: str) -> int:
    """The number of `HESITATION_WORDS` in a response, in upper or lower case.

    Parts of words count too, as in the authors' code: "checkpoint" has a "check". Fewer of them
    mean a more certain style. The authors find that self-distillation leads to this style and that
    it costs accuracy on other questions.

    Args:
        text: a response.

    Returns:
        The count.

    >>> hesitation_count("Wait, the checkpoint seems likely; hmm, maybe.")
    6

    Added in version 0.2.0.
    """
    lower = text.lower()
    return sum(lower.count(word) for word in HESITATION_WORDS)


def pass_at_k(right: Sequence[int], samples: int, k: int) -> float:
    r"""The probability that one of k responses to a question is right, averaged over questions.

    If c of n responses to a question are right, the unbiased estimate is

    $$1 - \binom{n - c}{k} / \binom{n}{k}$$

    Args:
        right: number of right responses to each question, of `samples`.
        samples: number n of responses to each question.
        k: number k, at most n.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: no question, k outside [1, n], or a count outside [0, n].

    References:
        Chen et al., Evaluating Large Language Models Trained on Code, Eq. 1
        (https://arxiv.org/abs/2107.03374).

    >>> pass_at_k([0, 1, 4], 4, 1), pass_at_k([0, 1, 4], 4, 4)
    (0.4166666666666667, 0.6666666666666666)

    Added in version 0.2.0.
    """
    if not right:
        raise PGPOValueError("pass_at_k needs the right responses to a question, got none")
    if not 1 <= k <= samples:
        raise PGPOValueError(f"k must be at least 1 and at most samples = {samples}, got {k}")
    bad = [count for count in right if not 0 <= count <= samples]
    if bad:
        raise PGPOValueError(f"right must be counts in [0, samples = {samples}], got {bad[0]}")
    found = (1 - comb(samples - count, k) / comb(samples, k) for count in right)
    return sum(found) / len(right)
