from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from pgpo_jax.distillation import HeadLoss, PolicyLoss
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.objectives._control import MEASURED, SignalControl
from pgpo_jax.training.objectives._losses import (
    experience_loss,
    of_batch,
    policy_gradient_loss,
    policy_metrics,
    signal_metrics,
)
from pgpo_jax.training.rollout._experience import Experience
from pgpo_jax.training.update._accumulate import accumulated_gradient
from pgpo_jax.training.update._state import TrainState, update_ema_teacher

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

        loss_fn = policy_gradient_loss if config.method == "grpo" else experience_loss

        def loss_of(params: Any, rows: Experience) -> HeadLoss | PolicyLoss:
            return loss_fn(graphdef, params, state, rows, config, whole)

        grads, out = accumulated_gradient(
            loss_of, state.params, batch, config.optimizer.micro_batch
        )
        if isinstance(out, HeadLoss):
            out = of_batch(out, batch, config)
            signal = control(out.information)
            metrics = signal_metrics(out, batch, config) | {"pgpo/signal": signal}
        else:
            signal, metrics = jnp.zeros([], jnp.float32), policy_metrics(out, batch)
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
            teacher=update_ema_teacher(state.teacher, params, applies, config),
            opt_state=keep(opt_state, state.opt_state),
            skipped=jnp.where(finite, 0, state.skipped + 1).astype(jnp.int32),
            frozen=state.frozen,
        )
        metrics |= {
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
