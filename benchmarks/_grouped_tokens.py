"""Random tokens of a step, the same for both sides of a comparison. It needs NumPy alone."""

from typing import Any

import numpy as np


def grouped_tokens(
    vocabulary: int,
    *,
    rows: int,
    prompt: int,
    teacher_prompt: int,
    response: int,
    questions: int | None = None,
) -> dict[str, Any]:
    """Prompts, teacher prompts and responses, as a group of responses to a question has them.

    A question has one prompt and two teacher prompts. The first of its responses has the second
    teacher prompt, and the others have the first, as if the first response were the one shown.

    Args:
        vocabulary: ids are below it.
        rows: responses in all.
        prompt: tokens of a prompt.
        teacher_prompt: tokens of a teacher prompt.
        response: tokens of a response.
        questions: they divide the rows; by default one for each row, with one teacher prompt.

    Returns:
        `prompt` (questions x tokens), `teacher_prompt` (two to a question), `response`, and for
        each row the numbers of its prompts: `prompt_owner` and `teacher_prompt_owner`.

    Raises:
        ValueError: the questions do not divide the rows.

    >>> found = grouped_tokens(9, rows=4, questions=2, prompt=3, teacher_prompt=5, response=2)
    >>> found["prompt_owner"].tolist(), found["teacher_prompt_owner"].tolist()
    ([0, 0, 1, 1], [2, 0, 3, 1])
    """
    questions = rows if questions is None else questions
    if questions < 1 or rows % questions:
        raise ValueError(f"questions must divide rows = {rows}, got {questions}")
    rng = np.random.default_rng(0)

    def drawn(count: int, length: int) -> np.ndarray:
        return rng.integers(0, vocabulary, (count, length))

    samples = rows // questions
    prompts, shown = drawn(questions, prompt), drawn(questions, teacher_prompt)
    responses, others = drawn(rows, response), drawn(questions, teacher_prompt)
    question, sample = np.divmod(np.arange(rows), samples)
    second = (sample == 0) & (samples > 1)
    return {
        "prompt": prompts,
        "teacher_prompt": np.concatenate([shown, others]) if samples > 1 else shown,
        "response": responses,
        "prompt_owner": question,
        "teacher_prompt_owner": question + questions * second,
    }
