"""`pgpo train`: trains a model and writes a run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._defaults import expanded, starting_point
from pgpo_jax.cli._overview import overview
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from pgpo_jax.reports import write_run_report
from pgpo_jax.training import DistributedConfig, TrainConfig, connect, is_first, train

_FOLDER = Path("runs/train")


@dataclass(frozen=True)
class TrainCommand:
    """Post-trains a model on a task and writes a run folder.

    The folder holds configuration, metrics, TensorBoard events, checkpoints and report.html.

    `--preset` names the configuration to start from. Every other option changes a field of it. The
    default is `sft` for `pgpo sft`, which learns the responses in the data. For `pgpo train` it is
    `tiny` for the shipped model on synthetic questions, `tiny-file` for the shipped model on a
    file, and `paper-qwen3-8b` for any other model. `--resume` alone continues the run in the folder
    with its configuration. Only `--steps`, checkpoints, trackers, texts, selection and the mesh may
    then change.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    preset: str | None = None
    """One of tiny, tiny-file, sft, paper-qwen3-8b."""
    information_preset: str | None = None
    """`brake` (experimental) starts from the multiplier of `pgpo_jax.brake`, with alpha = 30 and
    rho_max = 1, which only shortens steps. `budget` (experimental) starts from
    `pgpo_jax.scale_by_information_budget` with c = .1. The flags `--information.*` change it."""
    output: Path = _FOLDER
    """The run folder. It must not hold a run unless `--resume` is given."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig.from_environment)
    resume: bool = False
    """Continue the run in the folder from its newest checkpoint."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo train`."""
    run(argv, "pgpo train")


def run(argv: Sequence[str], name: str, preset: str | None = None) -> None:
    """Train with the settings of the flags and write the report.

    Args:
        argv: the flags.
        name: name of the command, for its help.
        preset: preset to start from, unless the flags name one or resume a run. `None` means the
            one for the model and the task.
    """
    source, config = starting_point(argv, _FOLDER, preset)
    command = with_local_paths(
        parse(TrainCommand, name, expanded(argv), default=TrainCommand(config))
    )
    connect(command.distributed)
    if is_first():
        label, task = command.config.label, command.config.task
        print(printable_line(f"{label} on {task}, {source} -> {command.output}"))
    train(command.config, command.output, resume=command.resume)
    if not is_first():
        return
    runs = {command.config.label: command.output}
    page = write_run_report(runs, command.output / "report.html", title="A training run")
    print(overview(runs))
    print(f"report: {printable_line(str(page))}")
