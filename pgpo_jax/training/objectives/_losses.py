from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from pgpo_jax.distillation import (
    HeadLoss,
    PolicyLoss,
    modulation_weights,
    policy_head_loss,
    sdpo_head_loss,
)
from pgpo_jax.information import SIGNALS, outcome_contrast
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.rollout._experience import Experience
from pgpo_jax.training.update._state import TrainState, student_weights, teacher_weights


def response_states(
    graphdef: Any,
    weights: Any,
    batch: Experience,
    prompt: Array,
    prompt_mask: Bool[Array, "U P"],
    owner: Array | None,
) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
    """The hidden states that predict the responses behind some prompts, and the output head.

    Response token t is predicted from the hidden state one position before it.
    """
    model = nnx.merge(graphdef, weights)
    own, own_mask = batch.response[:, :-1], batch.response_mask[:, :-1]
    if owner is not None:
        states = model.continuation_states(prompt, prompt_mask, owner, own, own_mask)
        return states, model.head()
    tokens = jnp.concatenate([prompt, own], axis=1)
    mask = jnp.concatenate([prompt_mask, own_mask], axis=1)
    return model.hidden_states(tokens, mask)[:, prompt.shape[1] - 1 :], model.head()


def experience_loss(
    graphdef: Any,
    params: Any,
    state: TrainState,
    batch: Experience,
    config: TrainConfig,
    whole: dict[str, Any],
) -> HeadLoss:
    """The SDPO loss and the information of some rows; differentiable in `params` only.

    Each side reads the responses behind its own prompts. `whole` is the `denominator` of the batch
    that the rows are from.
    """

    def taught(weights: Any) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
        return response_states(
            graphdef,
            jax.lax.stop_gradient(weights),
            batch,
            batch.teacher_prompt,
            batch.teacher_prompt_mask,
            batch.teacher_prompt_owner,
        )

    student = student_weights(params, state.frozen, config.lora)
    student_hidden, student_head = response_states(
        graphdef, student, batch, batch.prompt, batch.prompt_mask, batch.prompt_owner
    )
    live = config.teacher.kind in ("live", "trust_region")
    teacher_hidden, teacher_head = taught(student if live else teacher_weights(state))
    mix: dict[str, Any] = {}
    if config.teacher.kind == "trust_region":
        reference_hidden, reference_head = taught(teacher_weights(state))
        mix = {
            "reference_hidden": reference_hidden,
            "reference_head": reference_head,
            "trust_region_rate": config.teacher.rate,
        }
    settings = config.loss
    estimator = config.information.estimator
    # What the head cannot measure by itself is made of the graded gain: see `of_batch`.
    signal = estimator if estimator in SIGNALS else "outcome"
    return sdpo_head_loss(
        student_hidden,
        teacher_hidden,
        student_head,
        teacher_head,
        batch.response,
        batch.response_mask,
        batch.sequence_mask,
        teacher_weight=settings.teacher_weight,
        support=settings.support,
        k=settings.k,
        temperature=config.rollout.temperature,
        reduction=settings.aggregation,
        signal_mask=batch.signal_mask,
        success=_success(batch, config) if signal == "outcome" else None,
        modulation=settings.modulation,
        alpha=config.information.alpha,
        rho_max=config.information.rho_max,
        rho_min=config.information.rho_min,
        estimator=signal,
        signal_reduction=config.information.reduction,
        sampler_logprobs=None if settings.rollout_clip is None else batch.sampler_logprobs,
        rollout_clip=settings.rollout_clip,
        chunk_size=settings.chunk,
        **whole,
        **mix,
    )


def of_batch(out: HeadLoss, batch: Experience, config: TrainConfig) -> HeadLoss:
    """`out` of a whole batch, with the information that cannot be pooled from parts of it."""
    if config.information.estimator != "outcome_contrast":
        return out
    contrast = outcome_contrast(
        out.student_logprobs,
        out.teacher_logprobs,
        _success(batch, config),
        batch.response_mask,
        batch.signal_mask,
        reduction=config.information.reduction,
    )
    return out._replace(information=contrast)


def _success(batch: Experience, config: TrainConfig) -> Bool[Array, " R"]:
    return batch.score >= config.teacher.success_threshold


def policy_gradient_loss(
    graphdef: Any,
    params: Any,
    state: TrainState,
    batch: Experience,
    config: TrainConfig,
    whole: dict[str, Any],
) -> PolicyLoss:
    """GRPO's loss of some rows; there is no teacher. The step is the first and only one of its
    batch, so that the ratio to the policy that the batch began with is 1 and no clip holds."""
    student = student_weights(params, state.frozen, config.lora)
    hidden, head = response_states(
        graphdef, student, batch, batch.prompt, batch.prompt_mask, batch.prompt_owner
    )
    settings = config.loss
    correction: dict[str, Any] = {}
    if settings.rollout_clip is not None:
        correction = {
            "sampler_logprobs": batch.sampler_logprobs,
            "rollout_clip": settings.rollout_clip,
        }
    assert batch.advantage is not None
    return policy_head_loss(
        hidden,
        head,
        batch.response,
        batch.advantage,
        batch.response_mask,
        batch.sequence_mask,
        temperature=config.rollout.temperature,
        reduction=settings.aggregation,
        chunk_size=settings.chunk,
        **correction,
        **whole,
    )


def _mean_over_loss(batch: Experience) -> Callable[[Float[Array, "R T"]], Float[Array, ""]]:
    """The mean over the response tokens of the sequences that enter the loss."""
    weight = (batch.response_mask & batch.sequence_mask[:, None]).astype(jnp.float32)
    total = jnp.maximum(weight.sum(), 1.0)
    return lambda per_token: jnp.sum(jnp.where(weight > 0, per_token, 0.0)) / total


def policy_metrics(out: PolicyLoss, batch: Experience) -> dict[str, Array]:
    """Means over the response tokens of the sequences that enter the loss."""
    mean = _mean_over_loss(batch)
    return {
        "loss": out.loss,
        "policy/student_entropy": mean(out.student_entropy),
        "rollout/importance_ratio": mean(jnp.exp(out.student_logprobs - batch.sampler_logprobs)),
    }


def signal_metrics(out: HeadLoss, batch: Experience, config: TrainConfig) -> dict[str, Array]:
    """Means over the response tokens of the sequences that enter the loss."""
    mean = _mean_over_loss(batch)
    ratio = jnp.exp(out.student_logprobs - batch.sampler_logprobs)
    modulated = {}
    if config.loss.modulation != "none":
        signal = config.information
        weights = modulation_weights(
            out.gain,
            batch.response_mask,
            level=config.loss.modulation,
            alpha=signal.alpha,
            rho_max=signal.rho_max,
            rho_min=signal.rho_min,
        )
        modulated = {"pgpo/weight": mean(weights)}
    return modulated | {
        "loss": out.loss,
        "pgpo/information": out.information,
        "self_distillation/divergence": mean(out.divergence),
        "self_distillation/student_entropy": mean(out.student_entropy),
        "self_distillation/teacher_entropy": mean(out.teacher_entropy),
        "self_distillation/teacher_log_ratio": mean(out.teacher_logprobs - out.student_logprobs),
        "rollout/importance_ratio": mean(ratio),
    }
