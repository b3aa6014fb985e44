"""The objective reopold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax._categorical import entropy, log_probs, token_log_probs
from pgpo_jax.distillation import (
    HeadLoss,
    PolicyLoss,
    TokenLoss,
    advantage_loss,
    policy_head_loss,
    share_threshold,
)
from pgpo_jax.training.config import ReopoldConfig
from pgpo_jax.training.objectives._means import mean_over_loss
from pgpo_jax.training.objectives._models import Models, student_states, teacher_states
from pgpo_jax.training.objectives._opd import OPD, behind_one_prompt
from pgpo_jax.training.objectives._taught import Known, Passed
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout

# Hidden states and a head, made where they are needed.
_States = Callable[[], tuple[Float[Array, "R T D"], Float[Array, "D V"]]]


@dataclass(frozen=True)
class REOPOLD(OPD):
    r"""Relaxed on-policy distillation: the teacher's log-ratio as a bounded reward, in two phases.

    With R = log q(y) - log p(y) of a sampled token and a floor f, the loss is

    $$L = -\frac{\sum_t r_t\, \max(R_t, f)\, M_t}{\sum_t M_t}$$

    over all tokens of the batch. Before `switch_step` M is 1 where R is at least f, so tokens that
    are very unlikely for the teacher are left out. From then on M is 1 for the share of all tokens
    of the batch with the largest student entropy, and the floor bounds the reward.

    Both masks need the whole batch beforehand. If all rows are taken at once, this is one more
    product with the heads. With micro-batches it is one more pass, in the second phase of the
    student only.

    Args:
        teacher: of the kind `external`.
        loss: the form is that of the sampled advantage, the reduction `token_mean`.
        information: as of `OPD`, over all tokens.
        reopold: the floor, the phases and the mask.

    References:
        REOPOLD, https://arxiv.org/abs/2603.11137 (v1).

    >>> round(REOPOLD().reopold.floor, 2)
    -1.72

    Added in version 0.2.0.
    """

    reopold: ReopoldConfig = ReopoldConfig()

    @property
    def needs_whole_batch(self) -> bool:
        """True: the number of tokens that train, and the threshold of the entropy."""
        return True

    @property
    def learning_fraction(self) -> str:
        """The share of tokens that train."""
        return "reopold/kept_fraction"

    @property
    def columns(self) -> tuple[str, ...]:
        """Whether this is a step of the second phase."""
        return ("by_entropy",)

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps every response that has a token; the step decides the phase."""
        lesson = super().prepare(rollout)
        second = rollout.step >= self.reopold.switch_step
        phase = np.full(len(lesson.kept), second, np.float32)
        return lesson._replace(columns={"by_entropy": phase})

    def token_loss(self, models: Models) -> TokenLoss:
        """The bounded policy loss of the tokens that reach their threshold."""
        del models
        floor = self.reopold.floor

        def loss(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
            frozen, tokens = jax.lax.stop_gradient(student), chunk["tokens"]
            reached = jnp.where(
                chunk["by_entropy"] > 0,
                entropy(log_probs(frozen)),
                token_log_probs(teacher, tokens) - token_log_probs(frozen, tokens),
            )
            kept = reached >= chunk["threshold"]
            losses = advantage_loss(student, teacher, tokens=tokens, floor=floor)
            return jnp.where(kept, losses, 0.0)

        return loss

    def per_token(self, batch: Experience, known: Known) -> dict[str, Float[Array, "R T"]]:
        """The phase, and what a token must reach to train."""
        shape = batch.response_mask.shape
        return {
            "by_entropy": jnp.broadcast_to(_phase(batch), shape).astype(jnp.float32),
            "threshold": jnp.broadcast_to(known.denominators["threshold"], shape),
        }

    def beforehand(self, models: Models, batch: Experience) -> dict[str, Array]:
        """What each token has to reach its threshold with; -inf where there is none."""
        batch = behind_one_prompt(batch)
        # In the second phase the teacher is not passed.
        reached = self._reached(
            models,
            batch,
            lambda: student_states(models, batch),
            lambda: teacher_states(models, models.teacher, batch),
        )
        return {"reached": reached}

    def completed(
        self, models: Models, batch: Experience, denominators: dict[str, Any], passed: Passed
    ) -> dict[str, Any]:
        """The threshold, and the number of tokens of the whole batch that reach it."""
        reached = denominators.get("reached")
        if reached is None:
            reached = self._reached(models, batch, lambda: passed[:2], lambda: passed[2:4])
        counted = reached > -jnp.inf
        by_share = share_threshold(reached, counted, self.reopold.entropy_share)
        floor = jnp.asarray(self.reopold.floor, reached.dtype)
        threshold = jnp.where(_phase(batch), by_share, floor)
        kept = (counted & (reached >= threshold)).sum(dtype=jnp.int32)
        return {"threshold": threshold, "num_tokens": kept}

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """Also the share of tokens that train, and of those below the floor."""
        log_ratio = out.teacher_logprobs - out.student_logprobs
        below = (log_ratio < self.reopold.floor).astype(log_ratio.dtype)
        # A loss of 0 in the first phase may be that of equal probabilities.
        trained = (out.divergence != 0).astype(log_ratio.dtype)
        kept, counted = jnp.where(_phase(batch), trained, 1 - below), self.counted(batch)
        return super().metrics(out, batch) | {
            "reopold/kept_fraction": mean_over_loss(counted, kept),
            "reopold/below_floor_fraction": mean_over_loss(counted, below),
            "reopold/second_phase": _phase(batch),
        }

    def _reached(
        self, models: Models, batch: Experience, student: _States, teacher: _States
    ) -> Float[Array, "R T"]:
        """Entropies of the student in the second phase, log-ratios in the first."""

        def said(states: _States) -> PolicyLoss:
            return self._said(models, batch, *states())

        found = jax.lax.cond(
            _phase(batch),
            lambda: said(student).student_entropy,
            lambda: said(teacher).student_logprobs - said(student).student_logprobs,
        )
        valid = self.counted(batch).response_mask & batch.sequence_mask[:, None]
        return jax.lax.stop_gradient(jnp.where(valid, found, -jnp.inf))

    def _said(
        self,
        models: Models,
        batch: Experience,
        hidden: Float[Array, "R T D"],
        head: Float[Array, "D V"],
    ) -> PolicyLoss:
        """Log-probabilities and entropies of one model, without a gradient."""
        hidden, head = jax.lax.stop_gradient((hidden, head))
        return policy_head_loss(
            hidden,
            head,
            batch.response,
            jnp.zeros(batch.response.shape[0], jnp.float32),
            batch.response_mask,
            temperature=models.temperature,
            chunk_size=self.loss.chunk,
            sharding=models.head_sharding,
        )


def _phase(batch: Experience) -> Array:
    """Whether the batch is one of the second phase; padded rows hold 0."""
    assert batch.columns is not None
    return batch.columns["by_entropy"].max() > 0
