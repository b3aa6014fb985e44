"""What the multiplier inherits along a real run: all signals on the same batches, and on a probe.

The probe is one batch that is never trained on: what changes there is the weights' doing alone.
"""

import dataclasses
import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from pgpo_jax import multiplier
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.information import REDUCTIONS, mean_over
from pgpo_jax.training import (
    PRESETS,
    SDPO,
    Experience,
    Models,
    Trainer,
    TrainState,
)

Row = dict[str, Any]
_PROBE_STEP = 1_000_000


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Short runs of the `tiny` preset with SDPO, whose signal is recorded."""

    runs: int = 2
    """Seeds."""
    steps: int = 20
    alphas: tuple[float, ...] = (1.0, 10.0)
    """Of the multiplier, per nat."""
    rho_max: float = 2.0

    def __post_init__(self) -> None:
        # The first step of a warm-up has length 0, and a change along the run needs two states.
        if self.steps < 3:
            raise PGPOValueError(f"RunConfig.steps must be at least 3, got {self.steps}")


class Recorded(NamedTuple):
    """One run; every value is per token and nats, keyed by estimator.

    Attributes:
        batches, probe: values on the batch of each step, and on the probe before each step.
        masks: response tokens with a teacher signal; of the batch of each step, and of the probe.
        questions: which question each row of a batch answers.
        moved: Euclidean length of each update of the weights.
        reported: I_k of each step in the trainer's own metrics.
    """

    batches: list[dict[str, Float[np.ndarray, "R T"]]]
    probe: list[dict[str, Float[np.ndarray, "R T"]]]
    masks: list[np.ndarray]
    probe_mask: np.ndarray
    questions: list[np.ndarray]
    moved: list[float]
    reported: list[float]


def record_run(config: RunConfig, seed: int) -> Recorded:
    """Trains and records; alpha is 0, so that no signal acts on the run."""
    preset = PRESETS["tiny"]
    idle = dataclasses.replace(preset.information, alpha=0.0)
    settings = dataclasses.replace(preset, information=idle, steps=config.steps, seed=seed)
    trainer = Trainer(*settings.build(), **settings.trainer_settings())
    state = trainer.initial_state
    probe = _experience(trainer, state._replace(step=jnp.asarray(_PROBE_STEP, jnp.int32)))
    found = Recorded([], [], [], _mask(probe), [], [], [])
    for _ in range(config.steps):
        batch = _experience(trainer, state)
        found.batches.append(_signals(trainer, state, batch))
        found.probe.append(_signals(trainer, state, probe))
        found.masks.append(_mask(batch))
        found.questions.append(_questions(batch))
        before = np.asarray(ravel_pytree(state.params)[0])
        state, report = trainer.step(state)
        found.reported.append(report.metrics["pgpo/information"])
        found.moved.append(
            float(np.linalg.norm(np.asarray(ravel_pytree(state.params)[0]) - before))
        )
    return found


def _experience(trainer: Trainer, state: TrainState) -> Experience:
    rollout = trainer.graded(state, *trainer.respond(state))
    return trainer.packed(rollout, trainer.objective.prepare(rollout))[0]


def _mask(batch: Experience) -> np.ndarray:
    return np.asarray(batch.response_mask) & np.asarray(batch.sequence_mask)[:, None]


def _questions(batch: Experience) -> np.ndarray:
    prompts = np.asarray(batch.prompt)
    if batch.prompt_owner is not None:
        prompts = prompts[np.asarray(batch.prompt_owner)]
    return np.unique(prompts, axis=0, return_inverse=True)[1].ravel()


def _signals(
    trainer: Trainer, state: TrainState, batch: Experience
) -> dict[str, Float[np.ndarray, "R T"]]:
    objective = trainer.objective
    assert isinstance(objective, SDPO)
    values = _per_token(
        trainer.policy.graphdef,
        objective,
        trainer.rollout_settings.temperature,
        (state.params, state.teacher),
        batch,
    )
    return {name: np.asarray(v, np.float64) for name, v in values.items()}


@ft.partial(jax.jit, static_argnums=(0, 1, 2))
def _per_token(
    graphdef: Any, objective: SDPO, temperature: float, weights: tuple[Any, Any], batch: Experience
) -> dict[str, Float[Array, "R T"]]:
    """All four estimators, from the passes of the loss itself at its two weights."""

    def loss(weight: float) -> Any:
        settings = dataclasses.replace(objective.loss, teacher_weight=weight, support="full")
        varied = dataclasses.replace(objective, loss=settings)
        models = Models(graphdef, *weights, temperature)
        return varied.loss_of_rows(models, batch, varied.denominators(batch, len(batch.score)))

    kl, js = loss(0.0), loss(0.5)
    return {
        "entropy": kl.student_entropy - kl.teacher_entropy,
        "kl": kl.divergence,
        "js": js.divergence,
        "pointwise": kl.teacher_logprobs - kl.student_logprobs,
    }


def signal_series(
    values: list[dict[str, np.ndarray]], masks: list[np.ndarray], name: str, reduction: str
) -> np.ndarray:
    """I_k of one estimator, by step."""
    return np.array(
        [
            float(mean_over(jnp.asarray(v[name], jnp.float32), jnp.asarray(m), None, reduction))
            for v, m in zip(values, masks, strict=True)
        ]
    )


def run_rows(recorded: Recorded, config: RunConfig, seed: int) -> list[Row]:
    """The multiplier of each estimator, reduction and alpha along one run."""
    rows = []
    probes = [recorded.probe_mask] * len(recorded.probe)
    for name in recorded.probe[0]:
        for reduction in REDUCTIONS:
            signal = signal_series(recorded.batches, recorded.masks, name, reduction)
            fixed = signal_series(recorded.probe, probes, name, reduction)
            for alpha in config.alphas:
                rho, still = (
                    np.asarray(multiplier(jnp.asarray(x), alpha, config.rho_max))
                    for x in (signal, fixed)
                )
                moved = np.array(recorded.moved[:-1])
                quotients = np.abs(np.diff(still))[moved > 0] / moved[moved > 0]
                rows.append(
                    {
                        "seed": seed,
                        "estimator": name,
                        "reduction": reduction,
                        "alpha": alpha,
                        "information": signal.tolist(),
                        "probe_information": fixed.tolist(),
                        "rho": rho.tolist(),
                        "negative": float((signal < 0).mean()),
                        "mean": float(rho.mean()),
                        "sd": float(rho.std(ddof=1)),
                        "lowest": float(rho.min()),
                        "highest": float(rho.max()),
                        "capped": float((rho >= config.rho_max).mean()),
                        "step_change": float(np.abs(np.diff(rho)).max()),
                        "median_step_change": float(np.median(np.abs(np.diff(rho)))),
                        "probe_step_change": float(np.abs(np.diff(still)).max()),
                        "median_probe_step_change": float(np.median(np.abs(np.diff(still)))),
                        "lipschitz": float(quotients.max()),
                        "median_lipschitz": float(np.median(quotients)),
                    }
                )
    return rows


def error_rows(recorded: Recorded, seed: int) -> list[Row]:
    """The standard error of I_k in one step: rows taken as independent, and by question."""
    rows = []
    for name in recorded.batches[0]:
        naive, clustered, level = [], [], []
        for values, mask, question in zip(
            recorded.batches, recorded.masks, recorded.questions, strict=True
        ):
            kept = mask.any(1)
            tokens = np.maximum(mask.sum(1), 1)
            means = (np.where(mask, values[name], 0.0).sum(1) / tokens)[kept]
            excess = means - means.mean()
            groups = np.bincount(question[kept], weights=excess)
            count = len(np.unique(question[kept]))
            if count < 2:
                continue
            level.append(means.mean())
            naive.append(means.var(ddof=1) / len(means))
            clustered.append((groups**2).sum() / len(means) ** 2 * count / (count - 1))
        rows.append(
            {
                "seed": seed,
                "estimator": name,
                "information": float(np.mean(level)),
                "standard_error": float(np.sqrt(np.mean(naive))),
                "standard_error_by_question": float(np.sqrt(np.mean(clustered))),
                "design_effect": float(np.mean(clustered) / np.mean(naive)),
            }
        )
    return rows
