from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._overview import overview
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from pgpo_jax.reports import write_run_report


@dataclass(frozen=True)
class ReportCommand:
    """Compares runs on one self-contained HTML page, and prints the table."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, finished or not. The others are compared with the first."""
    output: Path = Path("report.html")
    """The page to write, which is replaced if it exists."""
    title: str = "Training runs compared"


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo report`."""
    command = with_local_paths(parse(ReportCommand, "pgpo report", argv))
    runs = dict(zip(short_names(command.runs), command.runs, strict=True))
    page = write_run_report(runs, command.output, title=command.title)
    print(overview(runs))
    print(f"report: {printable_line(str(page))}")


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that distinguish them.

    Raises:
        ValueError: if a folder is named twice.

    >>> short_names([Path("runs/a/pgpo"), Path("runs/b/pgpo")])
    ['a/pgpo', 'b/pgpo']
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) != len(parts):
        raise PGPOValueError(f"a run can be compared once only, got {[str(f) for f in folders]}")
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
