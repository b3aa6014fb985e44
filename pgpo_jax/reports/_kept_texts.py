"""The texts and questions that a run folder keeps, read a line at a time."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.reports._kept_row import KeptText, parse_question, parse_text
from pgpo_jax.tasks import Question

# The beginning of each line that a run writes. A line with another beginning is parsed whole.
_HEAD = re.compile(rb'\{"step": (\d{1,18}), "split": "(train|test)",')


class _Line(NamedTuple):
    number: int
    offset: int


class KeptTexts:
    """The kept texts of a run. It stores the offsets of the lines and reads lines on request.

    Args:
        path: the file `texts.jsonl`. A missing file means no texts.

    Raises:
        ValueError: naming file and line, if a line has no step and split.

    Added in version 0.2.0.
    """

    def __init__(self, path: Path):
        self.path = path
        self._places: dict[tuple[int, str], list[_Line]] = {}
        if not path.is_file():
            return
        with path.open("rb") as file:
            for line, data in _complete_lines(file):
                head = _HEAD.match(data)
                if head is None:
                    text = _parsed(path, line, data)
                    place = (text.step, text.split)
                else:
                    place = (int(head[1]), head[2].decode())
                self._places.setdefault(place, []).append(line)

    def steps(self, split: str | None = None) -> list[int]:
        """The steps that have kept texts, of a split or of both, in order."""
        return sorted({step for step, own in self._places if split in (None, own)})

    def rows(self, step: int, split: str | None = None) -> Iterator[KeptText]:
        """The texts of a step, of a split or of `"train"` and then `"test"`.

        Raises:
            ValueError: naming file and line, if a line is not what a run writes.
        """
        for own in ("train", "test") if split is None else (split,):
            lines = self._places.get((step, own), [])
            if not lines:
                continue
            with self.path.open("rb") as file:
                for line in lines:
                    file.seek(line.offset)
                    yield _parsed(self.path, line, file.readline())


def read_texts(folder: str | Path) -> KeptTexts:
    """The texts that a run keeps in `texts.jsonl`; none if it has no such file.

    Raises:
        ValueError: naming file and line, if a line is not what a run writes.

    >>> read_texts("no/such/run").steps()
    []

    Added in version 0.2.0.
    """
    return KeptTexts(local_path(folder, "a run folder") / "texts.jsonl")


def answer_pairs(texts: KeptTexts) -> list[tuple[KeptText, KeptText]]:
    """The kept answers of the first and of the last evaluation, by question."""
    steps = texts.steps("test")
    if len(steps) < 2:
        return []
    after = {kept.question.id: kept for kept in texts.rows(steps[-1], "test")}
    return [
        (kept, after[kept.question.id])
        for kept in texts.rows(steps[0], "test")
        if kept.question.id in after
    ]


def read_questions(folder: str | Path) -> dict[str, Question]:
    """The held-out questions of a run by id, from `questions.jsonl`; empty without that file.

    Raises:
        ValueError: naming file and line, if a line is not what a run writes.

    Added in version 0.2.0.
    """
    path = local_path(folder, "a run folder") / "questions.jsonl"
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        found = [
            parse_question(_decoded(path, line, data), _where(path, line))
            for line, data in _complete_lines(file)
        ]
    return {question.id: question for question in found}


def _complete_lines(file: BinaryIO) -> Iterator[tuple[_Line, bytes]]:
    """All lines except empty ones and an incomplete last one."""
    offset = 0
    for number, data in enumerate(file, 1):
        if data.endswith(b"\n") and data.strip():
            yield _Line(number, offset), data
        offset += len(data)


def _parsed(path: Path, line: _Line, data: bytes) -> KeptText:
    return parse_text(_decoded(path, line, data), _where(path, line))


def _decoded(path: Path, line: _Line, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PGPOValueError(f"{_where(path, line)} is not UTF-8: {error}") from None


def _where(path: Path, line: _Line) -> str:
    return f"{path}, line {line.number}"
