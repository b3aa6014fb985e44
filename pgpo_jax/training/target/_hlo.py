"""Counts the bytes that a compiled program sends between devices, from its text."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from pgpo_jax.errors import PGPORuntimeError

KINDS: tuple[str, ...] = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64"), 8),
}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)(?=\s[a-z][\w\-]*\()|\S+) ([a-z][\w\-]*)\((.*)$"
)
_SHAPE = re.compile(rf"\b({'|'.join(_BYTES)})\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply|computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
        name: name of the instruction.
        shape: text of its type.
        kind: operation.
        rest: text of operands and attributes.
        computation: computation that contains it.
    """

    name: str
    shape: str
    kind: str
    rest: str
    computation: str


class Collective(NamedTuple):
    """A communication of a program.

    Attributes:
        kind: one of `KINDS`.
        bytes: bytes of its result on one device, each time.
        largest: bytes of the largest array among them, because compilers send several at once.
        times: number of times it runs. A loop of unknown length counts once.
        in_loop: whether it is in a loop of unknown length, such as that over tokens.
        shape: dtype of its result.

    Added in version 0.2.0.
    """

    kind: str
    bytes: int
    largest: int
    times: int
    in_loop: bool
    shape: str


class ProgramText:
    """An optimized program, parsed once.

    Args:
        text: `compiled.as_text()`.

    Raises:
        RuntimeError: the text is `None`.

    Added in version 0.2.0.
    """

    def __init__(self, text: str | None):
        if text is None:
            raise PGPORuntimeError("the compiler does not show the program that it made")
        self.instructions: list[Instruction] = []
        computation = ""
        for line in text.splitlines():
            if match := _COMPUTATION.match(line):
                computation = match[1]
            elif match := _INSTRUCTION.match(line):
                name, shape, kind, rest = match.groups()
                self.instructions.append(Instruction(name, shape, kind, rest, computation))
        self._constants = defaultdict(list)
        for one in self.instructions:
            number = one.rest.split(")")[0]
            if one.kind == "constant" and one.shape.startswith("s32[]") and number.isdigit():
                self._constants[one.computation].append(int(number))
        # By computation: its caller, and how often it is called each time (0: unknown).
        self._callers: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for one in self.instructions:
            called = _CALLED.findall(one.rest)
            for group in _BRANCHES.findall(one.rest):
                called += re.findall(r"%?([\w.\-]+)", group)
            trips = self._trips(one) if one.kind == "while" else 1
            for name in called:
                self._callers[name].append((one.computation, trips))
        self._known: dict[str, tuple[int, bool]] = {}

    def _trips(self, loop: Instruction) -> int:
        if known := _TRIPS.search(loop.rest):
            return int(known[1])
        # The TPU's compiler does not state the count. Its counted loops compare with one constant.
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        numbers = self._constants[condition[1]] if condition else []
        return numbers[0] if len(numbers) == 1 else 0

    def runs(self, computation: str) -> tuple[int, bool]:
        """How often a computation runs, and whether a loop of unknown length is around it."""
        if computation not in self._known:
            self._known[computation] = (1, False)  # Recursion does not occur in HLO.
            callers = self._callers.get(computation)
            if callers:
                found = [(self.runs(name), trips) for name, trips in callers]
                times = sum(outer * (trips or 1) for (outer, _), trips in found)
                unknown = any(inside or not trips for (_, inside), trips in found)
                self._known[computation] = (times, unknown)
        return self._known[computation]

    def collectives(self) -> list[Collective]:
        """All collectives, those with the largest sums first."""
        found = []
        for one in self.instructions:
            kind = one.kind.removesuffix("-start")
            if kind in KINDS:
                shapes = _SHAPE.findall(one.shape)
                if one.kind.endswith("-start") and kind != "all-reduce":
                    # Operands, equally many results, and counters of the transfer.
                    shapes = [shape for shape in shapes if shape != ("u32", "")]
                    shapes = shapes[len(shapes) // 2 :]
                sizes = [array_bytes(*shape) for shape in shapes]
                runs = self.runs(one.computation)
                found.append(Collective(kind, sum(sizes), max(sizes), *runs, one.shape))
        return sorted(found, key=lambda one: one.bytes * one.times, reverse=True)

    def copies(self, least: int) -> int:
        """The number of instructions that copy an array of at least so many bytes.

        Prefetches of a TPU into its fast memory (`S(1)`), and back, do not count.
        """
        shapes = {(one.computation, one.name): one.shape for one in self.instructions}

        def counts(one: Instruction) -> bool:
            if one.kind not in ("copy", "copy-start", "transpose"):
                return False
            operand = re.match(r"%?([\w.\-]+)", one.rest)
            source = shapes.get((one.computation, operand[1]), "") if operand else ""
            if "S(1)" in one.shape or "S(1)" in source:
                return False
            return sum(array_bytes(*shape) for shape in _SHAPE.findall(one.shape)[:1]) >= least

        return sum(map(counts, self.instructions))


def array_bytes(dtype: str, sizes: str) -> int:
    """Bytes of an array, from the name of its type and the sizes in brackets.

    >>> array_bytes("bf16", "36,128")
    9216
    """
    return _BYTES[dtype] * math.prod(int(size) for size in sizes.split(",") if size)
