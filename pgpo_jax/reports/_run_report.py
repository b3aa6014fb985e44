import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports._page import Page
from pgpo_jax.reports._run_curves import add_curves
from pgpo_jax.reports._run_kinds import add_kinds
from pgpo_jax.reports._run_record import RunRecord, read_run
from pgpo_jax.reports._run_results import add_results
from pgpo_jax.reports._run_texts import add_answers, add_texts

_PACKAGES = ("pgpo-jax", "jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "transformers")


def write_run_report(
    runs: Mapping[str, str | Path],
    output: str | Path,
    *,
    title: str = "Training runs compared",
    command: str | None = None,
) -> Path:
    """Compare run folders on one self-contained page.

    Args:
        runs: folder by the name on the page. The others are compared with the first.
        output: the HTML file.
        title: of the page.
        command: command at the end of the page; by default that of this process.

    Returns:
        The path written.

    Raises:
        ValueError: if there is no run, or a file in one is not what a run writes.
        FileNotFoundError: if a folder holds no run.
    """
    if not runs:
        raise PGPOValueError("a report needs at least one run, got none")
    records = [read_run(folder, name) for name, folder in runs.items()]
    page = Page(title, _lead(records))
    page.heading("Result")
    add_results(page, records)
    page.heading("Curves")
    add_curves(page, records)
    add_kinds(page, records)
    add_texts(page, records)
    add_answers(page, records)
    page.heading("What was run")
    _configurations(page, records)
    page.facts(versions(), fold="Versions at the time this page was written")
    page.command(command or shlex.join(["pgpo", *sys.argv[1:]]))
    return page.write(output)


def versions() -> dict[str, str]:
    """Versions of the installed packages that affect a run's numbers."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _lead(records: Sequence[RunRecord]) -> str:
    models = sorted({str(record.config.get("model")) for record in records})
    tasks = sorted({str(record.config.get("task")) for record in records})
    return f"Model {', '.join(models)}; questions from {', '.join(tasks)}."


def _configurations(page: Page, records: Sequence[RunRecord]) -> None:
    configs = [record.flat_config() for record in records]
    names = list(dict.fromkeys(name for config in configs for name in config))
    differing = [n for n in names if len({repr(config.get(n)) for config in configs}) > 1]
    if len(records) > 1:
        if differing:
            page.table(
                ["setting", *(record.name for record in records)],
                [[n, *(str(config.get(n, "–")) for config in configs)] for n in differing],
                caption="Settings in which the runs differ; all others are equal.",
            )
        else:
            page.text("All settings of the runs are equal.")
    common = {n: configs[0][n] for n in names if n not in differing and n in configs[0]}
    title = "All settings" if len(records) == 1 else "Settings that all runs share"
    page.facts(common, fold=title)
    page.facts({record.name: record.folder for record in records}, fold="Run folders")
