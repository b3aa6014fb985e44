"""The jitted training step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from pgpo_jax.training.config import LoRAConfig
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.objectives._movement import policy_movement
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.update._accumulate import accumulated_gradient, measured_beforehand
from pgpo_jax.training.update._apply import applied_or_skipped, budget_state, multiplier_state
from pgpo_jax.training.update._state import (
    TrainState,
    student_weights,
    teacher_weights,
    update_teacher,
)

Metrics = dict[str, Float[Array, ""]]
Tokens = dict[str, Float[Array, "shown T"]]


def make_train_step(
    graphdef: Any,
    optimizer: optax.GradientTransformationExtraArgs,
    objective: Objective,
    *,
    sequences: int,
    temperature: float = 1.0,
    lora: LoRAConfig = LoRAConfig(),
    micro_batch: int | None = None,
    layout: TrainState | None = None,
    teacher_graphdef: Any = None,
) -> Callable[..., tuple[TrainState, Metrics, Tokens]]:
    """Build the jitted step: the forward passes, the loss and the signal, and the update.

    The step is compiled once per shape of its `Experience`. Its state is donated. If a gradient is
    not finite, or no sequence of a batch trains, only the counters change. Weights, moments, the
    state of the multiplier and the teacher do not.

    Args:
        graphdef: structure of the model, from `nnx.split`.
        optimizer: optimizer whose `update` gets `information` (nats) and `value` (the loss) as
            extra arguments.
        objective: objective with loss, signal and metrics.
        sequences: number of responses of a step, including those that do not train.
        temperature: temperature that divides the logits.
        lora: settings of the factors, if the state has any.
        micro_batch: number of rows that go through the model at a time; `None` means all.
        layout: sharding of every array of the state, if it is on a mesh.
        teacher_graphdef: structure of the teacher, if it is another model.

    Returns:
        `step(state, experience, shown=None, numbers=None) -> (state, metrics, tokens)`: metrics are
        float32 scalars, tokens are the numbers per response token of `Objective.tokens`, of the
        rows that `shown` (int32) names. `numbers` are handed to the optimizer, if they are given;
        see `make_optimizer`.
    """

    def train_step(
        state: TrainState,
        batch: Experience,
        shown: Int[Array, " shown"] | None = None,
        numbers: Mapping[str, Float[Array, ""]] | None = None,
    ) -> tuple[TrainState, Metrics, Tokens]:
        denominators = objective.denominators(batch, sequences)

        def models_of(params: Any) -> Models:
            student = student_weights(params, state.frozen, lora)
            teacher = teacher_weights(state)
            return Models(graphdef, student, teacher, temperature, teacher_graphdef)

        if objective.needs_whole_batch:
            denominators |= measured_beforehand(
                lambda rows: objective.beforehand(models_of(state.params), rows),
                batch,
                micro_batch,
            )

        def loss_of(params: Any, rows: Experience) -> Any:
            return objective.loss_of_rows(models_of(params), rows, denominators)

        grads, out = accumulated_gradient(
            loss_of,
            state.params,
            batch,
            micro_batch,
            objective.combine,
            in_place=_adds_in_place(graphdef, state, objective),
        )
        if layout is not None:
            # The gradient gets the sharding of the weights. Otherwise the optimizer runs in the
            # layout of the loss, and its moments move between devices.
            grads = jax.lax.with_sharding_constraint(grads, layout.params)
        measured = objective.signal(out, batch)
        information = jnp.zeros([], jnp.float32) if measured is None else measured
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(grad_norm)
        applies = finite & batch.sequence_mask.any()

        def update(grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
            def movement(updates: Any) -> Float[Array, ""]:
                after = student_weights(optax.apply_updates(params, updates), state.frozen, lora)
                return policy_movement(models_of(params), after, batch)

            more: dict[str, Any] = {} if numbers is None else {"numbers": numbers}
            if budget_state(opt_state) is not None:
                more["movement"] = movement
            # optax's Adam mixes float32 with its int32 count, which a strict regime would refuse.
            with jax.numpy_dtype_promotion("standard"):
                return optimizer.update(
                    grads, opt_state, params, information=information, value=out.loss, **more
                )

        params, opt_state, update_norm = applied_or_skipped(
            update, grads, state.params, state.opt_state, applies
        )
        tried = opt_state
        if budget_state(opt_state) is None:
            # What the multiplier says in a step that is skipped. Only its scalars are computed.
            tried = update(grads, state.opt_state, state.params)[1]
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            teacher=update_teacher(
                state.teacher,
                params,
                applies,
                objective.teacher_settings,
                lora,
                done=state.step + 1,
            ),
            opt_state=opt_state,
            skipped=jnp.where(finite, 0, state.skipped + 1).astype(jnp.int32),
            frozen=state.frozen,
            external=state.external,
        )
        metrics = objective.metrics(out, batch) | {
            "optimizer/grad_norm": grad_norm,
            "optimizer/update_norm": update_norm,
            "optimizer/applied": applies,
        }
        metrics |= _multiplier_metrics(measured, tried, opt_state, state.opt_state)
        scalars = {name: jnp.float32(value) for name, value in metrics.items()}
        # Only a few rows leave the device. Whole arrays as outputs would also change how XLA sums
        # the means of the same numbers, and so their last digits.
        tokens = {} if shown is None else objective.tokens(out)
        return new_state, scalars, {name: x[shown] for name, x in tokens.items()}

    # Without a fixed layout XLA may choose another one for the output. The second call would then
    # compile again.
    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=None if layout is None else (layout, None, None),
    )


def _adds_in_place(graphdef: Any, state: TrainState, objective: Objective) -> bool:
    """Whether the gradient of each layer can be added directly, because no layer output is
    stored.
    """
    if state.frozen is not None or not objective.one_pass:
        return False
    remat = getattr(nnx.merge(graphdef, state.params), "remat", None)
    return remat in (True, "nothing_saveable")


def _multiplier_metrics(
    measured: Array | None, tried: Any, kept: Any, before: Any
) -> dict[str, Array]:
    """Input and output of the multiplier; an optimizer without one has no such numbers.

    Args:
        measured: signal of the objective.
        tried: optimizer state after the update, even if that is not applied.
        kept: state at the end of the step.
        before: state at the beginning of the step.
    """
    metrics = {} if measured is None else {"pgpo/information": measured}
    budget = budget_state(tried)
    if budget is not None:
        metrics["pgpo/movement"] = budget.movement
    given, counted = multiplier_state(tried), multiplier_state(kept)
    if given is None or counted is None:
        return metrics
    alphas = [value for _, value in optax.tree.get_all_with_path(before, "alpha")]
    return (
        metrics
        | ({} if measured is None else {"pgpo/signal": given.information})
        | ({"pgpo/alpha": alphas[-1]} if alphas else {})
        | {
            "pgpo/rho": given.rho,
            "pgpo/clipped_count": counted.clipped_count,
            "pgpo/nonfinite_count": counted.nonfinite_count,
        }
    )
