"""Draws the runs of SDPO and of the brake side by side: `python -m experiments.brake_figure`.

It writes `docs/figures/brake.svg` from the finished runs of `experiments.brake` in the setting
`live`. They are in `experiments/unfinished/brake.tar.xz`. `--runs results/brake/runs` takes a
folder instead.

A thin line is a run. The thick lines are one seed, which a rule chooses: its difference in area
is the (upper) median of all seeds. The area is the mean held-out accuracy after the start.
"""

import argparse
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.sweeps import Records, collapse_step, first_negative
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import RunRecord, read_run

_HERE = Path(__file__).parent
ARCHIVE = _HERE / "unfinished" / "brake.tar.xz"
FIGURE = _HERE.parent / "docs" / "figures" / "brake.svg"
PANELS = {"sdpo": ("SDPO", "#c2410c"), "brake": ("SDPO with the brake", "#0064b0")}
"""Title and colour of each arm."""
_SETTING = "live"
# The same runs give the same bytes: ids without chance, text as text.
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "brake",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    # White behind all of it, so that it is as legible on a dark page.
    "savefig.facecolor": "white",
}


def paired_runs(folder: Path) -> Records:
    """The finished runs of both arms at the seeds that both have, in the order of the seeds.

    Args:
        folder: `runs/` of a sweep of `experiments.brake`.

    Raises:
        ValueError: if no seed has both.
    """
    arms = {arm: folder / f"{_SETTING}-{arm}" for arm in PANELS}
    seeds = [{path.parent.name for path in arms[arm].glob("*/done.json")} for arm in arms]
    common = sorted(set.intersection(*seeds))
    if not common:
        raise PGPOValueError(
            f"{folder} must have a seed with finished runs of "
            f"{' and '.join(path.name for path in arms.values())}, has none"
        )
    return {arm: [read_run(path / seed) for seed in common] for arm, path in arms.items()}


def middle(records: Records) -> int:
    """The place of the seed whose difference in area is the upper median."""
    areas = {
        arm: np.array([np.mean(_accuracies(run)[1:]) for run in records[arm]]) for arm in PANELS
    }
    order = np.argsort(areas["brake"] - areas["sdpo"], kind="stable")
    return int(order[len(order) // 2])


def figure(records: Records) -> Figure:
    """Held-out accuracy over the steps, one panel an arm."""
    chosen = middle(records)
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(7.6, 2.9), layout="constrained")
        axes = drawn.subplots(1, len(PANELS), sharey=True)
        for panel, (arm, (name, colour)) in zip(axes, PANELS.items(), strict=True):
            runs = records[arm]
            for run in runs:
                panel.plot(_steps(run), _accuracies(run), color=colour, alpha=0.35, linewidth=0.8)
            thick = runs[chosen]
            panel.plot(_steps(thick), _accuracies(thick), color=colour, linewidth=2.6)
            fallen = sum(collapse_step(run) is not None for run in runs)
            panel.set_title(f"{name}: {fallen} of {len(runs)} runs collapse")
            panel.set_xlabel("optimizer step")
            panel.set_ylim(-0.02, 1.02)
            alarm = first_negative(thick)
            if alarm is not None:
                panel.axvline(alarm, color="#5a6472", linewidth=0.9, linestyle=":")
                panel.text(alarm + 0.8, 0.98, "first I < 0", color="#5a6472", va="top", fontsize=8)
        axes[0].set_ylabel("held-out accuracy")
    return drawn


def _steps(run: RunRecord) -> list[int]:
    return [step for step, _ in run.accuracies()]


def _accuracies(run: RunRecord) -> list[float]:
    return [interval.value for _, interval in run.accuracies()]


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpacks the runs of both arms; gives their folder."""
    wanted = tuple(f"brake/runs/{_SETTING}-{arm}/" for arm in PANELS)
    with tarfile.open(archive) as packed:
        packed.extractall(
            folder, [part for part in packed if part.name.startswith(wanted)], filter="data"
        )
    return folder / "brake" / "runs"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.brake_figure`."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.brake_figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=Path, help="folder of runs (default: the packed ones)")
    parser.add_argument(
        "--output", type=Path, default=FIGURE, help="the SVG (default: %(default)s)"
    )
    given = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            records = paired_runs(given.runs or unpacked(ARCHIVE, Path(folder)))
        drawn = figure(records)
        with matplotlib.rc_context(_STYLE):
            drawn.savefig(given.output, metadata={"Date": None, "Creator": None})
    except (ValueError, OSError) as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    print(f"{len(records['sdpo'])} seeds, thick: {records['sdpo'][middle(records)].name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
