"""Makes the rows of sampled texts in `texts.jsonl`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training.rollout._evaluate import Evaluation
from pgpo_jax.training.rollout._records import Lesson, Rollout

_DIGITS = 5


def chosen_responses(lesson: Lesson, samples: int, count: int) -> list[int]:
    """Choose the responses of a step whose texts are kept, each to another question.

    Of each question the first response that trains is chosen, or else its first response. The
    questions are the first ones of this process.

    Args:
        lesson: the responses that the objective kept.
        samples: number of responses to each question.
        count: number of responses to choose, at most one per question.
    """
    groups = lesson.kept.reshape(-1, samples)[:count]
    return [i * samples + int(np.argmax(group)) for i, group in enumerate(groups)]


def shown_rows(
    chosen: Sequence[int], lesson: Lesson, own: Int[np.ndarray, " own"], count: int
) -> Int[np.ndarray, " count"]:
    """The rows of the batch that hold some responses; 0 for responses that it does not hold.

    Args:
        chosen: responses.
        lesson: the responses that the objective kept. They are the first rows of this process, in
            their order.
        own: the rows of the batch that this process holds.
        count: length of the result, at least the number of chosen responses.
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
    """Some responses of a step with their grades and numbers.

    Args:
        rollout: the graded responses of a process's own questions.
        lesson: the responses that the objective kept.
        chosen: numbers of the responses; see `chosen_responses`.
        tokens: numbers per response token of these responses, in their order.

    Returns:
        One row per response: `question`, `response`, `grade`, `teacher_prompt`, `tokens` and the
        numbers per token by name. `teacher_prompt` is the last user message that the teacher was
        shown, or `None`. `tokens` is the text of each token. A response that does not train has no
        numbers.
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
