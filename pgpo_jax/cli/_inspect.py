import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pgpo_jax.cli._terminal import this_terminal
from pgpo_jax.cli._text_view import TextView
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from pgpo_jax.reports import KeptText, KeptTexts, read_run, read_texts
from pgpo_jax.reports._kept_texts import answer_pairs

_LEAST_WIDTH = 40


@dataclass(frozen=True)
class InspectCommand:
    """Shows the texts of a run: questions, responses, grades and the prompts of the teacher.

    The tokens of a response are marked by information.
    """

    run: tyro.conf.Positional[Path]
    """A run folder, finished or not."""
    step: int | None = None
    """Step whose responses are shown; by default the newest."""
    rows: int | None = None
    """Largest number of responses to show; by default all that were kept."""
    question: str | None = None
    """Show only responses to the question with this id. Without --step they are those of the newest
    step that has some."""
    evaluation: bool = False
    """Show the answers of the first and the last evaluation side by side instead."""
    color: Literal["auto", "always", "never"] = "auto"
    """`auto` uses colours on a terminal, unless NO_COLOR is set."""
    width: int | None = None
    """Width of the lines, in characters; by default that of the terminal, or 80."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo inspect`.

    Raises:
        FileNotFoundError: if there is no run in the folder.
        ValueError: it keeps no texts, or none of the step or question, or a file in it is invalid.
    """
    command = with_local_paths(parse(InspectCommand, "pgpo inspect", argv))
    _check(command)
    record = read_run(command.run)
    texts = read_texts(command.run)
    if not texts.steps():
        raise PGPOValueError(
            f"{command.run} keeps no texts: it was made with --texts.rows 0, or before there were "
            "any, or has made no step yet"
        )
    view = TextView(this_terminal(command.color, command.width))
    if command.evaluation:
        accuracies = [f"step {step}: {value.text(2)}" for step, value in record.accuracies()]
        lines = _answers(command, texts, view, accuracies)
    else:
        lines = _responses(command, texts, view)
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        # A terminal without Unicode gets escapes instead of an error.
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def _check(command: InspectCommand) -> None:
    if command.rows is not None and command.rows < 1:
        raise PGPOValueError(f"--rows must be at least 1, got {command.rows}")
    if command.width is not None and command.width < _LEAST_WIDTH:
        raise PGPOValueError(f"--width must be at least {_LEAST_WIDTH}, got {command.width}")
    if command.evaluation and command.step is not None:
        raise PGPOValueError("--evaluation shows the first and the last one: leave out --step")


def _responses(command: InspectCommand, texts: KeptTexts, view: TextView) -> Iterator[str]:
    step, kept = _chosen(command, texts)
    if any(row.numbers for row in kept):
        yield from view.legend()
    for row in kept:
        yield ""
        yield from view.response(row)
    yield ""
    yield from view.line(f"step {step}; there are texts of the steps {_listed(texts.steps())}")


def _chosen(command: InspectCommand, texts: KeptTexts) -> tuple[int, list[KeptText]]:
    """The step that is shown, and its responses."""
    steps = texts.steps()
    if command.step is not None and command.step not in steps:
        raise PGPOValueError(
            f"step {command.step} was not kept; there are the steps {_listed(steps)}"
        )
    if command.question is None:
        step = steps[-1] if command.step is None else command.step
        return step, list(itertools.islice(texts.rows(step), command.rows))
    for step in reversed(steps) if command.step is None else (command.step,):
        rows = (row for row in texts.rows(step) if row.question.id == command.question)
        kept = list(itertools.islice(rows, command.rows))
        if kept:
            return step, kept
    step = steps[-1] if command.step is None else command.step
    there = list(dict.fromkeys(row.question.id for row in texts.rows(step)))
    where = "no step" if command.step is None else f"step {step}"
    raise PGPOValueError(
        f"{where} has a kept response to {command.question!r}; step {step} has {_listed(there)}"
    )


def _answers(
    command: InspectCommand, texts: KeptTexts, view: TextView, accuracies: Sequence[str]
) -> Iterator[str]:
    pairs = answer_pairs(texts)
    if not pairs:
        raise PGPOValueError(
            f"{command.run} has no two evaluations with answers to the same questions; there are "
            f"those of the steps {_listed(texts.steps('test')) or 'none'}"
        )
    if command.question is not None:
        there = [before.question.id for before, _ in pairs]
        pairs = [pair for pair in pairs if pair[0].question.id == command.question]
        if not pairs:
            raise PGPOValueError(
                f"the evaluations have no answer to {command.question!r}; there are "
                f"{_listed(there)}"
            )
    yield from view.line(f"held-out accuracy, with 95 % intervals: {', '.join(accuracies)}")
    for before, after in pairs[: command.rows]:
        yield ""
        yield from view.answers(before, after)


def _listed(values: Sequence[object], most: int = 12) -> str:
    """Values in one line; of many values, the first and the last."""
    shown = [str(value) for value in values]
    if len(shown) > most:
        shown = [*shown[: most - 2], "...", *shown[-1:]]
    return ", ".join(shown)
