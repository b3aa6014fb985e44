from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from pgpo_jax.distillation import HeadLoss, modulation_weights, sdpo_head_loss
from pgpo_jax.training._accumulate import accumulated_gradient
from pgpo_jax.training._config import TrainConfig
from pgpo_jax.training._control import MEASURED, SignalControl
from pgpo_jax.training._experience import Experience
from pgpo_jax.training._state import (
    TrainState,
    moved_teacher,
    student_weights,
    teacher_weights,
)

Metrics = dict[str, Float[Array, ""]]


def make_train_step(
    graphdef: Any,
    optimizer: optax.GradientTransformationExtraArgs,
    config: TrainConfig,
    *,
    layout: TrainState | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Builds the jitted step: both forward passes, the loss and the signal, and the update.

    The step is compiled once per shape of its `Experience`. Its state is donated. A gradient that
    is not finite, or a batch in which no sequence has a teacher signal, changes nothing but the
    counters: neither weights, moments, the memory of the multiplier nor the teacher move.

    Args:
        graphdef: the structure of the model, from `nnx.split`.
        optimizer: takes `information` (nats) and `value` (the loss) as extra arguments.
        config: the settings of loss, teacher and signal.
        layout: the sharding of every array of the state, if it lives on a mesh.

    Returns:
        `step(state, experience, control=MEASURED) -> (state, metrics)`, metrics being float32
        scalars; `control` decides what the multiplier is given.
    """

    def train_step(
        state: TrainState, batch: Experience, control: SignalControl = MEASURED
    ) -> tuple[TrainState, Metrics]:
        whole = denominator(batch, config)

        def loss_of(params: Any, rows: Experience) -> HeadLoss:
            return experience_loss(graphdef, params, state, rows, config, whole)

        grads, out = accumulated_gradient(
            loss_of, state.params, batch, config.optimizer.micro_batch
        )
        signal = control(out.information)
        # optax's Adam mixes float32 with its int32 count, which a strict regime would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(
                grads, state.opt_state, state.params, information=signal, value=out.loss
            )
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(grad_norm)
        applies = finite & batch.sequence_mask.any()

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(applies, a, b), new, old)

        params = keep(optax.apply_updates(state.params, updates), state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            teacher=moved_teacher(state.teacher, params, applies, config),
            opt_state=keep(opt_state, state.opt_state),
            skipped=jnp.where(finite, 0, state.skipped + 1).astype(jnp.int32),
            frozen=state.frozen,
        )
        metrics = _signal_metrics(out, batch, config) | {
            "pgpo/signal": signal,
            "optimizer/grad_norm": grad_norm,
            "optimizer/update_norm": optax.tree.norm(updates),
            "optimizer/applied": applies,
        }
        # An optimizer without the multiplier is welcome, too: it has no such numbers.
        counted = optax.tree.get(new_state.opt_state, "clipped_count")
        if counted is not None:
            metrics |= {
                "pgpo/rho": optax.tree.get(opt_state, "rho"),
                "pgpo/alpha": optax.tree.get(state.opt_state, "alpha", config.alpha),
                "pgpo/clipped_count": counted,
                "pgpo/nonfinite_count": optax.tree.get(new_state.opt_state, "nonfinite_count"),
            }
        return new_state, {name: jnp.float32(value) for name, value in metrics.items()}

    # Without a fixed layout XLA may choose another one for the output, and the second call would
    # compile anew.
    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=None if layout is None else (layout, None),
    )


def denominator(batch: Experience, config: TrainConfig) -> dict[str, Any]:
    """What the loss of a whole batch is divided by, as keywords of `sdpo_head_loss`.

    Sequences that were dropped for want of a teacher signal count among the sequences; their
    tokens do not count among the tokens.
    """
    if config.loss.aggregation == "token_mean":
        valid = batch.response_mask & batch.sequence_mask[:, None]
        return {"num_tokens": valid.sum(dtype=jnp.int32)}
    return {"num_sequences": config.loss_sequences}


def experience_loss(
    graphdef: Any,
    params: Any,
    state: TrainState,
    batch: Experience,
    config: TrainConfig,
    whole: dict[str, Any],
) -> HeadLoss:
    """The SDPO loss and the information of some rows; differentiable in `params` only.

    Response token t is predicted from the hidden state one position before it, on each side
    behind that side's own prompt. `whole` is the `denominator` of the batch the rows are from.
    """

    def side(
        weights: Any, prompt: Array, prompt_mask: Bool[Array, "U P"], owner: Array | None
    ) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
        model = nnx.merge(graphdef, weights)
        own, own_mask = batch.response[:, :-1], batch.response_mask[:, :-1]
        if owner is not None:
            states = model.continuation_states(prompt, prompt_mask, owner, own, own_mask)
            return states, model.head()
        tokens = jnp.concatenate([prompt, own], axis=1)
        mask = jnp.concatenate([prompt_mask, own_mask], axis=1)
        return model.hidden_states(tokens, mask)[:, prompt.shape[1] - 1 :], model.head()

    def taught(weights: Any) -> tuple[Float[Array, "R T D"], Float[Array, "D V"]]:
        return side(
            jax.lax.stop_gradient(weights),
            batch.teacher_prompt,
            batch.teacher_prompt_mask,
            batch.teacher_prompt_owner,
        )

    student = student_weights(params, state.frozen, config.lora)
    student_hidden, student_head = side(
        student, batch.prompt, batch.prompt_mask, batch.prompt_owner
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
    success = None
    if config.information.estimator == "outcome":
        success = batch.score >= config.teacher.success_threshold
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
        mode=settings.aggregation,
        signal_mask=batch.signal_mask,
        success=success,
        modulation=settings.modulation,
        alpha=config.information.alpha,
        rho_max=config.information.rho_max,
        rho_min=config.information.rho_min,
        information=config.information.estimator,
        information_reduction=config.information.reduction,
        old_logprobs=None if settings.rollout_clip is None else batch.sampler_logprobs,
        is_clip=settings.rollout_clip,
        chunk_size=settings.chunk,
        **whole,
        **mix,
    )


def _signal_metrics(out: HeadLoss, batch: Experience, config: TrainConfig) -> dict[str, Array]:
    """Means over the response tokens of the sequences that enter the loss."""
    weight = (batch.response_mask & batch.sequence_mask[:, None]).astype(jnp.float32)
    total = jnp.maximum(weight.sum(), 1.0)

    def mean(per_token: Float[Array, "R T"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(weight > 0, per_token, 0.0)) / total

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
