"""Rows of sampled texts, as `texts.jsonl` holds them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training.devices._mesh import fetch_rows
from pgpo_jax.training.rollout._evaluate import Evaluation
from pgpo_jax.training.rollout._records import Lesson, Rollout

_DIGITS = 5


def rollout_texts(
    rollout: Rollout, lesson: Lesson, tokens: Mapping[str, Any], count: int
) -> list[dict[str, Any]]:
    """Some responses of a step with all that is known of them.

    The first response that trains is taken of each question, or else its first response; the
    questions are the first ones of this process.

    Args:
        rollout: the graded responses of a process's own questions.
        lesson: what was kept of them.
        tokens: numbers per response token, [R, T] each, in the order of the kept responses.
        count: responses that are wanted.

    Returns:
        One row per response: `question`, `response`, `grade`, `teacher_prompt` (the last user
        message that the teacher was shown, or `None`), `tokens` (the text of each token) and the
        numbers per token by name; these are missing for a response that does not train.
    """
    chosen = _chosen(lesson.kept, rollout.samples, count)
    places = {row: place for place, row in enumerate(np.flatnonzero(lesson.kept).tolist())}
    numbers = {name: fetch_rows(values) for name, values in tokens.items()} if chosen else {}
    return [
        {
            "split": "train",
            "question": question_row(rollout.questions[rollout.owners[row]]),
            "response": rollout.responses.texts[row],
            "grade": _grade_row(rollout.grades[row]),
            "teacher_prompt": lesson.teacher_texts.get(row),
            **_token_row(rollout, row, places.get(row), numbers),
        }
        for row in chosen
    ]


def evaluation_texts(evaluation: Evaluation, count: int) -> list[dict[str, Any]]:
    """The first answers of an evaluation: `question`, `response` and `grade` of each."""
    return [
        {
            "split": "test",
            "question": question_row(answer.question),
            "response": answer.response,
            "grade": _grade_row(answer.grade),
        }
        for answer in evaluation.answers[:count]
    ]


def question_row(question: Question) -> dict[str, Any]:
    """A question as plain values."""
    return {
        "id": question.id,
        "domain": question.domain,
        "kind": question.kind,
        "answer": question.answer,
        "messages": [{"role": m.role, "content": m.content} for m in question.messages],
    }


def _chosen(kept: np.ndarray, samples: int, count: int) -> list[int]:
    groups = kept.reshape(-1, samples)[:count]
    return [i * samples + int(np.argmax(group)) for i, group in enumerate(groups)]


def _grade_row(grade: Grade) -> dict[str, Any]:
    return {"score": grade.score, "prediction": grade.prediction, "feedback": grade.feedback}


def _token_row(
    rollout: Rollout, row: int, place: int | None, numbers: Mapping[str, Float[np.ndarray, "R T"]]
) -> dict[str, Any]:
    responses = rollout.responses
    ids = responses.tokens[row][responses.mask[row]].tolist()
    texts = rollout.policy.token_texts(ids)
    if place is None:
        return {"tokens": texts}
    values = {
        name: [float(f"{x:.{_DIGITS}g}") for x in array[place, : len(ids)].tolist()]
        for name, array in numbers.items()
    }
    return {"tokens": texts, **values}
