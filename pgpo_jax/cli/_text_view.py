"""Shows kept texts on a terminal."""

import math
import textwrap
from collections.abc import Iterator, Sequence

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._terminal import Span, Terminal, align, cells, wrap
from pgpo_jax.reports import KeptText, printable
from pgpo_jax.reports._highlights import (
    LEAST,
    LEVELS,
    level,
    level_name,
    most_informative,
    teacher_parts,
)
from pgpo_jax.tasks import Question

_TABLE_ROWS = 8
_EXTREMES = 5
_TOKEN_WIDTH = 24
_BOLD, _DIM, _NEW = "1", "2", "32"
# Black on light backgrounds, which is readable on dark and on light terminals. The strongest are
# also bold.
_MARKS = {1: "38;5;16;48;5;153", 2: "38;5;16;48;5;111", 3: "1;38;5;16;48;5;75"}
_MARKS |= {-1: "38;5;16;48;5;223", -2: "38;5;16;48;5;215", -3: "1;38;5;16;48;5;208"}
_COLUMNS = {
    "information": "I",
    "divergence": "divergence",
    "student_entropy": "student H",
    "teacher_entropy": "teacher H",
}


class TextView:
    """Formats kept texts as lines of a terminal."""

    def __init__(self, terminal: Terminal):
        self._terminal = terminal

    def legend(self) -> Iterator[str]:
        """The legend of the marks of tokens."""
        if not self._terminal.colour:
            yield from self._said(
                [("{token|+1.00} is a token with a large |I|, and its I in nats", "")]
            )
        else:
            yield from self._legend_of(range(-len(LEVELS), 0))
            yield from self._legend_of(range(1, len(LEVELS) + 1))
        yield from self._said(
            [("I: how much surer the teacher is of the next token than the student, in nats", _DIM)]
        )

    def response(self, kept: KeptText) -> Iterator[str]:
        """A response of a step with its grade and its numbers."""
        yield from self._rule(f"step {kept.step}, question {printable_line(kept.question.id)}")
        yield from self._said([(self.facts(kept.question), _DIM)])
        yield from self.question(kept.question)
        yield self._head("response")
        yield from self.answer(kept)
        yield from self.table(kept)
        if kept.split == "train":
            yield self._head("what the teacher was shown (+: not shown to the student)")
            yield from self._teacher(kept)

    def answers(self, before: KeptText, after: KeptText) -> Iterator[str]:
        """The answers of two evaluations to one question, beside each other."""
        yield from self._rule(f"question {printable_line(before.question.id)}")
        yield from self._said([(self.facts(before.question), _DIM)])
        yield from self.question(before.question)
        width = (self._terminal.width - 3) // 2
        sides = [self._side(kept, width) for kept in (before, after)]
        for place in range(max(map(len, sides))):
            left, right = (side[place] if place < len(side) else [] for side in sides)
            gap = " " * (width - sum(cells(text) for text, _ in left))
            yield self._terminal.paint([*left, (f"{gap} | ", ""), *right]).rstrip()

    def line(self, text: str) -> Iterator[str]:
        """Plain text, wrapped."""
        yield from self._said([(printable(text), "")])

    def facts(self, question: Question) -> str:
        """Domain, kind and right answer."""
        parts = [question.domain, question.kind, f"right answer {question.answer}"]
        return printable_line(", ".join(part for part in parts if part))

    def question(self, question: Question) -> Iterator[str]:
        """The turns of the chat."""
        for turn in question.messages:
            yield self._head(turn.role)
            yield from self._said([(printable(turn.content), "")])

    def answer(self, kept: KeptText) -> Iterator[str]:
        """The response with marked tokens, and its grade."""
        yield from self._said(self._tokens(kept))
        yield from self._said([(_graded(kept), _BOLD)])
        if kept.grade.feedback:
            yield self._head("feedback of the grader")
            yield from self._said([(printable(kept.grade.feedback), "")])

    def table(self, kept: KeptText) -> Iterator[str]:
        """The numbers of the tokens with the largest information."""
        if not kept.tokens:
            return
        yield self._head("tokens with the largest |I|, in nats; H: entropy")
        places = most_informative(kept, _TABLE_ROWS)
        if not places:
            if "information" in kept.numbers:
                yield f"no token has |I| of at least {LEAST:g} nats"
            elif kept.numbers:
                yield "there is no information: this objective measures none"
            else:
                yield "there are no numbers: the response did not train"
            return
        names = [name for name in _COLUMNS if name in kept.numbers]
        rows = [
            [_quoted(kept.tokens[place]), str(place + 1)]
            + [_nats(kept.numbers[name][place], name == "information") for name in names]
            for place in places
        ]
        head = ["token", "place", *(_COLUMNS[name] for name in names)]
        yield from align([head, *rows]).split("\n")

    def _legend_of(self, levels: Sequence[int]) -> Iterator[str]:
        """Fill each line with as many entries as fit."""
        line: list[Span] = []
        for number in levels:
            entry = [(" token ", _MARKS[number]), (f" {level_name(number)}  ", "")]
            if line and cells("".join(text for text, _ in line + entry)) > self._terminal.width:
                yield self._terminal.paint(line)
                line = []
            line += entry
        yield self._terminal.paint(line)

    def _tokens(self, kept: KeptText) -> list[Span]:
        information = kept.numbers.get("information")
        if information is None:
            return [(printable(kept.response), "")]
        extremes = [p for p in most_informative(kept, _EXTREMES) if level(information[p])]
        spans = []
        for place, token in enumerate(kept.tokens):
            text = printable(token).replace("\n", "↵\n")
            if self._terminal.colour:
                spans.append((text, _MARKS.get(level(information[place]), "")))
            elif place in extremes:
                spans.append((f"{{{text}|{information[place]:+.2f}}}", ""))
            else:
                spans.append((text, ""))
        return spans

    def _teacher(self, kept: KeptText) -> Iterator[str]:
        if kept.teacher_prompt is None:
            yield "nothing: this response has no teacher prompt"
            return
        parts = [(printable(text), _NEW if new else "") for text, new in teacher_parts(kept)]
        for line in wrap(parts, self._terminal.width - 2):
            new = any(codes and text.strip() for text, codes in line)
            gutter = ("+ ", _NEW) if new else ("  ", "")
            yield self._terminal.paint([gutter, *line]).rstrip()

    def _side(self, kept: KeptText, width: int) -> list[list[Span]]:
        feedback = f"\nfeedback: {kept.grade.feedback}" if kept.grade.feedback else ""
        return wrap(
            [
                (f"step {kept.step}: {_graded(kept)}\n", _BOLD),
                (printable(kept.response + feedback), ""),
            ],
            width,
        )

    def _said(self, spans: Sequence[Span]) -> Iterator[str]:
        for line in wrap(spans, self._terminal.width):
            yield self._terminal.paint(line)

    def _rule(self, text: str) -> Iterator[str]:
        return self._said([(f"=== {text}", _BOLD)])

    def _head(self, text: str) -> str:
        return self._terminal.paint([(f"--- {text}"[: self._terminal.width], _DIM)])


def _graded(kept: KeptText) -> str:
    prediction = textwrap.shorten(printable_line(kept.grade.prediction), 40, placeholder="...")
    return f"predicted {prediction or 'nothing'}, score {kept.grade.score:g}"


def _quoted(token: str) -> str:
    text = printable_line(token)
    return f'"{text}"' if len(text) <= _TOKEN_WIDTH else f'"{text[: _TOKEN_WIDTH - 3]}..."'


def _nats(value: float, signed: bool) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:+.3f}" if signed else f"{value:.3f}"
