"""Questions on base composition, codons and inheritance. They contain every constant."""

from collections.abc import Iterable

from pgpo_jax.tasks.synthetic._arithmetic import MAX_VALUE
from pgpo_jax.tasks.synthetic._kind import Kind, Operands, minus, over, plus


def _shares() -> Iterable[Operands]:
    for both in range(30, 62, 2):
        for share in range(4, both - 3):
            yield both, share


def _reads() -> Iterable[Operands]:
    for step in (2, 3, 4, 5):
        for length in range(4 * step, MAX_VALUE, step):
            yield length, step


def _crosses() -> Iterable[Operands]:
    for parts in (4, 8, 16):
        for young in range(2 * parts, MAX_VALUE + 1, parts):
            yield young, parts


KINDS = (
    Kind(
        "base pairs",
        "A and G make {a} % of a strand, G alone {b} %. What % is A?",
        _shares,
        lambda both, share: (minus(both, share), over(both, 2), plus(both, share)),
    ),
    Kind(
        "codons",
        "A gene of {a} bases is read {b} at a time. How many codons?",
        _reads,
        lambda length, step: (over(length, step), minus(length, step), plus(length, step)),
    ),
    Kind(
        "Punnett",
        "In a cross one in {b} of {a} young is aa. How many are aa?",
        _crosses,
        lambda young, parts: (over(young, parts), plus(young, parts), minus(young, parts)),
    ),
)
