from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from pgpo_jax.tasks import Question, grade
from pgpo_jax.training._config import EvaluationConfig, RolloutConfig
from pgpo_jax.training._policy import Policy


class Evaluation(NamedTuple):
    """avg@n on held-out questions.

    Attributes:
        scores: share of right answers by question id.
        accuracy: mean over questions.
        standard_error: of that mean, from the spread between questions.
        response_length: mean, in tokens.
        dropped: questions left out because their prompt was too long.
    """

    scores: dict[str, float]
    accuracy: float
    standard_error: float
    response_length: float
    dropped: int


def evaluate(
    policy: Policy,
    params: Any,
    questions: Sequence[Question],
    key: Key[Array, ""],
    settings: EvaluationConfig,
    rollout: RolloutConfig,
) -> Evaluation:
    """Samples `settings.samples` answers to each question and grades them.

    The same key gives the same random numbers whatever the weights, so that two models are
    compared on equal terms.

    Raises:
        ValueError: if no question is left.
    """
    rows = [(question, policy.encode_question(question)) for question in questions]
    kept = [row for row in rows if len(row[1]) <= rollout.max_prompt]
    if not kept:
        raise ValueError(
            f"an evaluation needs a question of at most {rollout.max_prompt} prompt tokens, "
            f"got {len(rows)} questions: raise rollout.max_prompt"
        )
    scores: dict[str, float] = {}
    lengths = []
    for start in range(0, len(kept), settings.batch):
        chunk = kept[start : start + settings.batch]
        # A full batch each time, so that the last one does not compile anew.
        padded = [prompt for _, prompt in chunk] + [chunk[-1][1]] * (settings.batch - len(chunk))
        responses = policy.respond(
            params,
            padded,
            jax.random.fold_in(key, start),
            samples=settings.samples,
            max_new_tokens=rollout.max_response,
            temperature=settings.temperature,
            top_p=settings.top_p,
            smallest_bucket=rollout.smallest_bucket,
            largest_prompt=rollout.max_prompt,
        )
        for i, (question, _) in enumerate(chunk):
            own = slice(i * settings.samples, (i + 1) * settings.samples)
            grades = [grade(text, question.answer) for text in responses.texts[own]]
            scores[question.id] = float(np.mean([g.score for g in grades]))
            lengths.append(responses.lengths[own].mean())
    values = np.array(list(scores.values()))
    spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Evaluation(
        scores, float(values.mean()), float(spread), float(np.mean(lengths)), len(rows) - len(kept)
    )
