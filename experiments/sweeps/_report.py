"""From a sweep to `report.html`, `results.json` and `README.md`."""

import dataclasses
import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from experiments.sweeps._statistics import Comparison
from experiments.sweeps._sweep import Sweep
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import Curve, Interval, Page, RunRecord, interval_figure, versions

# Fields of a configuration that say how a sweep was called, not what it is.
_OF_THE_CALL = frozenset({"jobs", "output", "report_only"})
Records = Mapping[str, Sequence[RunRecord]]
"""The finished runs of each arm, one per seed, in the order of the seeds."""


def finished_records(sweep: Sweep) -> tuple[list[int], dict[str, list[RunRecord]]]:
    """The seeds at which all arms are finished, and their runs.

    Raises:
        ValueError: if there are fewer than 2 such seeds.
    """
    seeds = sweep.complete_seeds()
    if len(seeds) < 2:
        raise PGPOValueError(
            f"{sweep.folder} needs at least 2 seeds with all arms, has {len(seeds)}"
        )
    records = {arm.name: [sweep.record(arm.name, s) for s in seeds] for arm in sweep.arms}
    return seeds, {name: [_to_the_end(run) for run in runs] for name, runs in records.items()}


def _to_the_end(run: RunRecord) -> RunRecord:
    """A run with 0 for the evaluations that it did not live to see.

    One that was stopped by gradients that are not finite would otherwise be judged by its
    beginning, from before it went wrong.
    """
    end, every = run.config["steps"], run.config["evaluation"]["every"]
    nothing = dict.fromkeys(run.scores[min(run.scores)], 0.0)
    planned = dict.fromkeys([*range(0, end, every), end], nothing)
    return dataclasses.replace(run, scores=planned | run.scores)


def scores(
    records: Records, at: Callable[[Sequence[int]], Sequence[int]]
) -> dict[str, Float[np.ndarray, "S Q"]]:
    """The share of right answers by arm, seed and question, averaged over evaluations.

    Args:
        records: of each arm.
        at: which of the evaluations' steps.
    """
    questions = sorted(next(iter(records.values()))[0].scores[0])

    def row(record: RunRecord) -> Float[np.ndarray, " Q"]:
        steps = at(sorted(record.scores))
        return np.mean([[record.scores[s][q] for q in questions] for s in steps], axis=0)

    return {name: np.array([row(r) for r in runs]) for name, runs in records.items()}


def later(share: float) -> Callable[[Sequence[int]], Sequence[int]]:
    """The evaluations of the rest of a run, from a share of its steps on."""
    return lambda steps: [s for s in steps if s >= share * steps[-1] - 1e-9] or steps[-1:]


OUTCOME = "mean held-out accuracy"
"""Of the falsification test and what is compared with it: over the evaluations `SETTLED`."""
SETTLED = later(1 / 3)


def last(steps: Sequence[int]) -> Sequence[int]:
    """The last evaluation."""
    return steps[-1:]


def over_seeds(
    values: Sequence[float] | np.ndarray, *, low: float = -np.inf, high: float = np.inf
) -> Interval:
    """Mean and 95 % t-interval of one number per seed, cut to `[low, high]`."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, max(low, mean - half), min(high, mean + half))


def share_over_seeds(values: Sequence[float] | np.ndarray) -> Interval:
    """`over_seeds` of numbers between 0 and 1."""
    return over_seeds(values, low=0.0, high=1.0)


def mean_curves(runs: Records, metric: str) -> list[Curve]:
    """A metric over the steps by arm: means over seeds with their 95 % bands.

    `metric` is a name in `metrics.jsonl`; `eval/...` are those of the evaluations.
    """
    # Lines that lie upon each other are told apart by their dashes.
    return [
        _mean_curve(name, runs[name], metric, dash=place % 4) for place, name in enumerate(runs)
    ]


def _mean_curve(name: str, runs: Sequence[RunRecord], metric: str, **style: Any) -> Curve:
    rows = "evaluations" if metric.startswith("eval/") else "steps"
    bounds = {"high": 1.0} if metric.endswith("accuracy") else {}
    series = [run.series(metric, rows) for run in runs]
    shared = sorted(set.intersection(*(set(steps) for steps, _ in series)))
    points = [
        over_seeds([dict(zip(steps, values, strict=True))[s] for steps, values in series], **bounds)
        for s in shared
    ]
    return Curve(
        name,
        shared,
        [p.value for p in points],
        [p.low for p in points],
        [p.high for p in points],
        **style,
    )


def mean_of(run: RunRecord, metric: str) -> float:
    """Mean of a metric over a run's steps; NaN if it has none."""
    value = run.mean(metric)
    return float("nan") if value is None else value


