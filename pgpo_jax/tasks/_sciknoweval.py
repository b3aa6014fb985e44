import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.tasks._question import Question

_OPTION = re.compile(r"^([A-Z]): ?", re.MULTILINE)


def load_sciknoweval(path: str | Path) -> list[Question]:
    """Reads multiple-choice questions in the layout of SciKnowEval as published with SDPO.

    Args:
        path: a file of JSON lines, or one JSON array, of objects with the string fields
            `system`, `prompt` (options as lines `A: text`) and `answer` (one option letter), and
            optionally `idx`. The domain is the name of the folder that holds the file.

    Returns:
        The questions in file order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming file, line (row, for an array) and field, if a row is malformed, an
            answer is not among its options, an `idx` comes twice, or the file holds no row.
    """
    path = Path(path)
    if not path.is_file():
        raise PGPOFileNotFoundError(f"no question file at {path}")
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for where, row in _rows(path):
        question = _question(row, where, path.resolve().parent.name, len(questions))
        if question.id in seen:
            raise PGPOValueError(f"{where}: field 'idx' repeats that of {seen[question.id]}")
        seen[question.id] = where
        questions.append(question)
    if not questions:
        raise PGPOValueError(f"{path}: a question file must hold at least one row, got none")
    return questions


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PGPOValueError(f"{path}: a question file must be UTF-8 text: {error}") from error
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise PGPOValueError(
                f"{path}: line {error.lineno}: not valid JSON: {error.msg}"
            ) from error
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, 1))
        return
    # Not str.splitlines: it also cuts at U+2028 and its like, which JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}: line {number}"
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise PGPOValueError(f"{where}: not valid JSON: {error.msg}") from error


def _question(row: Any, where: str, domain: str, position: int) -> Question:
    if not isinstance(row, dict):
        raise PGPOValueError(f"{where}: a row must be a JSON object, got {type(row).__name__}")
    for field in ("system", "prompt", "answer"):
        value = row.get(field)
        if not isinstance(value, str):
            got = "nothing" if field not in row else repr(value)
            raise PGPOValueError(f"{where}: field '{field}' must be a string, got {got}")
    if not row["prompt"].strip():
        raise PGPOValueError(f"{where}: field 'prompt' must not be blank")
    options = _OPTION.findall(row["prompt"])
    if row["answer"] not in options:
        raise PGPOValueError(
            f"{where}: field 'answer' must be one of the prompt's option letters {options}, "
            f"got {row['answer']!r}"
        )
    idx = row.get("idx", position)
    return Question(f"{domain}-{idx}", domain, row["system"], row["prompt"], row["answer"])
