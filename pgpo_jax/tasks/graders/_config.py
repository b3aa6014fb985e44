import math
from dataclasses import dataclass
from typing import Literal, get_args

from pgpo_jax.errors import PGPOValueError

Units = Literal["required", "optional", "ignored", "convert"]


@dataclass(frozen=True)
class GraderConfig:
    """Settings of the grading of responses.

    Added in version 0.2.0.
    """

    name: str = "auto"
    """Name of the grader; `--grader NAME` is short for this. `auto` is the task's own grader, and
    `exact` for a file of questions. Others are `letter`, `option` (a letter in any form), `exact`,
    `numeric`, `math` (needs the extra `math`), `code` (needs `run_code`) and `tool_use`.
    `FILE.py:NAME` is a function of your own. `exact=0.8,FILE.py:NAME=0.2` is a weighted sum."""
    timeout: float = 10.0
    """Time limit for grading one response, in seconds."""
    relative_tolerance: float = 1e-6
    """`numeric`: relative tolerance, as a share of the right value."""
    absolute_tolerance: float = 0.0
    """`numeric`: absolute tolerance. The larger of both tolerances holds."""
    units: Units = "required"
    """`numeric`: rule if the right answer has a unit. `required`: the response must have the same
    unit. `optional`: it may leave the unit out. `ignored`: units do not count. `convert`: any unit
    that can be converted is right (needs the extra `math`)."""
    run_code: bool = False
    """`code`: run the programs that the model writes on this machine. The limits contain
    accidents, not attackers."""
    partial: bool = False
    """`code`: the score is the share of tests that pass, instead of all or nothing."""
    memory: int = 512
    """`code`: limit of a program's address space, in MiB."""
    file_size: int = 16
    """`code`: limit of a file or of the output that a program writes, in MiB."""
    workers: int = 2
    """`math`, `code`: number of responses that are graded at a time, each in its own process."""

    def __post_init__(self) -> None:
        for name in ("timeout", "memory", "file_size", "workers"):
            _require(self, name, "positive and finite", lambda value: 0 < value < math.inf)
        for name in ("relative_tolerance", "absolute_tolerance"):
            _require(self, name, "finite and not negative", lambda value: 0 <= value < math.inf)
        # With a larger tolerance no sign could be wrong, and zero would always be right.
        _require(self, "relative_tolerance", "less than 1", lambda value: value < 1)
        _require(self, "units", f"one of {get_args(Units)}", lambda v: v in get_args(Units))
        _require(self, "name", "the name of a grader, not empty", lambda value: bool(value.strip()))


def _require(config: GraderConfig, name: str, rule: str, holds) -> None:
    value = getattr(config, name)
    if not holds(value):
        raise PGPOValueError(f"GraderConfig.{name} must be {rule}, got {value!r}")
