from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from pgpo_jax.models import averaged_deltas, init_lora, with_deltas, with_lora, zero_deltas
from pgpo_jax.training.config import LoRAConfig, TeacherConfig

# Number of this key among those of a seed; 0 and 1 are those of rollouts and evaluations.
_FACTORS = 2


class TrainState(NamedTuple):
    """The state that changes during training and that a checkpoint holds.

    Attributes:
        step: number of steps, skipped ones included.
        params: trained parameters in float32: the student, or with LoRA the factors of its
            additions.
        teacher: moving average, snapshot or initial model in float32; `None` if the teacher is
            live. With LoRA it is the average or snapshot of the additions, and `None` for the
            initial model.
        opt_state: optimizer state of the whole chain, the multiplier's state included.
        skipped: number of steps in a row with a gradient that was not finite.
        frozen: the initial model if LoRA does not change it, else `None`. It is an input and an
            output of the step, which can so return its memory unchanged. A checkpoint does not hold
            it.
        external: another model that is the teacher, else `None`. It is also an input and an output.
    """

    step: Int[Array, ""]
    params: Any
    teacher: Any
    opt_state: Any
    skipped: Int[Array, ""]
    frozen: Any = None
    external: Any = None

    @property
    def changing(self) -> "TrainState":
        """The state without its constant parts, as a checkpoint holds it."""
        return self._replace(frozen=None, external=None)


def init_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    teacher: TeacherConfig | None,
    mesh: Mesh | None = None,
    *,
    lora: LoRAConfig | None = None,
    seed: int = 0,
    external: Any = None,
) -> TrainState:
    """The state before the first step; a separate teacher starts as a copy of the student.

    On a mesh the moments have the sharding of their parameters, and scalars are replicated.

    Args:
        params: the model's weights.
        optimizer: optimizer of the trained parameters.
        teacher: settings of the teacher; `None` without a teacher.
        mesh: mesh of the weights.
        lora: settings of factors. If the rank is not 0, `params` are frozen and factors are
            trained.
        seed: seed of the factors.
        external: weights of a teacher that is another model, of the kind `external`.
    """
    frozen = None
    if lora is None or not lora.rank:
        # It is a copy, because the step donates its buffers and student and teacher must not share
        # any.
        none = teacher is None or teacher.kind in ("live", "external")
        copy = None if none else jax.tree.map(jnp.copy, params)
    else:
        frozen = params
        key = jax.random.fold_in(jax.random.key(seed), _FACTORS)
        params = init_lora(frozen, lora.rank, lora.targets, key=key, mesh=mesh)
        averaged = teacher is not None and teacher.kind in ("ema", "snapshot")
        copy = zero_deltas(frozen, params) if averaged else None
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        teacher=copy,
        opt_state=_without(params, optimizer.init(params)),
        skipped=jnp.zeros((), jnp.int32),
        frozen=frozen,
        external=_without(params if frozen is None else frozen, external),
    )

    def place(leaf: Array) -> Array:
        if isinstance(leaf, Tracer):
            return leaf
        if mesh is None:
            # The arrays are committed like restored ones, so that a resumed run has the same
            # programs.
            return jax.device_put(leaf, leaf.sharding)
        on_mesh = isinstance(leaf.sharding, NamedSharding)
        return leaf if on_mesh else jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(place, state)


def _without(params: Any, other: Any) -> Any:
    """A tree that shares no arrays with `params`.

    Some optimizers hold the first parameters without a copy. The step donates its buffers, so none
    may occur twice."""
    shared = {id(leaf) for leaf in jax.tree.leaves(params)}
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if id(leaf) in shared else leaf, other)


def student_weights(params: Any, frozen: Any, lora: LoRAConfig) -> Any:
    """The student as parameters of the model, from the trained and the frozen parts."""
    return params if frozen is None else with_lora(frozen, params, lora.scale)


def teacher_weights(state: TrainState) -> Any:
    """Another model, the moving average, or the initial model, as parameters of its model."""
    if state.external is not None:
        return state.external
    if state.frozen is None:
        return state.teacher
    return state.frozen if state.teacher is None else with_deltas(state.frozen, state.teacher)


def update_teacher(
    teacher: Any,
    params: Any,
    applies: Bool[Array, ""],
    settings: TeacherConfig | None,
    lora: LoRAConfig,
    *,
    done: Int[Array, ""] | None = None,
) -> Any:
    """The teacher after a step to `params`; unchanged to the bit if it does not move.

    A moving average moves if `applies` is true. A snapshot is the student after every
    `settings.every` steps, even if the last of them was skipped.

    With LoRA it is the average of the student's full additions to the frozen model. This is exactly
    the average of the merged weights minus the model.

    Args:
        teacher: moving average before the step.
        params: trained parameters after the step.
        applies: whether the step changed the weights.
        settings: kind and rate. Kinds other than `ema` and `snapshot` do not change.
        lora: settings with the scale, if the model has factors.
        done: number of steps, this one included. A snapshot needs it.
    """
    if settings is None or settings.kind not in ("ema", "snapshot"):
        return teacher
    share = settings.rate
    if settings.kind == "snapshot":
        assert settings.every is not None
        assert done is not None
        # A moving average with rate 1 keeps nothing of the old value.
        share, applies = 1.0, done % settings.every == 0
    rate = jnp.where(applies, jnp.float32(share), 0.0)
    if lora.rank:
        return averaged_deltas(teacher, params, lora.scale, rate)
    moved = optax.incremental_update(params, teacher, rate)
    # A rate of 0 is not enough: 0 times NaN is NaN.
    return jax.tree.map(lambda new, old: jnp.where(applies, new, old), moved, teacher)
