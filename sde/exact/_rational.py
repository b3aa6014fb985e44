"""Moments of SGD on the quadratic problem in rational arithmetic: no rounding at all."""

import itertools
import math
from fractions import Fraction

from pgpo_jax.errors import PGPOValueError
from sde._minibatches import check_batch
from sde.problems import Quadratic


def rational_moments(
    problem: Quadratic,
    *,
    eta: Fraction | float,
    steps: int,
    degree: int = 2,
    batch_size: int = 1,
    replace: bool = True,
) -> tuple[Fraction, ...]:
    r"""$E\,\theta_K^p$ for p = 0..degree, exactly.

    SGD on $\frac12 a_n(\theta - c_n)^2$ is $\theta' = (1 - \eta a_B)\theta + \eta (ac)_B$, so that
    $E\theta'^p = \sum_j \binom pj E[(1-\eta a_B)^j (\eta (ac)_B)^{p-j}]\,E\theta^j$. The problem's
    floats and eta are taken for the rationals that they are.

    Args:
        problem: the quadratic.
        eta: step size.
        steps: K.
        degree: largest power.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Returns:
        `degree + 1` fractions.

    Raises:
        ValueError: fewer than one step, or a negative degree.

    >>> from fractions import Fraction
    >>> from sde.problems import Quadratic
    >>> rational_moments(Quadratic(), eta=Fraction(1, 8), steps=8, degree=1)[1]
    Fraction(3225738019513, 8796093022208)
    """
    check_batch(problem.num_examples, batch_size, replace)
    if steps < 1 or degree < 0:
        raise PGPOValueError(f"steps must be >= 1 and degree >= 0, got {steps!r}, {degree!r}")
    eta = Fraction(eta)
    a = [Fraction(v) for v in problem.curvatures]
    ac = [x * Fraction(c) for x, c in zip(a, problem.centres, strict=True)]
    if replace:
        batches = itertools.product(range(len(a)), repeat=batch_size)
    else:
        batches = itertools.combinations(range(len(a)), batch_size)
    maps = []
    for batch in batches:
        slope = 1 - eta * sum(a[n] for n in batch) / batch_size
        maps.append((slope, eta * sum(ac[n] for n in batch) / batch_size))
    mix = [
        [
            math.comb(p, j) * sum(s**j * t ** (p - j) for s, t in maps) / len(maps)
            for j in range(p + 1)
        ]
        for p in range(degree + 1)
    ]
    start = Fraction(problem.theta0[0])
    moments = [start**p for p in range(degree + 1)]
    for _ in range(steps):
        moments = [sum(w * moments[j] for j, w in enumerate(row)) for row in mix]
    return tuple(Fraction(m) for m in moments)
