"""Defines a kind of question and draws its problems."""

import functools
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pgpo_jax.tasks.synthetic._arithmetic import (
    MAX_VALUE,
    Calculation,
    held_out,
    operand_split,
)

_MIN_VALUE = 2
# Options closer than this would test exact arithmetic. The tasks test the method.
_GAP = 3
_OPTIONS = 4

Operands = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """One problem of a kind.

    Attributes:
        kind: name of the kind.
        domain: field of science.
        text: text of the question.
        methods: the right calculation first, then the two misconceptions.
        options: values of the options, in the order of their letters.
        table: the calculations of the methods as the question gives them, in random order.
    """

    kind: str
    domain: str
    text: str
    methods: tuple[Calculation, ...]
    options: tuple[int, ...]
    table: tuple[Calculation, ...] = ()

    @property
    def answer(self) -> int:
        """The value of the right method."""
        return self.values[0]

    @property
    def values(self) -> tuple[int, ...]:
        """The value of each method. All are different and among the options."""
        return tuple(_value(method) for method in self.methods)

    def letter(self, value: int) -> str:
        """The letter of the option with a value."""
        return "ABCD"[self.options.index(value)]


@dataclass(frozen=True)
class Kind:
    """A kind of question.

    Args:
        name: name that is unique among all kinds.
        text: text of the question, with `{a}`, `{b}`, `{c}` for the operands, each after a space.
        operands: all useful operand tuples. Tuples for which a method has no whole, distinct value
            in range are left out.
        methods: function from operands to calculations: the right one, then two misconceptions.
            Each uses another operation, because a question names its results after the operations.
    """

    name: str
    text: str
    operands: Callable[[], Iterable[Operands]]
    methods: Callable[..., tuple[Calculation, Calculation, Calculation]]

    @functools.cached_property
    def cases(self) -> dict[str, tuple[Operands, ...]]:
        """The operand tuples of each split. A few belong to neither split."""
        cases: dict[str, list[Operands]] = {"train": [], "test": []}
        for operands in self.operands():
            methods = self.methods(*operands)
            if not _usable(methods):
                continue
            right = methods[0]
            if operand_split(right.left, right.right) == "test":
                cases["test"].append(operands)
            elif not any(held_out(method) for method in methods):
                cases["train"].append(operands)
        return {split: tuple(found) for split, found in cases.items()}

    def draw(self, domain: str, split: str, rng: random.Random) -> Problem:
        """Draw a problem of the split.

        Args:
            domain: field of science.
            split: "train" or "test".
            rng: random generator of the operands, the fourth option and the order of options.

        Returns:
            The problem.
        """
        operands = rng.choice(self.cases[split])
        methods = self.methods(*operands)
        values = [_value(method) for method in methods]
        free = [
            value
            for value in range(_MIN_VALUE, MAX_VALUE + 1)
            if all(abs(value - taken) >= _GAP for taken in values)
        ]
        options = [*values, *rng.sample(free, _OPTIONS - len(values))]
        rng.shuffle(options)
        table = rng.sample(methods, len(methods))
        text = self.text.format(**dict(zip("abc", operands, strict=False)))
        return Problem(self.name, domain, text, methods, tuple(options), tuple(table))


def times(x: int, y: int) -> Calculation:
    """x * y."""
    return Calculation(x, "*", y)


def plus(x: int, y: int) -> Calculation:
    """x + y."""
    return Calculation(x, "+", y)


def minus(x: int, y: int) -> Calculation:
    """The larger minus the smaller."""
    return Calculation(max(x, y), "-", min(x, y))


def over(x: int, y: int) -> Calculation:
    """x / y."""
    return Calculation(x, "/", y)


def factor_pairs() -> Iterable[Operands]:
    """Pairs, in both orders, whose product is in range."""
    for x, y in itertools.product(range(2, MAX_VALUE // 2 + 1), repeat=2):
        if x * y <= MAX_VALUE:
            yield x, y


def ratio_pairs() -> Iterable[Operands]:
    """Pairs (dividend, divisor)."""
    for x, y in factor_pairs():
        yield x * y, y


def _value(method: Calculation) -> int:
    value = method.value
    assert value is not None, f"{method} has no whole value"
    return value


def _usable(methods: tuple[Calculation, ...]) -> bool:
    assert len({method.op for method in methods}) == len(methods), methods
    values = [method.value for method in methods]
    if not all(value is not None and _MIN_VALUE <= value <= MAX_VALUE for value in values):
        return False
    pairs = itertools.combinations([value for value in values if value is not None], 2)
    return all(abs(x - y) >= _GAP for x, y in pairs)
