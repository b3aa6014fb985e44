"""`report.html`, `results.json`, `summary.json` and `README.md` of the estimators experiment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.estimators._summary import label, plain, summarize
from experiments.estimators.page import build_page

_README = """# Estimators of the information, against exact values

{advice}

`report.html` shows the tables and curves, `summary.json` has the numbers behind them,
`results.json` every row, `config.json` the configuration.

{facts}
"""


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    made: Mapping[str, str],
) -> None:
    """Writes all files but `config.json`.

    Args:
        folder: exists.
        results: of `experiments.estimators.measure`.
        config: as in `config.json`.
        made: of `provenance`.
    """
    summary = {**summarize(results), "provenance": made, "config": config}
    build_page(results, summary).write(folder / "report.html")
    for name, content in (
        ("results.json", {**plain(results), "provenance": made}),
        ("summary.json", plain(summary)),
    ):
        (folder / name).write_text(json.dumps(content) + "\n")
    facts = "\n".join(f"- {name}: {value}" for name, value in made.items())
    (folder / "README.md").write_text(_README.format(advice=advice_text(summary), facts=facts))


def advice_text(summary: Mapping[str, Any]) -> str:
    """The recommendation in one sentence."""
    advice = summary.get("advice")
    if advice is None:
        return "Without the joint models there is no recommendation."
    if advice["recommended"] is None:
        return "No estimator is admissible by the rule of `experiments/estimators.py`."
    return (
        f"Use `{label(advice['recommended'])}` and batches of at least {advice['batch']} "
        "independent pairs of question and feedback, by the rule of `experiments/estimators.py`."
    )
