"""The page of all flags: what each command, and each experiment, prints for `--help`."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from unittest import mock

from pgpo_jax import cli

_COLUMNS = "82"
_HEAD = """# All flags

What each command prints for `--help`, read from the commands when this page was made.
[The command line](cli.md) says what the commands are for.

"""


def command_page() -> str:
    """The Markdown of the page."""
    summary = _printed(cli.main, ["--help"])
    commands = re.findall(r"^  ([a-z-]+)  +", summary, re.M)
    parts = [_HEAD, _section("pgpo", summary, level=2)]
    parts += [
        _section(f"pgpo {name}", _printed(cli.main, [name, "--help"]), level=2)
        for name in commands
        if name != "experiment"
    ]
    listed = _printed(cli.main, ["experiment"])
    parts.append(_section("pgpo experiment", listed, level=2))
    names = re.search(r"^experiments: (.*)$", listed, re.M)
    if not names:
        raise ValueError(f"`pgpo experiment` lists no experiments, but prints {listed!r}")
    for name in names[1].split(", "):
        text = _printed(cli.main, ["experiment", name, "--help"])
        parts.append(_section(f"pgpo experiment {name}", text, level=3))
    return "\n".join(parts)


def _section(title: str, text: str, level: int) -> str:
    return f"{'#' * level} `{title}`\n\n```text\n{text.rstrip()}\n```\n"


def _printed(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> str:
    """What a command prints, without colours.

    Raises:
        RuntimeError: if it does not end well, or prints nothing.
    """
    told = io.StringIO()
    plain = {"COLUMNS": _COLUMNS, "NO_COLOR": "1", "TERM": "dumb"}
    try:
        with (
            mock.patch.dict(os.environ, plain),
            mock.patch.object(sys, "argv", ["pgpo", *argv]),
            contextlib.redirect_stdout(told),
        ):
            code = main(argv)
    except SystemExit as end:
        code = end.code
    text = re.sub(r" +$", "", re.sub(r"\x1b\[[0-9;]*m", "", told.getvalue()), flags=re.M)
    if code or not text.strip():
        raise RuntimeError(f"pgpo {' '.join(argv)} ended with {code} and printed {text!r}")
    return text
