"""The studies on joint models of known information; each returns plain rows for `results.json`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import binomtest, rankdata

from experiments.estimators._joint import FAMILIES, Joint, draw_joint
from experiments.estimators._length import (
    LAWS,
    drawn_sequences,
    enumerate_lengths,
    position_means,
)
from experiments.estimators._moments import (
    FEEDBACK_ONLY,
    SIGNALS,
    drawn_estimates,
    exact_moments,
    mixture_estimates,
)
from experiments.estimators._variants import variants, varied_means
from pgpo_jax import multiplier

Row = dict[str, Any]


@dataclass(frozen=True)
class DiscreteConfig:
    """The joint models and the batches drawn from them."""

    vocabularies: tuple[int, ...] = (2, 16, 256, 4096, 50_000)
    """Words V."""
    information: tuple[float, ...] = (0.01, 0.05, 0.25)
    """I(Y; F) of the models, nats."""
    feedbacks: int = 64
    """Values of f, all equally likely."""
    models: int = 3
    """Random models of each family, vocabulary and information."""
    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Independent pairs of feedback and word in a batch."""
    repeats: int = 256
    """Batches drawn of each size."""
    rank_models: int = 16
    """Models of different information that are to be ranked."""
    rank_range: tuple[float, float] = (0.005, 0.3)
    """Their information, nats, evenly spaced in the logarithm."""
    lengths: tuple[int, ...] = (1, 4, 16, 64)
    """Tokens of a response."""
    sequences: int = 8192
    """Responses drawn."""
    temperatures: tuple[float, ...] = (0.6, 0.8, 1.25)
    top: tuple[int, ...] = (1, 20, 100, 1000)
    """k of the truncations."""
    mixtures: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Teachers whose mean serves as the student."""
    alphas: tuple[float, ...] = (1.0, 10.0)
    """Of the multiplier, per nat."""
    rho_max: float = 2.0


def cells(config: DiscreteConfig, key: jax.Array) -> Iterator[tuple[Row, Joint, jax.Array]]:
    """Every joint model of the design with its description and a key of its own."""
    number = 0
    for family in FAMILIES:
        for vocabulary in config.vocabularies:
            for aim in config.information:
                for model in range(config.models):
                    own = jax.random.fold_in(key, number)
                    number += 1
                    joint = draw_joint(own, family, vocabulary, config.feedbacks, jnp.float64(aim))
                    what = {
                        "family": family,
                        "vocabulary": vocabulary,
                        "aim": aim,
                        "model": model,
                        "information": float(joint.information),
                    }
                    yield what, joint, jax.random.fold_in(own, 1)


def study_batches(config: DiscreteConfig, key: jax.Array) -> dict[str, list[Row]]:
    """Bias, spread, signs, variants and multipliers of every cell.

    Returns:
        Rows by the names `moments`, `variants`, `mixtures` and `multipliers`. `moments` has one row
        per model, estimator and batch size. It holds the exact and the drawn bias and standard
        error, and the share of negative estimates with its 95 % Wilson interval.
    """
    found: dict[str, list[Row]] = {
        name: [] for name in ("moments", "variants", "mixtures", "multipliers")
    }
    for what, joint, own in cells(config, key):
        exact = exact_moments(joint)
        drawn = drawn_estimates(joint, own, config.batches, config.repeats)
        for name in SIGNALS:
            moments = [float(x) for x in exact[name]]
            estimates = np.asarray(drawn[name])
            for size, column in zip(config.batches, estimates.T, strict=True):
                row = what | {"estimator": name, "batch": size}
                found["moments"].append(row | _moments_row(row, moments, column))
                if what["model"] == 0:
                    found["multipliers"] += [
                        row | _multiplier_row(what["information"], column, alpha, config.rho_max)
                        for alpha in config.alphas
                    ]
        if what["model"] == 0:
            found["variants"] += _variant_rows(what, joint, config)
            found["mixtures"] += _mixture_rows(what, joint, own, config)
    return found


def _moments_row(row: Row, moments: list[float], drawn: np.ndarray) -> Row:
    mean, sd = moments
    size, n = row["batch"], len(drawn)
    negative = binomtest(int((drawn < 0).sum()), n)
    ends = negative.proportion_ci(method="wilson")
    error = sd / np.sqrt(size)
    return {
        "bias": mean - row["information"],
        "standard_error": error,
        "repeats": n,
        "drawn_bias": float(drawn.mean()) - row["information"],
        "drawn_bias_error": float(drawn.std(ddof=1)) / np.sqrt(n),
        "drawn_standard_error": float(drawn.std(ddof=1)),
        "z": float((drawn.mean() - mean) / (error / np.sqrt(n))) if error > 0 else 0.0,
        "negative": [negative.statistic, ends.low, ends.high],
    }


def _multiplier_row(truth: float, drawn: np.ndarray, alpha: float, rho_max: float) -> Row:
    rho = np.asarray(multiplier(jnp.asarray(drawn), alpha, rho_max))
    ideal = float(multiplier(truth, alpha, rho_max))
    return {
        "alpha": alpha,
        "rho_of_truth": ideal,
        "mean": float(rho.mean()),
        "sd": float(rho.std(ddof=1)),
        "quantiles": [float(q) for q in np.quantile(rho, (0.01, 0.99))],
        "capped": float((rho >= rho_max).mean()),
    }


def _variant_rows(what: Row, joint: Joint, config: DiscreteConfig) -> list[Row]:
    rows = []
    for variant in variants(config.temperatures, config.top):
        if what["vocabulary"] <= variant.words:
            continue
        means = varied_means(joint.student, joint.teachers, variant.prepare)
        rows += [
            what
            | {
                "variant": variant.kind,
                "setting": variant.setting,
                "estimator": name,
                "bias": float(mean) - what["information"],
            }
            for name, mean in means.items()
        ]
    return rows


def _mixture_rows(what: Row, joint: Joint, key: jax.Array, config: DiscreteConfig) -> list[Row]:
    # A mixture of thousands of words differs in cost only.
    if what["vocabulary"] > 256:
        return []
    rows = []
    for shown in config.mixtures:
        drawn = np.asarray(mixture_estimates(joint, key, shown, config.repeats))
        rows.append(
            what
            | {
                "shown": shown,
                "mean": float(drawn.mean()),
                "standard_error": float(drawn.std(ddof=1)),
                "mean_error": float(drawn.std(ddof=1)) / np.sqrt(len(drawn)),
            }
        )
    return rows


def study_ranks(config: DiscreteConfig, key: jax.Array) -> list[Row]:
    """Spearman's correlation of estimate and information over models of different information.

    The interval is that of single rankings: 95 % of drawn sets of batches fall into it.
    """
    low, high = np.log(config.rank_range)
    aims = np.exp(np.linspace(low, high, config.rank_models))
    rows = []
    for family in FAMILIES:
        for vocabulary in config.vocabularies:
            truths, estimates = [], {name: [] for name in SIGNALS}
            for number, aim in enumerate(aims):
                own = jax.random.fold_in(jax.random.fold_in(key, vocabulary), number)
                joint = draw_joint(own, family, vocabulary, config.feedbacks, jnp.float64(aim))
                truths.append(float(joint.information))
                drawn = drawn_estimates(
                    joint, jax.random.fold_in(own, 1), config.batches, config.repeats // 4
                )
                for name, values in drawn.items():
                    estimates[name].append(np.asarray(values))
            for name, values in estimates.items():
                spearman = spearman_columns(np.array(truths), np.stack(values))
                for size, column in zip(config.batches, spearman.T, strict=True):
                    rows.append(
                        {
                            "family": family,
                            "vocabulary": vocabulary,
                            "estimator": name,
                            "batch": size,
                            "spearman": float(column.mean()),
                            "interval": [float(q) for q in np.quantile(column, (0.025, 0.975))],
                        }
                    )
    return rows


def spearman_columns(truth: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """Spearman's correlation of `truth` [n] with each column of `estimates` [n, ...].

    >>> spearman_columns(np.array([1.0, 2.0, 3.0]), np.array([[1.0, 9.0], [4.0, 5.0], [8.0, 2.0]]))
    array([ 1., -1.])
    """
    ranks = rankdata(estimates, axis=0)
    own = rankdata(truth).reshape(-1, *[1] * (estimates.ndim - 1))
    ranks, own = ranks - ranks.mean(0), own - own.mean(0)
    norm = np.sqrt((ranks**2).sum(0) * (own**2).sum(0))
    return np.divide((ranks * own).sum(0), norm, out=np.zeros_like(norm), where=norm > 0)


def study_lengths(config: DiscreteConfig, key: jax.Array) -> list[Row]:
    """Estimates per token of responses of several lengths, for both laws."""
    rows = []
    for aim in config.information:
        joint = draw_joint(key, "dense", 2, 8, jnp.float64(aim))
        lengths = enumerate_lengths(joint, max(config.lengths))
        for law in LAWS:
            means = position_means(lengths, law)
            drawn = drawn_sequences(joint, lengths, key, law, config.sequences)
            for length in config.lengths:
                truth = float(jnp.mean(lengths.information[:length]))
                for name in FEEDBACK_ONLY:
                    single = np.asarray(drawn[name])[:, :length].mean(1)
                    rows.append(
                        {
                            "aim": aim,
                            "law": law,
                            "length": length,
                            "estimator": name,
                            "information": truth,
                            # With feedback that is independent of the words so far.
                            "independent_information": float(joint.information),
                            "mean": float(jnp.mean(means[name][:length])),
                            "drawn_mean": float(single.mean()),
                            "sequence_sd": float(single.std(ddof=1)),
                        }
                    )
    return rows
