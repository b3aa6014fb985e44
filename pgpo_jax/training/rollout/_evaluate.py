import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import (
    Grade,
    Grader,
    Question,
    Task,
    exact,
    grade_all,
    hesitation_count,
    pass_at_k,
)
from pgpo_jax.tasks.graders import FailedGrade
from pgpo_jax.training.config import EvaluationConfig, RolloutConfig
from pgpo_jax.training.devices._mesh import gather_rows, process_local_rows
from pgpo_jax.training.rollout._engine import RolloutEngine, Sampler
from pgpo_jax.training.rollout._policy import Policy

# The default threshold of a teacher's solutions.
_RIGHT = 0.5


class Answer(NamedTuple):
    """A response to a held-out question, with its grade.

    Added in version 0.2.0.
    """

    question: Question
    response: str
    grade: Grade


class Evaluation(NamedTuple):
    """avg@n on held-out questions.

    Attributes:
        scores: mean score of the answers to each question, by question id.
        accuracy: mean over questions of these mean scores.
        standard_error: standard error of that mean, from the spread between questions.
        response_length: mean length of the answers in tokens.
        dropped: number of questions left out because their prompt was too long.
        failures: number of answers that the grader failed on. They have the score 0.
        answers: the first answer to each question of this process, with its grade.
        samples: number of answers to each question.
        right: number of answers with a score of at least .5, by question id.
        hesitation_words: mean hesitations per answer; see `pgpo_jax.tasks.hesitation_count`.
    """

    scores: dict[str, float]
    accuracy: float
    standard_error: float
    response_length: float
    dropped: int
    failures: int = 0
    answers: tuple[Answer, ...] = ()
    samples: int = 1
    right: Mapping[str, int] = MappingProxyType({})
    hesitation_words: float = 0.0

    def pass_at(self, k: int) -> float:
        """The probability that one of k answers is right; see `pgpo_jax.tasks.pass_at_k`."""
        return pass_at_k(list(self.right.values()), self.samples, k)


def evaluate(
    policy: Policy,
    params: Any,
    questions: Sequence[Question],
    key: Key[Array, ""],
    settings: EvaluationConfig,
    rollout: RolloutConfig,
    *,
    grader: Task | Grader = exact,
    grader_timeout: float = 10.0,
    engine: RolloutEngine | None = None,
) -> Evaluation:
    """Sample `settings.samples` answers to each question and grade them.

    The same key gives the same random numbers for any weights, so the comparison of two models is
    fair. Each process grades its own share, and all have the result.

    Args:
        policy: policy that encodes, samples and decodes.
        params: weights to evaluate, in the structure of the policy's model.
        questions: held-out questions with different ids.
        key: key of all random numbers.
        settings: settings of the samples per question.
        rollout: settings of the longest prompts and responses in tokens, `thinking` and
            `max_num_seqs`.
        grader: task, or grader of `pgpo_jax.tasks`; by default exact match.
        grader_timeout: time limit for grading one response, in seconds.
        engine: engine that samples the answers; by default our sampler.

    Returns:
        An `Evaluation` of the questions whose prompts are short enough.

    Raises:
        ValueError: no question is left.
    """
    encode = functools.partial(policy.encode_question, thinking=rollout.thinking)
    rows = [(question, encode(question)) for question in questions]
    kept = [row for row in rows if len(row[1]) <= rollout.max_prompt]
    if not kept:
        raise PGPOValueError(
            f"an evaluation needs a question of at most {rollout.max_prompt} prompt tokens, "
            f"got {len(rows)} questions: raise rollout.max_prompt"
        )
    engine = Sampler(rollout.max_num_seqs) if engine is None else engine
    scores: dict[str, float] = {}
    right_answers: dict[str, int] = {}
    lengths, hesitations, failures, answers = [], [], 0, []
    for start in range(0, len(kept), settings.batch):
        chunk = kept[start : start + settings.batch]
        # Every batch is full, so that the last one needs no new compilation.
        padded = [prompt for _, prompt in chunk] + [chunk[-1][1]] * (settings.batch - len(chunk))
        own = process_local_rows(settings.batch, policy.mesh)
        responses = policy.respond(
            params,
            [padded[i] for i in own],
            jax.random.fold_in(key, start),
            samples=settings.samples,
            max_new_tokens=rollout.max_response,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            smallest_bucket=rollout.smallest_bucket,
            largest_prompt=rollout.max_prompt,
            engine=engine,
            logprobs=False,
        )
        right, failed, samples = np.zeros(len(own)), np.zeros(len(own)), settings.samples
        passed, doubts = np.zeros(len(own)), np.zeros(len(own))
        places = [place for place, i in enumerate(own) if i < len(chunk)]
        answered = [place * samples + k for place in places for k in range(samples)]
        asked = [chunk[own[row // samples]][0] for row in answered]
        texts = [responses.texts[row] for row in answered]
        grades = grade_all(grader, asked, texts, timeout=grader_timeout)[0]
        for number, place in enumerate(places):
            own_grades = grades[number * samples : (number + 1) * samples]
            right[place] = np.mean([grade.score for grade in own_grades])
            failed[place] = sum(isinstance(grade, FailedGrade) for grade in own_grades)
            passed[place] = sum(grade.score >= _RIGHT for grade in own_grades)
            own_texts = texts[number * samples : (number + 1) * samples]
            doubts[place] = np.mean([hesitation_count(text) for text in own_texts])
            answers.append(Answer(asked[number * samples], texts[number * samples], own_grades[0]))
        found = gather_rows(
            {
                "right": right,
                "failed": failed,
                "passed": passed,
                "doubts": doubts,
                "length": responses.lengths.reshape(-1, settings.samples).mean(1),
            },
            policy.mesh,
        )
        failures += int(found["failed"].sum())
        for i, (question, _) in enumerate(chunk):
            scores[question.id] = float(found["right"][i])
            right_answers[question.id] = int(found["passed"][i])
            lengths.append(found["length"][i])
            hesitations.append(found["doubts"][i])
    values = np.array(list(scores.values()))
    spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Evaluation(
        scores,
        float(values.mean()),
        float(spread),
        float(np.mean(lengths)),
        len(rows) - len(kept),
        failures,
        tuple(answers),
        settings.samples,
        right_answers,
        float(np.mean(hesitations)),
    )
