"""Rows for a warm start of the teacher: `python -m experiments.shown_rows TRAIN.json ROWS.jsonl`.

A small pretrained model follows no format. Trained on the bare answers, it forgets how to use a
solution that it is shown. These rows teach both at once. The question has the form of SDPO's
teacher prompt, with its answer as a peer's solution. The response is that answer.

    python -m experiments.shown_rows data/physics/train.json rows.jsonl
    pgpo sft --model MODEL --task rows.jsonl --grader option --output runs/warm

Nothing is taken from the held-out questions. The rows hold the questions, so their licence is that
of the questions.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pgpo_jax.errors import PGPOFileExistsError
from pgpo_jax.tasks import Question, load_questions, teacher_prompt


def shown(questions: Sequence[Question]) -> Iterator[dict[str, str]]:
    """A row for each question, with its answer shown as a solution.

    Args:
        questions: whose answers are short.

    >>> question = Question("q", "sums", "", "1 + 1?", "2")
    >>> next(shown([question]))["question"].splitlines()[1]
    'Correct solution:'
    """
    for question in questions:
        yield {
            "id": question.id,
            "domain": question.domain,
            "question": teacher_prompt(question, solution=question.answer),
            "answer": question.answer,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.shown_rows`."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.shown_rows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", help="a file of questions, as for `pgpo train --task`")
    parser.add_argument("rows", help="the JSON lines to write; must not exist")
    given = parser.parse_args(argv)
    try:
        path = Path(given.rows)
        if path.exists():
            raise PGPOFileExistsError(f"{path} must not exist: it would be overwritten")
        rows = list(shown(load_questions(given.questions)))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    except (ValueError, OSError) as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    print(f"{len(rows)} rows -> {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
