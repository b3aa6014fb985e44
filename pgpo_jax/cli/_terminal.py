"""Formats text for a terminal: columns, colours and line width."""

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[str, str]
"""Printable text, and the codes of its SGR sequence (`"1;34"`), or nothing for plain text."""


@dataclass(frozen=True)
class Terminal:
    """The width of the lines, in cells, and whether they may have colours."""

    width: int
    colour: bool

    def paint(self, spans: Sequence[Span]) -> str:
        """A line with its colours, or without any."""
        return "".join(
            f"\x1b[{codes}m{text}\x1b[0m" if codes and self.colour else text
            for text, codes in spans
        )


def this_terminal(colour: str, width: int | None) -> Terminal:
    """The terminal of this process.

    Args:
        colour: `"always"`, `"never"`, or `"auto"`. The last uses colours if stdout is a terminal
            that shows them and `NO_COLOR` is not set.
        width: width in cells; by default that of the terminal, or 80.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    shown = colour == "always" or (colour == "auto" and sys.stdout.isatty() and not plain)
    columns = shutil.get_terminal_size((80, 24)).columns if width is None else width
    return Terminal(columns, shown)


def cells(text: str) -> int:
    """The cells of a text on a line: two for a wide character, none for a combining one.

    >>> cells("ab"), cells("\\u6c34")
    (2, 2)
    """
    return sum(_cells(character) for character in text)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under a rule. The first is aligned left, the others right.

    >>> print(align([["run", "steps"], ["a", "40"]]))
    run  steps
    ---  -----
    a       40
    """
    widths = [max(cells(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        gaps = [" " * (width - cells(cell)) for cell, width in zip(row, widths, strict=True)]
        padded = [
            gap + cell if i else cell + gap
            for i, (cell, gap) in enumerate(zip(row, gaps, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def wrap(spans: Sequence[Span], width: int) -> list[list[Span]]:
    """Break text at its line breaks and, after `width` cells, at a space if possible.

    >>> wrap([("one two", ""), (" three", "1")], 7)
    [[('one two', '')], [('three', '1')]]
    """
    lines: list[list[tuple[str, str]]] = [[]]
    for text, codes in spans:
        for number, part in enumerate(text.expandtabs(4).split("\n")):
            if number:
                lines.append([])
            lines[-1].extend((character, codes) for character in part)
    return [_joined(piece) for line in lines for piece in _pieces(line, width)]


def _pieces(line: list[Span], width: int) -> list[list[Span]]:
    pieces, start = [], 0
    while True:
        end, room, space = start, width, None
        while end < len(line):
            room -= _cells(line[end][0])
            if room < 0:
                break
            if line[end][0] == " ":
                space = end
            end += 1
        if end == len(line):
            return [*pieces, line[start:]] if start < end or not pieces else pieces
        if line[end][0] == " ":
            pieces.append(line[start:end])
            start = end + 1
        elif space is not None and space > start:
            pieces.append(line[start:space])
            start = space + 1
        else:
            # A single character may be wider than the line.
            end = max(end, start + 1)
            pieces.append(line[start:end])
            start = end


def _joined(characters: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for text, codes in characters:
        if joined and joined[-1][1] == codes:
            joined[-1] = (joined[-1][0] + text, codes)
        else:
            joined.append((text, codes))
    return joined


def _cells(character: str) -> int:
    if character < "\u0300":
        return 1
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
