"""State, batch and step of a run as shapes, dtypes and shardings, without any array."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from pgpo_jax.models import Decoder, DecoderConfig, abstract_params, partition_spec
from pgpo_jax.models._sharding import target_platform
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._shapes import teacher_shape
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._buckets import bucket
from pgpo_jax.training.update._state import TrainState, init_state
from pgpo_jax.training.update._step import make_train_step


def abstract_state(
    config: TrainConfig,
    shape: DecoderConfig,
    mesh: Mesh | AbstractMesh | None,
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> TrainState:
    """The state of a run as shapes, dtypes and shardings, for its own optimizer or another."""
    params = abstract_params(shape, jnp.dtype(config.param_dtype))
    other = teacher_shape(config)
    external = None if other is None else abstract_params(other, jnp.dtype(config.param_dtype))
    optimizer = config.make_optimizer() if optimizer is None else optimizer
    teacher = config.make_objective().teacher_settings
    state = jax.eval_shape(
        lambda params, external: init_state(
            params, optimizer, teacher, lora=config.lora, external=external
        ),
        params,
        external,
    )

    return placed(state, mesh)


def abstract_experience(config: TrainConfig, mesh: Mesh | None) -> Experience:
    """The largest batch of a run: every row is kept and has the largest length."""
    settings, objective = config.rollout, config.make_objective()
    rows, long = settings.rows * objective.kinds, settings.max_response
    longest = objective.longest_teacher_prompt
    shared = settings.share_prompts
    prompts = settings.questions if shared else rows
    teacher_prompts = rows
    if shared:
        different = objective.prompts_behind(settings.questions, settings.samples)
        teacher_prompts = bucket(different, smallest=2 * settings.questions, largest=rows)

    more = objective.further_prompts

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return _abstract(jax.ShapeDtypeStruct(shape, dtype), ("batch",), mesh)

    owner = array(jnp.int32, rows) if shared else None
    return Experience(
        prompt=array(jnp.int32, prompts, settings.max_prompt),
        prompt_mask=array(jnp.bool_, prompts, settings.max_prompt),
        teacher_prompt=array(jnp.int32, teacher_prompts, longest),
        teacher_prompt_mask=array(jnp.bool_, teacher_prompts, longest),
        response=array(jnp.int32, rows, long),
        response_mask=array(jnp.bool_, rows, long),
        sampler_logprobs=array(jnp.float32, rows, long),
        sequence_mask=array(jnp.bool_, rows),
        signal_mask=array(jnp.bool_, rows),
        score=array(jnp.float32, rows),
        columns={name: array(jnp.float32, rows) for name in objective.columns} or None,
        prompt_owner=owner,
        teacher_prompt_owner=owner,
        further_prompt=array(jnp.int32, teacher_prompts, more, longest) if more else None,
        further_prompt_mask=array(jnp.bool_, teacher_prompts, more, longest) if more else None,
        further_prompt_owner=array(jnp.int32, rows, more) if more and shared else None,
    )


def abstract_step(
    config: TrainConfig,
    shape: DecoderConfig,
    mesh: Mesh | None,
    *,
    optimizer: optax.GradientTransformationExtraArgs | None = None,
) -> tuple[Any, TrainState, Experience]:
    """The jitted train step of a run and abstract arguments of its largest size.

    Args:
        config: the run.
        shape: its model.
        mesh: of the run's size, or `None` for one device.
        optimizer: instead of the run's own.

    Returns:
        The step, the state and the batch: `step.lower(state, batch)`.

    Added in version 0.2.0.
    """
    other = teacher_shape(config)
    optimizer = config.make_optimizer() if optimizer is None else optimizer
    state = abstract_state(config, shape, mesh, optimizer=optimizer)
    layout = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_train_step(
        _structure(config, shape, mesh, remat=config.remat and config.remat_policy),
        optimizer,
        config.make_objective().program(),
        sequences=config.rollout.rows,
        temperature=config.rollout.temperature,
        lora=config.lora,
        micro_batch=config.optimizer.micro_batch,
        layout=layout,
        teacher_graphdef=None if other is None else _structure(config, other, mesh, remat=False),
    )
    return step, state, abstract_experience(config, mesh)


def _structure(
    config: TrainConfig, shape: DecoderConfig, mesh: Mesh | None, *, remat: bool | str
) -> Any:
    """The structure of a model of the run, from `nnx.split`."""
    attention = config.attention
    if attention == "cudnn" and target_platform(mesh) != "gpu":
        # Other compilers do not know flash attention. This attention needs slightly more memory.
        attention = "chunked"
    model = nnx.eval_shape(
        lambda: Decoder(
            shape,
            rngs=nnx.Rngs(0),
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.dtype(config.param_dtype),
            remat=remat,
            attention=attention,
            mesh=mesh,
        )
    )
    return nnx.split(model, nnx.Param)[0]


def _abstract(
    leaf: Any, axes: tuple[str | None, ...], mesh: Mesh | AbstractMesh | None
) -> jax.ShapeDtypeStruct:
    if mesh is None:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    spec = partition_spec(axes, mesh) if axes else PartitionSpec()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))


def placed(tree: Any, mesh: Mesh | AbstractMesh | None) -> Any:
    """The same shapes with the shardings of the table of rules."""

    def place(leaf: Any) -> Any:
        if isinstance(leaf, nnx.Variable):
            return leaf.replace(_abstract(leaf.get_value(), leaf.axes, mesh))
        return _abstract(leaf, (), mesh)

    return jax.tree.map(place, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def abstract_weights(shape: DecoderConfig, dtype: str, mesh: AbstractMesh) -> Any:
    return placed(abstract_params(shape, jnp.dtype(dtype)), mesh)
