import math
from dataclasses import dataclass
from typing import Literal, get_args

from pgpo_jax.errors import PGPOValueError

Units = Literal["required", "optional", "ignored", "convert"]


@dataclass(frozen=True)
class GraderConfig:
    """How responses are graded.

    Added in version 0.2.0.
    """

    name: str = "auto"
    """`--grader NAME` is short for this. `auto`: the task's own grader, `exact` for a file of
    questions; `letter`, `option` (a letter in whatever form), `exact`, `numeric`, `math` (needs the
    extra `math`), `code` (needs `run_code`), `tool_use`; a function of yours, `FILE.py:NAME`; or
    several with weights, `exact=0.8,FILE.py:NAME=0.2`."""
    timeout: float = 10.0
    """Seconds that the grading of one response may take."""
    relative_tolerance: float = 1e-6
    """`numeric`: share of the right value by which a number may be off."""
    absolute_tolerance: float = 0.0
    """`numeric`: distance by which a number may be off, if that is more."""
    units: Units = "required"
    """`numeric`: what counts if the right answer has a unit. `required`: the same unit must be
    there; `optional`: it may be left out; `ignored`: units are not looked at; `convert`: any unit
    that can be converted (needs the extra `math`)."""
    run_code: bool = False
    """`code`: run the programs that the model writes on this machine. The limits contain
    accidents, not attackers."""
    partial: bool = False
    """`code`: score the share of the tests that pass, not all or nothing."""
    memory: int = 512
    """`code`: address space of a program, in MiB."""
    file_size: int = 16
    """`code`: the longest file or output that a program may write, in MiB."""
    workers: int = 2
    """`math`, `code`: responses that are graded at a time, each in a process of its own."""

    def __post_init__(self) -> None:
        for name in ("timeout", "memory", "file_size", "workers"):
            _require(self, name, "positive and finite", lambda value: 0 < value < math.inf)
        for name in ("relative_tolerance", "absolute_tolerance"):
            _require(self, name, "finite and not negative", lambda value: 0 <= value < math.inf)
        # A sign could not be wrong, and zero would be a right answer to everything.
        _require(self, "relative_tolerance", "less than 1", lambda value: value < 1)
        _require(self, "units", f"one of {get_args(Units)}", lambda v: v in get_args(Units))
        _require(self, "name", "the name of a grader, not empty", lambda value: bool(value.strip()))


def _require(config: GraderConfig, name: str, rule: str, holds) -> None:
    value = getattr(config, name)
    if not holds(value):
        raise PGPOValueError(f"GraderConfig.{name} must be {rule}, got {value!r}")
