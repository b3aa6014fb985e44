import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._overview import overview
from pgpo_jax.errors import PGPOFileExistsError
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from pgpo_jax.reports import write_run_report
from pgpo_jax.training import PRESETS, TrainConfig, train

_FOLDER = Path("runs/demo")
_METHODS = ("sdpo", "pgpo")
_OWN = frozenset({*_METHODS, "report.html"})


@dataclass(frozen=True)
class DemoCommand:
    """Trains SDPO and PGPO from the shipped model, on the same questions with the same seed.

    It prints a table and writes curves to report.html. It takes a few minutes on two cores.
    """

    output: Path | None = None
    """Folder for the two runs and the report. By default it is runs/demo, or runs/demo-2 and so on
    if that exists."""
    steps: int = 40
    """Optimizer steps of each run."""
    seed: int = 0
    """Seed of the questions and samples, the same for both runs."""
    alpha: float = 1.0
    """Alpha of PGPO, per nat. SDPO has 0."""
    overwrite: bool = False
    """Replace an earlier demo in the folder."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo demo`."""
    command = with_local_paths(parse(DemoCommand, "pgpo demo", argv))
    configs = {method: _config(command, method) for method in _METHODS}
    folder = claim(command.output, overwrite=command.overwrite)
    runs = {}
    for number, (method, config) in enumerate(configs.items(), 1):
        name = method.upper()
        print(
            f"[{number}/{len(configs)}] {name}: {config.steps} steps on {config.task}", flush=True
        )
        runs[name] = folder / method
        train(config, runs[name])
    page = write_run_report(
        runs, folder / "report.html", title="PGPO-JAX demo: SDPO and PGPO from the same start"
    )
    print(f"\n{overview(runs)}\n")
    print(
        "Accuracy is on held-out questions, with 95 % intervals over them. Two single runs do not\n"
        "tell which method is better: the spread between seeds is not in these intervals."
    )
    print(f"report: {printable_line(str(page))}")


def _config(command: DemoCommand, method: str) -> TrainConfig:
    base = PRESETS["tiny"]
    alpha = command.alpha if method == "pgpo" else 0.0
    return dataclasses.replace(
        base,
        steps=command.steps,
        seed=command.seed,
        information=dataclasses.replace(base.information, alpha=alpha),
    )


def claim(output: Path | None, *, overwrite: bool) -> Path:
    """A folder without an earlier demo in it.

    Args:
        output: the folder asked for, or `None` for the first free one of runs/demo, runs/demo-2, …
        overwrite: delete an earlier demo in it, but nothing else.

    Raises:
        FileExistsError: the folder holds something that must not be deleted.
    """
    folder = output or _FOLDER
    if output is None and not overwrite:
        number = 1
        while folder.exists():
            number += 1
            folder = _FOLDER.with_name(f"{_FOLDER.name}-{number}")
    if folder.is_dir():
        found = {entry.name for entry in folder.iterdir()}
        if found and not overwrite:
            raise PGPOFileExistsError(
                f"{folder} is not empty: pass --overwrite or another --output"
            )
        if found - _OWN:
            raise PGPOFileExistsError(
                f"{folder} holds more than a demo and is not overwritten: {sorted(found - _OWN)}"
            )
        for name in found:
            entry = folder / name
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    elif folder.exists():
        raise PGPOFileExistsError(f"{folder} is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
