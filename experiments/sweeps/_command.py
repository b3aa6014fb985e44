"""The command line that all sweeps share."""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import tyro

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._results import Call
from experiments.sweeps._settings import TRAINING, Preset
from experiments.sweeps._sweep import Arm, Sweep
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.paths import with_local_paths

FREE = ("seeds", "first_seed", "jobs", "output", "report_only")
"""What may change when a sweep is continued: it changes no number of a run."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What every sweep has."""

    free: ClassVar[tuple[str, ...]] = FREE
    """Fields that may change when a sweep is continued."""

    preset: Preset = "cpu"
    """`smoke`: seconds, says nothing; `cpu`: what was run; `gpu`: a real model on one GPU
    (`paper`, in science_qa: the published configuration). Every other flag changes it."""
    seeds: int = 12
    """Runs per arm; may be raised to continue a sweep."""
    first_seed: int = 0
    """Seeds count from here: what was chosen on some seeds is to be tested on others."""
    jobs: int = 1
    """Processes, one per core. More of them may be started by hand on the same folder."""
    output: Path | None = None
    """The sweep's folder; by default results/<experiment>/<preset>. What it holds is continued."""
    report_only: bool = False
    """Train nothing; report the seeds at which all arms are finished."""
    margin: float = 0.02
    """The smallest difference in accuracy that matters."""
    training: ControlledConfig = TRAINING["cpu"]
    """What all arms start from."""

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise PGPOValueError(f"margin must be in (0, 1), got {self.margin}")


Config = TypeVar("Config", bound=SweepConfig)


def run_experiment(
    name: str,
    presets: Mapping[str, Config],
    arms: Callable[[Config], Sequence[Arm]],
    report: Callable[[Config, Sweep, Call], str],
    *,
    argv: Sequence[str] | None,
    description: str | None,
) -> int:
    """Reads the flags, trains what is missing, and reports.

    Args:
        name: of the experiment.
        presets: whole configurations.
        arms: makes the arms of a configuration.
        report: writes into the sweep's folder and returns the verdict.
        argv: the flags; by default those of the process.
        description: what was fixed in advance, for `--help` and the report.

    Returns:
        0, or 2 for a request that is refused.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        config = parse(presets, given, prog=f"python -m experiments.{name}", text=description)
        sweep = make_sweep(name, config, arms)
        if config.report_only:
            sweep.check_folder()
        else:
            sweep.run(config.jobs)
        command = shlex.join(["python", "-m", f"experiments.{name}", *_kept_flags(given)])
        print(report(config, sweep, Call(command, description or "")))
    except ValueError as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    print(f"report: {sweep.folder / 'report.html'}")
    return 0


def _kept_flags(given: Sequence[str]) -> list[str]:
    """The flags of a command that trains the same runs on any machine.

    Where its folder is, and that nothing was trained this time, is no part of it.

    >>> _kept_flags(["--preset", "cpu", "--output", "/home/me/runs", "--report-only"])
    ['--preset', 'cpu']
    """
    left = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    left.add_argument("--output")
    left.add_argument("--report-only", "--report_only", action="store_true")
    return left.parse_known_args(list(given))[1]


def make_sweep(name: str, config: SweepConfig, arms: Callable[[Any], Sequence[Arm]]) -> Sweep:
    """The sweep of a configuration, in its folder."""
    folder = config.output or Path("results") / name / config.preset
    return Sweep(folder, arms, config, config.seeds, config.free, config.first_seed)


def parse(
    presets: Mapping[str, Config], argv: Sequence[str], *, prog: str, text: str | None
) -> Config:
    """A preset with the flags' changes.

    Raises:
        ValueError: if there is no such preset.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default="cpu")
    name = first.parse_known_args(list(argv))[0].preset
    if name not in presets:
        raise PGPOValueError(f"--preset must be one of {', '.join(presets)}, got {name!r}")
    default = presets[name]
    return with_local_paths(
        tyro.cli(type(default), prog=prog, description=text, default=default, args=list(argv))
    )
