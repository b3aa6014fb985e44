"""`pgpo demo`: SDPO and PGPO, or a run that collapses and the brake, with a report."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgpo_jax._brake import BRAKE_ALPHA
from pgpo_jax._printable import printable_line
from pgpo_jax.cli._overview import overview
from pgpo_jax.errors import PGPOFileExistsError
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from pgpo_jax.reports import write_run_report
from pgpo_jax.training import PRESETS, TrainConfig, train, with_information

_FOLDER = Path("runs/demo")
_METHODS = ("sdpo", "pgpo")
_COLLAPSING = ("sdpo", "brake")
_OWN = frozenset({*_METHODS, *_COLLAPSING, "report.html"})
_ALPHA = {"pgpo": 1.0, "brake": BRAKE_ALPHA}
_COLLAPSE_RATE = 3e-4
_COLLAPSE_EVERY = 5


@dataclass(frozen=True)
class DemoCommand:
    """Trains SDPO and PGPO from the shipped model, on the same questions with the same seed.

    It prints a table and writes curves to report.html. It takes a few minutes on two cores. With
    `--collapse` it trains where SDPO collapses, and the brake beside it.
    """

    output: Path | None = None
    """Folder for the two runs and the report. By default it is runs/demo, or runs/demo-2 and so on
    if that exists."""
    steps: int = 40
    """Optimizer steps of each run."""
    seed: int = 0
    """Seed of the questions and samples, the same for both runs."""
    alpha: float | None = None
    """Alpha of PGPO, per nat; by default 1, and 30 with `--collapse`. SDPO has 0."""
    collapse: bool = False
    """Train with a live teacher at twice the learning rate, where SDPO loses what it has learned.
    Beside it: the brake (experimental), which is PGPO with rho_max = 1 and a large alpha."""
    overwrite: bool = False
    """Replace an earlier demo in the folder."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo demo`."""
    command = with_local_paths(parse(DemoCommand, "pgpo demo", argv))
    methods = _COLLAPSING if command.collapse else _METHODS
    configs = {method: _config(command, method) for method in methods}
    folder = claim(command.output, overwrite=command.overwrite)
    runs = {}
    for number, (method, config) in enumerate(configs.items(), 1):
        name = method.upper()
        print(
            f"[{number}/{len(configs)}] {name}: {config.steps} steps on {config.task}", flush=True
        )
        runs[name] = folder / method
        train(config, runs[name])
    names = " and ".join(runs)
    page = write_run_report(
        runs, folder / "report.html", title=f"PGPO-JAX demo: {names} from the same start"
    )
    print(f"\n{overview(runs)}\n")
    print(
        "Accuracy is on held-out questions, with 95 % intervals over them. Two single runs do not\n"
        "tell which method is better: the spread between seeds is not in these intervals."
    )
    if command.collapse:
        print(
            "The study of the brake has 24 seeds and controls. By its rule it is undecided whether "
            "the\nbrake is better than shorter steps: `python -m experiments.brake --help`."
        )
    print(f"report: {printable_line(str(page))}")


def _config(command: DemoCommand, method: str) -> TrainConfig:
    base = PRESETS["tiny"]
    if command.collapse:
        base = dataclasses.replace(
            base,
            teacher=dataclasses.replace(base.teacher, kind="live"),
            optimizer=dataclasses.replace(base.optimizer, learning_rate=_COLLAPSE_RATE),
            evaluation=dataclasses.replace(base.evaluation, every=_COLLAPSE_EVERY),
        )
    if method == "brake":
        base = with_information(base, "brake")
    alpha = 0.0 if method == "sdpo" else _ALPHA[method] if command.alpha is None else command.alpha
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
