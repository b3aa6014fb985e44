"""How often each question was answered right, and what DRIFT makes of it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pgpo_jax.training.config import DriftConfig


class Difficulty(NamedTuple):
    """How hard questions are: three shares that add up to 1."""

    hard: Float[np.ndarray, " N"]
    medium: Float[np.ndarray, " N"]
    easy: Float[np.ndarray, " N"]


def count_answers(
    counts: dict[str, list[Any]],
    asked: list[str],
    right: Bool[np.ndarray, "Q samples"],
    step: int,
    settings: DriftConfig,
) -> None:
    """Adds the answers of a step to the counts, in place.

    Args:
        counts: by question: right ones, wrong ones, and the step in which it was last asked.
        asked: the questions of the step.
        right: which of their responses are.
        step: counted from 0.
        settings: the decay, and how many questions are remembered.
    """
    for question, answers in zip(asked, right, strict=True):
        successes, failures, last = counts.get(question, [0.0, 0.0, step])
        old = settings.decay ** (step - int(last))
        successes, failures = old * successes, old * failures
        counts[question] = [
            successes + int(answers.sum()),
            failures + int((~answers).sum()),
            step,
        ]
    forget(counts, {question: entry[2] for question, entry in counts.items()}, settings.questions)


def forget(held: dict[str, Any], last: dict[str, int], most: int) -> None:
    """Removes the questions that were longest not asked, in place, down to a number of them.

    Of those last asked in the same step the names decide, so that no order of insertion does.
    """
    if len(held) > most:
        for question in sorted(held, key=lambda name: (last[name], name))[: len(held) - most]:
            del held[question]


def pass_rates(
    counts: dict[str, list[Any]], asked: list[str], settings: DriftConfig
) -> Float[np.ndarray, " Q"]:
    """Smoothed pass rates: near one half while little is known of a question.

    With s right and f wrong answers, let c = (s + f) / (s + f + prior). The rate is
    `c * (s + 1) / (s + f + 2) + (1 - c) / 2`.

    >>> rate = pass_rates({"q": [1.0, 7.0, 0]}, ["q"], DriftConfig())
    >>> round(float(rate[0]), 3)
    0.35
    """
    s, f = np.array([counts[question][:2] for question in asked], np.float64).reshape(-1, 2).T
    confidence = (s + f) / (s + f + settings.prior)
    return confidence * (s + 1) / (s + f + 2) + (1 - confidence) / 2


def difficulty(rates: Float[np.ndarray, " N"], settings: DriftConfig) -> Difficulty:
    """Soft shares of hard, medium and easy.

    >>> shares = difficulty(np.array([0.35]), DriftConfig())
    >>> [round(float(share[0]), 3) for share in shares]
    [0.347, 0.64, 0.012]
    """
    hard = _sigmoid((settings.hard_below - rates) / settings.softness)
    easy = _sigmoid((rates - settings.easy_above) / settings.softness)
    medium = (1 - hard) * (1 - easy)
    total = hard + medium + easy
    return Difficulty(hard / total, medium / total, easy / total)


def _sigmoid(x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return 1 / (1 + np.exp(-x))
