"""Questions on stress, strain and density."""

import itertools
from collections.abc import Iterable

from pgpo_jax.tasks.synthetic._arithmetic import MAX_VALUE
from pgpo_jax.tasks.synthetic._kind import (
    Kind,
    Operands,
    factor_pairs,
    minus,
    over,
    plus,
    ratio_pairs,
    times,
)


def _table() -> Iterable[Operands]:
    for tin, gold, volume in itertools.product(range(2, 25), range(2, 25), range(2, 25)):
        if tin != gold and tin * volume <= MAX_VALUE and gold * volume <= MAX_VALUE:
            yield tin, gold, volume


KINDS = (
    Kind(
        "stress",
        "A force of {a} N pulls a wire of {b} mm2. What stress in MPa?",
        ratio_pairs,
        lambda f, area: (over(f, area), minus(f, area), plus(f, area)),
    ),
    Kind(
        "strain",
        "A rod of {a} mm is {b} mm under load. Change in mm?",
        factor_pairs,
        lambda before, after: (minus(before, after), times(before, after), plus(before, after)),
    ),
    Kind(
        "density",
        "Table in g/cm3: tin {a}, gold {b}. What are {c} cm3 of gold in g?",
        _table,
        lambda _, gold, volume: (times(gold, volume), plus(gold, volume), minus(gold, volume)),
    ),
)
