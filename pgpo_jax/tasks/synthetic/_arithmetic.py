"""One-step calculations, and the rule that separates the splits."""

import functools
import hashlib
from typing import NamedTuple

from pgpo_jax.errors import PGPOValueError

MAX_VALUE = 120
"""The largest value in a question, an option or a solution. Each value is one token."""
_TEST_SHARE = 12  # One operand pair in this many belongs to the test split.


NAMES = {"+": "sum", "-": "difference", "*": "product", "/": "quotient"}
"""The name of each operator's result."""


class Calculation(NamedTuple):
    """`left op right`, with op one of + - * /.

    >>> Calculation(84, "/", 7).value, Calculation(84, "/", 7).name
    (12, 'quotient')
    """

    left: int
    op: str
    right: int

    @property
    def value(self) -> int | None:
        """The result; None if it is not a whole number."""
        match self.op:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right
            case "/":
                whole, rest = divmod(self.left, self.right)
                return whole if rest == 0 else None
        raise PGPOValueError(f"op must be one of + - * /, got {self.op!r}")

    @property
    def name(self) -> str:
        """The name of the result: sum, difference, product or quotient."""
        return NAMES[self.op]

    @property
    def family(self) -> tuple[tuple[int, int], ...]:
        """The operand pairs of the fact in all its forms: 6 * 7, 42 / 6 and 42 / 7.

        >>> Calculation(42, "/", 6).family
        ((6, 7), (6, 42), (7, 42))
        """
        value = self.value
        if value is None:
            return ()
        if self.op in "+*":
            small, large, whole = *sorted((self.left, self.right)), value
        else:
            small, large, whole = *sorted((self.right, value)), self.left
        return ((small, large), *(_ordered(part, whole) for part in (small, large)))


def _ordered(x: int, y: int) -> tuple[int, int]:
    return (x, y) if x <= y else (y, x)


@functools.cache
def operand_split(x: int, y: int) -> str:
    """The split of two operands, in either order and for any operation.

    A cryptographic hash decides, so that the split depends on the two numbers only.

    >>> operand_split(6, 7) == operand_split(7, 6)
    True
    """
    small, large = _ordered(x, y)
    digest = hashlib.blake2b(f"{small},{large}".encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % _TEST_SHARE == 0 else "train"


@functools.cache
def held_out(calculation: Calculation) -> bool:
    """Whether a calculation must not occur outside the test split.

    It must not if its operands, or those of another form of its fact, belong to the test split.
    With 84 / 7 in the test split, training sees neither 84 / 7, 84 - 7 nor 7 * 12.
    """
    return any(operand_split(x, y) == "test" for x, y in calculation.family)
