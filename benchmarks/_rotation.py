"""Whose turn it is: the order of sides that are measured beside each other."""

from collections.abc import Iterator, Sequence


def rotation(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """The number of each round and the side whose turn it is.

    The order rotates, so that a busy moment of the machine hits all of them and none always follows
    the same neighbour.

    Args:
        names: of the sides.
        rounds: that count; one before them, number 0, does not.

    >>> list(rotation("ab", 1))
    [(0, 'a'), (0, 'b'), (1, 'b'), (1, 'a')]
    """
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            yield turn, name
