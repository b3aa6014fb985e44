"""The objective drift."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool

from pgpo_jax.distillation import TokenLoss, rebellious_weights, routed_loss
from pgpo_jax.training.config import DriftConfig
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.objectives._pass_rates import count_answers, difficulty, pass_rates
from pgpo_jax.training.objectives._router import Routed
from pgpo_jax.training.objectives._sdpo import ShownSolutions
from pgpo_jax.training.objectives._success_buffer import keep_successes, kept_success
from pgpo_jax.training.rollout._records import Rollout


@dataclass(frozen=True)
class DRIFT(Routed):
    """Routing by pass rate, with a buffer of successes (DRIFT, arXiv 2606.30345).

    Wrong responses to hard questions are distilled. Right responses to questions of medium
    difficulty are reinforced. Both have smooth weights by the pass rate of the question over all
    steps so far. Where nobody in the group is right, the teacher is shown a right response of an
    earlier step. Tokens of right responses that the teacher did not expect are reinforced more. A
    response without a teacher is reinforced with weight 1. The loss may be negative.

    The counts and the responses are the objective's memory, which is saved in each checkpoint.

    Args:
        teacher: which weights the teacher has and what it is shown.
        loss: the divergence and how it is reduced; one mean for both parts.
        information: the estimator of I, which is measured on the distilled responses.
        policy: the advantages.
        drift: the routing, the buffer and the bonus.

    References:
        https://arxiv.org/abs/2606.30345; pseudo-code of github.com/LianjiaTech/drift at d45aa0d.

    >>> DRIFT().drift.decay
    0.85

    Added in version 0.2.0.
    """

    drift: DriftConfig = DriftConfig()

    @property
    def columns(self) -> tuple[str, ...]:
        """The advantage of the response, and the weights of its losses and its bonus."""
        return ("advantage", "distil", "reinforce", "rebellious")

    def new_memory(self) -> dict[str, Any]:
        """Counts and right responses by question."""
        return {"counts": {}, "buffer": {}}

    def solutions(self, rollout: Rollout) -> ShownSolutions:
        """A right peer, or else a right response of an earlier step.

        The responses of this step are kept for later ones.
        """
        shown, memory = super().solutions(rollout), _memory(rollout)
        texts, settings = rollout.responses.texts, self.drift
        right = rollout.scores >= self.teacher.success_threshold
        earlier: dict[int, str] = {}
        sought = np.zeros(len(texts), bool)
        if rollout.step >= settings.buffer_from:
            sought = rollout.answered & (shown.peers < 0)
        for row in np.flatnonzero(sought).tolist():
            question = rollout.questions[rollout.owners[row]].id
            found = kept_success(
                memory["buffer"], question, texts[row], newest_first=settings.newest_first
            )
            if found is not None:
                earlier[row] = found
        for place, question in enumerate(rollout.questions):
            rows = range(place * rollout.samples, (place + 1) * rollout.samples)
            successes = [(float(rollout.scores[row]), texts[row]) for row in rows if right[row]]
            keep_successes(memory["buffer"], question.id, successes, rollout.step, settings)
        held = np.isin(np.arange(len(texts)), list(earlier))
        size = np.full(len(texts), len(memory["buffer"]))
        facts = {"from_buffer": held, "buffer_empty": sought & ~held, "buffer_size": size}
        return shown._replace(facts={**shown.facts, **facts}, texts=earlier)

    def routes(
        self, rollout: Rollout, taught: Bool[np.ndarray, " N"]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Soft weights by the pass rate, this step's answers included."""
        settings, counts = self.drift, _memory(rollout)["counts"]
        right = rollout.scores >= self.teacher.success_threshold
        if settings.warmup_steps and rollout.step == settings.warmup_steps:
            counts.clear()
        asked = [question.id for question in rollout.questions]
        groups = right.reshape(-1, rollout.samples)
        count_answers(counts, asked, groups, rollout.step, settings)
        rates = pass_rates(counts, asked, settings)[rollout.owners]
        hard, medium, easy = difficulty(rates, settings)
        if rollout.step < settings.warmup_steps:
            weights = {
                "distil": taught,
                "reinforce": np.zeros(len(taught)),
                "rebellious": 0 * rates,
            }
        else:
            weights = {
                "distil": taught * ~right * (0.35 * easy + hard),
                "reinforce": np.where(taught, right * (0.05 * easy + medium + 0.3 * hard), 1.0),
                "rebellious": taught * right * medium,
            }
        facts = {"pass_rate": rates, "hard": hard, "medium": medium, "easy": easy}
        return {name: np.asarray(x, np.float32) for name, x in weights.items()}, facts

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """Also the difficulty of the questions, and what the buffer had to show."""
        shares = ("pass_rate", "hard", "medium", "easy")
        return (
            super().row_metrics(rows, samples)
            | {f"router/{name}": float(rows[name].mean()) for name in shares}
            | {
                "buffer/questions": float(rows["buffer_size"].max()),
                "buffer/shown": float(rows["from_buffer"].sum()),
                "buffer/empty": float(rows["buffer_empty"].sum()),
            }
        )

    def token_loss(self, models: Models) -> TokenLoss:
        """The divergence and the policy loss with its bonus, each with its weight."""
        settings = self.drift
        bonus = partial(rebellious_weights, margin=settings.bonus_margin, most=settings.bonus_max)
        return routed_loss(super().token_loss(models), beta=0.0, bonus=bonus)


def _memory(rollout: Rollout) -> Mapping[str, Any]:
    assert rollout.memory is not None
    return rollout.memory
