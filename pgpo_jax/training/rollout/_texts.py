"""Rows of sampled texts, as `texts.jsonl` holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training.rollout._evaluate import Evaluation
from pgpo_jax.training.rollout._records import Lesson, Rollout

_DIGITS = 5


def chosen_responses(lesson: Lesson, samples: int, count: int) -> list[int]:
    """The responses of a step whose texts are kept, each to another question.

    Of each question the first response that trains is taken, or else its first response; the
    questions are the first ones of this process.

    Args:
        lesson: what was kept of the responses.
        samples: responses to each question.
        count: responses that are wanted; fewer if there are fewer questions.
    """
    groups = lesson.kept.reshape(-1, samples)[:count]
    return [i * samples + int(np.argmax(group)) for i, group in enumerate(groups)]


def shown_rows(
    chosen: Sequence[int], lesson: Lesson, own: Int[np.ndarray, " own"], count: int
) -> Int[np.ndarray, " count"]:
    """The rows of the batch that hold some responses; 0 stands for those that it does not hold.

    Args:
        chosen: responses.
        lesson: what was kept of them: the first rows of this process, in their order.
        own: the rows of the batch that this process holds.
        count: of the result, at least as many as are chosen.
    """
    places = np.cumsum(lesson.kept) - 1
    rows = np.zeros(count, np.int32)
    for i, response in enumerate(chosen):
        if lesson.kept[response]:
            rows[i] = own[places[response]]
    return rows


def rollout_texts(
    rollout: Rollout, lesson: Lesson, chosen: Sequence[int], tokens: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Some responses of a step with all that is known of them.

    Args:
        rollout: the graded responses of a process's own questions.
        lesson: what was kept of them.
        chosen: the responses; see `chosen_responses`.
        tokens: numbers per response token of these responses, in their order.

    Returns:
        One row per response: `question`, `response`, `grade`, `teacher_prompt` (the last user
        message that the teacher was shown, or `None`), `tokens` (the text of each token) and the
        numbers per token by name; these are missing for a response that does not train.
    """
    numbers = {name: np.asarray(values) for name, values in tokens.items()}
    return [
        {
            "split": "train",
            "question": question_row(rollout.questions[rollout.owners[row]]),
            "response": rollout.responses.texts[row],
            "grade": _grade_row(rollout.grades[row]),
            "teacher_prompt": lesson.teacher_texts.get(row),
            **_token_row(rollout, row, place if lesson.kept[row] else None, numbers),
        }
        for place, row in enumerate(chosen)
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


def _grade_row(grade: Grade) -> dict[str, Any]:
    return {"score": grade.score, "prediction": grade.prediction, "feedback": grade.feedback}


def _token_row(
    rollout: Rollout,
    row: int,
    place: int | None,
    numbers: Mapping[str, Float[np.ndarray, "shown T"]],
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