def comparison_section(
    page: Page, comparisons: Sequence[Comparison], *, outcome: str, margin: float
) -> None:
    """Table and figure of a family of paired comparisons."""
    page.table(
        [
            "comparison",
            "difference",
            "p, Holm",
            "effect (paired d)",
            "detectable at 80 % power",
            "seeds to decide",
            "verdict",
        ],
        [
            [
                c.name,
                c.difference,
                c.adjusted,
                c.effect,
                c.detectable,
                c.seeds_to_decide,
                c.verdict,
            ]
            for c in comparisons
        ],
        caption=f"Difference in {outcome}, paired by seed and question. Brackets: 95 % intervals "
        "that allow for other seeds and other questions. The smallest difference of interest is "
        f"{margin:g}. Detectable: with 80 % power at the level that the first of the family has to "
        "pass. Seeds to decide: with 80 % power, if the difference is what it seems.",
    )
    page.figure(
        interval_figure(
            [(c.name, c.difference) for c in comparisons],
            x_label=f"difference in {outcome}",
            margin=margin,
        ),
        title="Differences",
        caption="95 % intervals. Shaded: differences that do not matter.",
    )


def in_words(comparisons: Sequence[Comparison]) -> str:
    """A family of comparisons in one line."""
    return "; ".join(f"{c.name} {c.difference.text()} ({c.verdict})" for c in comparisons)


def fixed_in_advance(page: Page, docstring: str | None) -> None:
    """The docstring of an experiment as a section of its page, without its markup."""
    text = re.sub(r"`|\*\*|(?<!\w)\*(?=\w)|(?<=[\w.])\*(?!\w)", "", docstring or "")
    page.heading("What was fixed in advance")
    page.text(text.replace("\n- ", "\n\n– "))


def provenance(command: str) -> dict[str, str]:
    """What makes the numbers: command, present commit, date, machine, versions."""
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        **versions(),
    }


def write_results(
    sweep: Sweep, page: Page, results: Mapping[str, Any], *, command: str, verdict: str, text: str
) -> None:
    """Writes the three files into the sweep's folder.

    Args:
        sweep: gives folder and configuration.
        page: without its closing section, which is added here.
        results: plain values.
        command: that was called.
        verdict: one paragraph.
        text: what the experiment is, for the README.
    """
    spent = f"{sweep.seconds() / 60:.0f} core minutes"
    made = provenance(command) | {"time in runs": spent}
    config = {k: v for k, v in dataclasses.asdict(sweep.config).items() if k not in _OF_THE_CALL}
    page.heading("What was run")
    page.facts(_flat(config), fold="Configuration")
    page.facts({k: v for k, v in made.items() if k != "command"}, fold="Machine and versions")
    page.command(command)
    page.write(sweep.folder / "report.html")
    everything = {"verdict": verdict, **results, "provenance": made, "config": config}
    (sweep.folder / "results.json").write_text(json.dumps(_plain(everything), indent=1) + "\n")
    facts = "\n".join(f"- {name}: {value}" for name, value in made.items())
    (sweep.folder / "README.md").write_text(
        f"# {sweep.folder.parent.name}\n\n{verdict}\n\n`report.html` shows it, `results.json` has "
        f"the numbers, `config.json` the configuration, `runs/` the runs.\n\n{facts}\n\n{text}\n"
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return flat


def _plain(value: Any) -> Any:
    """Without what JSON lacks: NaN becomes null, NumPy numbers plain ones."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return str(value) if isinstance(value, Path) else value


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + (" with changes" if _git(folder, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
