"""The shipped language model against its own conditional mutual information."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Key

from experiments.estimators._discrete import spearman_columns
from experiments.estimators._enumerate import (
    MAX_RESPONSE,
    SETS,
    STUDENTS,
    Enumeration,
    Texts,
    enumerate_feedback,
    write_texts,
)
from experiments.estimators._length import LAWS
from experiments.estimators._moments import FEEDBACK_ONLY
from experiments.estimators._variants import variants
from pgpo_jax.training import load_policy

Row = dict[str, Any]
_Z = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """The shipped model, held-out synthetic questions, nine solutions each."""

    questions: int = 32
    rollouts: int = 8
    """Responses of the student to each question; each teacher writes one more."""
    temperatures: tuple[float, ...] = (0.6, 0.8, 1.25)
    top: tuple[int, ...] = (1, 5, 20, 100)
    half_precision_questions: int = 8
    """Questions repeated with a bfloat16 model; 0: none."""
    lengths: tuple[int, ...] = (1, 2, 3, 4, 8, 12)
    """First tokens of a response that are counted."""
    pairs: tuple[int, ...] = (1, 4, 16, 64)
    """Pairs of response and feedback, per question, from which questions are ranked."""
    repeats: int = 256
    """Rankings drawn."""


def study_language(config: LanguageConfig, key: Key[Array, ""]) -> dict[str, Any]:
    """All that is measured on the language model, as plain rows.

    Returns:
        `estimates`: bias by feedback set, law, student and estimator; `spread`; `positions`;
        `lengths`; `variants`; `half_precision`; `ranks`.
    """
    policy, params = load_policy("tiny")
    texts = write_texts(policy, params, key, questions=config.questions, rollouts=config.rollouts)
    varied = variants(config.temperatures, config.top)
    found = jax.tree.map(np.asarray, enumerate_feedback(policy, params, texts, varied))
    study = _Study(config, texts, found)
    result = {
        "estimates": study.estimates(),
        "spread": study.spread(),
        "positions": study.positions(),
        "lengths": study.lengths(),
        "variants": study.variants([(v.kind, v.setting) for v in varied]),
        "ranks": study.ranks(key),
        "half_precision": [],
    }
    if config.half_precision_questions:
        few = slice(config.half_precision_questions)
        part = Texts(*(x[few] for x in texts))
        half, _ = load_policy("tiny", dtype=jnp.bfloat16)
        rounded = jax.tree.map(np.asarray, enumerate_feedback(half, params, part))
        result["half_precision"] = _half_precision(
            _Study(config, part, jax.tree.map(lambda x: x[few], found)),
            _Study(config, part, rounded),
        )
    return result


class _Study:
    """Reductions of one enumeration: the token mean per response first, as in training."""

    def __init__(self, config: LanguageConfig, texts: Texts, found: Enumeration):
        self.config, self.found = config, found
        self.mask = texts.response_mask
        self.questions = self.mask.shape[0]

    def rows(self, law: str, group: str) -> slice:
        """The responses that belong to a law: the student's, or those of the set's teachers."""
        start = self.config.rollouts
        return slice(0, start) if law == "rollouts" else slice(start, start + SETS[group])

    def per_response(
        self, values: Float[Any, "... S T"], rows: slice, length: int = MAX_RESPONSE
    ) -> Float[np.ndarray, "... S"]:
        """Token means; [Q, F, S, T] or [Q, S, T] in."""
        mask = self.mask[:, rows, :length]
        values = values[..., rows, :length]
        if values.ndim == 4:
            mask = mask[:, None]
        return np.where(mask, values, 0.0).sum(-1) / np.maximum(mask.sum(-1), 1)

    def expected(self, group: str, law: str, student: str, name: str) -> np.ndarray:
        """At every prefix, the estimator's expectation over the feedback: [Q, S, T]."""
        weights = self.found.weights[group, law]
        if student == "mixture":
            return (weights * self.found.mixture[group, law, name]).sum(1)
        return (weights * self.found.model[name][:, : SETS[group]]).sum(1)

    def estimates(self) -> list[Row]:
        found = []
        for group in SETS:
            for law in LAWS:
                rows = self.rows(law, group)
                truth = self.per_response(self.found.information[group, law], rows).mean(1)
                for student in STUDENTS:
                    for name in FEEDBACK_ONLY:
                        value = self.expected(group, law, student, name)
                        mean = self.per_response(value, rows).mean(1)
                        found.append(
                            {
                                "feedback": group,
                                "law": law,
                                "student": student,
                                "estimator": name,
                                "information": _interval(truth),
                                "estimate": _interval(mean),
                                "bias": _interval(mean - truth),
                            }
                        )
                found.append(self._pointwise(group, law, truth))
        return found

    def _pointwise(self, group: str, law: str, truth: np.ndarray) -> Row:
        """Of the model as student and the words of the response, whose author the law names."""
        rows = self.rows(law, group)
        values = self.found.model["pointwise"][:, : SETS[group]]
        if law == "rollouts":
            mean = self.per_response(values, rows).mean((1, 2))
        else:
            # Teacher f with its own words.
            single = self.per_response(values, rows)
            mean = np.diagonal(single, axis1=1, axis2=2).mean(1)
        return {
            "feedback": group,
            "law": law,
            "student": "model",
            "estimator": "pointwise",
            "information": _interval(truth),
            "estimate": _interval(mean),
            "bias": _interval(mean - truth),
        }

    def spread(self) -> list[Row]:
        """One response with one right solution, as in training: spread within and between
        questions, and the share of negative values."""
        found = []
        for name, values in self.found.model.items():
            single = self.per_response(values[:, : SETS["right"]], self.rows("rollouts", "right"))
            single = single.reshape(self.questions, -1)
            within = single.var(axis=1, ddof=1).mean()
            between = max(single.mean(1).var(ddof=1) - within / single.shape[1], 0.0)
            rows_per_question = 8
            of_batch = between + within / rows_per_question
            share = (single < 0).mean(1)
            found.append(
                {
                    "estimator": name,
                    "mean": _interval(single.mean(1)),
                    "within_sd": float(np.sqrt(within)),
                    "between_sd": float(np.sqrt(between)),
                    "correlation": float(between / (between + within)),
                    "design_effect": float(rows_per_question * of_batch / (between + within)),
                    # Questions of eight responses for a standard error of a quarter of the mean.
                    "questions_needed": int(np.ceil(16 * of_batch / single.mean() ** 2)),
                    "negative": _interval(share),
                }
            )
        return found

    def positions(self) -> list[Row]:
        """Means over the responses that reach a position, student's own, by token."""
        rows = self.rows("rollouts", "right")
        mask = self.mask[:, rows]
        reached = mask.sum((0, 1))
        series = {f"information, {g}": self.found.information[g, "rollouts"] for g in SETS}
        series |= {
            f"{name}, right": self.expected("right", "rollouts", "model", name)
            for name in FEEDBACK_ONLY
        }
        return [
            {
                "series": name,
                "nats": (np.where(mask, v[:, rows], 0.0).sum((0, 1)) / np.maximum(reached, 1))[
                    reached >= self.questions
                ].tolist(),
            }
            for name, v in series.items()
        ]

    def lengths(self) -> list[Row]:
        found = []
        rows = self.rows("rollouts", "right")
        for length in self.config.lengths:
            truth = self.per_response(self.found.information["right", "rollouts"], rows, length)
            for name in FEEDBACK_ONLY:
                values = self.found.model[name][:, : SETS["right"]]
                single = self.per_response(values, rows, length).reshape(self.questions, -1)
                found.append(
                    {
                        "length": length,
                        "estimator": name,
                        "information": _interval(truth.mean(1)),
                        "estimate": _interval(single.mean(1)),
                        "sequence_sd": float(single.std(ddof=1)),
                    }
                )
        return found

    def variants(self, names: list[tuple[str, str]]) -> list[Row]:
        """Against the exact information at full precision and temperature 1; set `any`."""
        rows, found = self.rows("rollouts", "any"), []
        truth = self.per_response(self.found.information["any", "rollouts"], rows).mean(1)
        for (number, student, name), values in self.found.varied.items():
            kind, setting = names[number]
            plain = self.per_response(self.found.varied[0, student, name], rows).mean(1)
            mean = self.per_response(values, rows).mean(1)
            found.append(
                {
                    "variant": kind,
                    "setting": setting,
                    "student": student,
                    "estimator": name,
                    "information": float(truth.mean()),
                    "estimate": _interval(mean),
                    "bias": _interval(mean - truth),
                    "change": _interval(mean - plain),
                }
            )
        return found

    def ranks(self, key: Key[Array, ""]) -> list[Row]:
        """Do estimates rank the questions by their exact information (set `any`)?"""
        rows = self.rows("rollouts", "any")
        truth = self.per_response(self.found.information["any", "rollouts"], rows).mean(1)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        found = []
        for name, values in self.found.model.items():
            single = self.per_response(values, rows).reshape(self.questions, -1)
            for pairs in self.config.pairs:
                drawn = rng.integers(
                    0, single.shape[1], (self.questions, self.config.repeats, pairs)
                )
                places = np.arange(self.questions)[:, None, None]
                spearman = spearman_columns(truth, single[places, drawn].mean(-1))
                found.append(
                    {
                        "estimator": name,
                        "pairs": pairs,
                        "spearman": float(spearman.mean()),
                        "interval": [float(q) for q in np.quantile(spearman, (0.025, 0.975))],
                    }
                )
        return found


def _half_precision(full: _Study, half: _Study) -> list[Row]:
    """The same texts through a model of either precision: the change of truth and estimates."""
    rows, found = full.rows("rollouts", "right"), []
    for name in ("information", *FEEDBACK_ONLY):
        means = [
            study.per_response(
                study.found.information["right", "rollouts"]
                if name == "information"
                else study.expected("right", "rollouts", "model", name),
                rows,
            ).mean(1)
            for study in (full, half)
        ]
        found.append(
            {
                "quantity": name,
                "float32": _interval(means[0]),
                "bfloat16": _interval(means[1]),
                "change": _interval(means[1] - means[0]),
            }
        )
    return found


def _interval(by_question: Float[np.ndarray, " Q"]) -> list[float]:
    """Mean and 95 % interval over questions, normal."""
    mean = float(by_question.mean())
    half = _Z * float(by_question.std(ddof=1)) / math.sqrt(len(by_question))
    return [mean, mean - half, mean + half]
