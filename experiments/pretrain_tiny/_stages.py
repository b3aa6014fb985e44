"""The curriculum. Each stage teaches one thing that the next one needs (see docs/tiny.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgpo_jax.tasks.synthetic import MAX_VALUE

# Every value of the tasks: 2, 3, ..., MAX_VALUE.
_ALL_VALUES = MAX_VALUE - 1


@dataclass(frozen=True)
class Stage:
    """Rows of some types until a goal is met.

    Attributes:
        name: for the log.
        rows: rows per step by type.
        steps: at most so many.
        options: of the rows, see `Corpus.batch`.
        watched: the row type that decides the end of the stage; None runs all steps.
        accuracy: running accuracy per weighted token at which to end.
        loss: running loss at which to end, nats per weighted token.
        annealed: whether the learning rate falls linearly to zero over the stage.
        warmup: steps over which the learning rate rises.
    """

    name: str
    rows: Mapping[str, int]
    steps: int
    options: Mapping[str, float] = field(default_factory=dict)
    watched: str | None = None
    accuracy: float = 2.0
    loss: float = -1.0
    annealed: bool = False
    warmup: int = 0

    def rate(self, step: int) -> float:
        """The learning rate relative to its peak."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = max(0.02, 1 - step / self.steps) if self.annealed else 1.0
        return rise * fall


LOOKUPS = "lookups"
CURRICULUM = (
    # Options and letters: joint training alone leaves the letter at chance.
    Stage(
        "2 options",
        {LOOKUPS: 64},
        300,
        {"values": 12, "choices": 2},
        watched=LOOKUPS,
        accuracy=0.97,
        warmup=20,
    ),
    Stage(
        "3 options",
        {LOOKUPS: 64},
        150,
        {"values": 40, "choices": 3},
        watched=LOOKUPS,
        accuracy=0.95,
    ),
    Stage(
        "4 options",
        {LOOKUPS: 64},
        250,
        {"values": _ALL_VALUES},
        watched=LOOKUPS,
        accuracy=0.97,
    ),
    # The same inside the full chat prompt.
    Stage(
        "chat",
        {"chat": 48, LOOKUPS: 16},
        100,
        {"values": _ALL_VALUES},
        watched="chat",
        accuracy=0.97,
    ),
    # Calculations are looked up in the question, not known by heart: their results are random.
    Stage(
        "tables",
        {"tables": 48, LOOKUPS: 16},
        300,
        {"values": _ALL_VALUES},
        watched="tables",
        accuracy=0.97,
    ),
    # Following a shown solution, right or wrong: does not emerge from the mix alone.
    Stage(
        "copying",
        {"aided": 32, LOOKUPS: 8, "tables": 8},
        300,
        {"values": _ALL_VALUES, "replaced": 0.8, "emphasis": 4.0},
        watched="aided",
        loss=0.08,
    ),
)
MIX = Stage(
    "mix",
    {"unaided": 32, "aided": 16, "tables": 8, LOOKUPS: 8},
    300,
    {"values": _ALL_VALUES, "deviating": 0.25},
    annealed=True,
)
