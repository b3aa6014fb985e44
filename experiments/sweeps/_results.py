"""From a sweep to `report.html`, `results.json` and `README.md`."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.sweeps._provenance import provenance
from experiments.sweeps._sweep import Sweep
from pgpo_jax.reports import Page

# Fields of a configuration that say how a sweep was called, not what it is.
_OF_THE_CALL = frozenset({"jobs", "output", "report_only"})


class Call(NamedTuple):
    """What was called: the command line, and the text that says what was fixed in advance."""

    command: str
    text: str


def write_results(
    sweep: Sweep, page: Page, results: Mapping[str, Any], *, call: Call, verdict: str
) -> None:
    """Writes the three files into the sweep's folder.

    Args:
        sweep: gives folder and configuration.
        page: without its closing sections, which are added here: what was fixed in advance, and
            what was run.
        results: plain values.
        call: for the page and the README.
        verdict: one paragraph.
    """
    spent = f"{sweep.seconds() / 60:.0f} core minutes"
    made = provenance(call.command) | {"time in runs": spent}
    config = {k: v for k, v in dataclasses.asdict(sweep.config).items() if k not in _OF_THE_CALL}
    _fixed_in_advance(page, call.text)
    page.heading("What was run")
    page.facts(_flat(config), fold="Configuration")
    page.facts({k: v for k, v in made.items() if k != "command"}, fold="Machine and versions")
    page.command(call.command)
    page.write(sweep.folder / "report.html")
    everything = {"verdict": verdict, **results, "provenance": made, "config": config}
    (sweep.folder / "results.json").write_text(json.dumps(_plain(everything), indent=1) + "\n")
    facts = "\n".join(f"- {name}: {value}" for name, value in made.items())
    (sweep.folder / "README.md").write_text(
        f"# {sweep.folder.parent.name}\n\n{verdict}\n\n`report.html` shows it, `results.json` has "
        f"the numbers, `config.json` the configuration, `runs/` the runs.\n\n{facts}\n\n"
        f"{call.text}\n"
    )


def _fixed_in_advance(page: Page, docstring: str) -> None:
    """The docstring of an experiment as a section of its page, without its markup."""
    text = re.sub(r"`|\*\*|(?<!\w)\*(?=\w)|(?<=[\w.])\*(?!\w)", "", docstring)
    page.heading("What was fixed in advance")
    page.text(text.replace("\n- ", "\n\n– "))


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
