"""State and compiled step of a configuration, for models that are made here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import optax

from pgpo_jax.training import TrainConfig, TrainState, init_state, make_train_step


def without_multiplier(config: TrainConfig) -> TrainConfig:
    """The same run as plain SDPO: alpha is 0."""
    return replace(config, information=replace(config.information, alpha=0.0))


def first_state(
    params: Any,
    config: TrainConfig,
    optimizer: optax.GradientTransformation | None = None,
    mesh: Any = None,
    external: Any = None,
) -> TrainState:
    """The state before the first step.

    Args:
        params: weights of the model. The step donates them.
        config: of the run.
        optimizer: instead of the configuration's own.
        mesh: where the weights lie; `None` for one device.
        external: weights of another model that is the teacher. The step donates them, too.

    Returns:
        The state, laid out on the mesh.
    """
    optimizer = config.make_optimizer() if optimizer is None else optimizer
    teacher = config.make_objective().teacher_settings
    return init_state(
        params, optimizer, teacher, mesh, lora=config.lora, seed=config.seed, external=external
    )


def jitted_step(
    graphdef: Any,
    config: TrainConfig,
    optimizer: optax.GradientTransformationExtraArgs | None = None,
    layout: TrainState | None = None,
    teacher_graphdef: Any = None,
) -> Any:
    """The jitted step of a run: `step(state, batch) -> (state, metrics, tokens)`.

    Args:
        graphdef: structure of the model.
        config: of the run.
        optimizer: instead of the configuration's own.
        layout: the sharding of every array of the state, on a mesh.
        teacher_graphdef: structure of another model that is the teacher.

    Returns:
        A jitted function; it has `lower`.
    """
    return make_train_step(
        graphdef,
        config.make_optimizer() if optimizer is None else optimizer,
        config.make_objective().program(),
        sequences=config.rollout.rows,
        temperature=config.rollout.temperature,
        lora=config.lora,
        micro_batch=config.optimizer.micro_batch,
        layout=layout,
        teacher_graphdef=teacher_graphdef,
    )
