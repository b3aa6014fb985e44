from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from pgpo_jax.models import averaged_deltas, init_lora, with_deltas, with_lora, zero_deltas
from pgpo_jax.training.config import LoRAConfig, TeacherConfig

# Among the keys that are made of a seed; 0 and 1 are those of rollouts and evaluations.
_FACTORS = 2


class TrainState(NamedTuple):
    """All that changes during training; what a checkpoint holds.

    Attributes:
        step: steps taken, skipped ones included.
        params: what is trained, float32: the student, or with LoRA the factors of its additions.
        teacher: the moving average, the snapshot or the initial model, float32; `None` if the
            teacher is live. With LoRA the average or snapshot of the additions, and `None` for the
            initial model.
        opt_state: of the whole chain, the multiplier's state included.
        skipped: steps in a row whose gradient was not finite.
        frozen: the initial model if LoRA leaves it as it is, else `None`. It passes through the
            step, which may then give its memory back as it came; a checkpoint does not hold it.
        external: another model that is the teacher, else `None`. It passes through as well.
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
        """The state without what no step changes: what a checkpoint holds."""
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
    """The state before the first step; a teacher of its own starts as a copy of the student.

    On a mesh the moments are laid out as their parameters are, and scalars are held everywhere.

    Args:
        params: the model's weights.
        optimizer: of what is trained.
        teacher: which kind there is; `None` without a teacher.
        mesh: where the weights lie.
        lora: freeze `params` and train factors of this rank instead, if it is not 0.
        seed: of the factors.
        external: the weights of another model that is the teacher, of the kind `external`.
    """
    frozen = None
    if lora is None or not lora.rank:
        # A copy, since the step donates its buffers: student and teacher must not share any.
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
            # Committed, as what a checkpoint restores is: a resumed run has the same programs.
            return jax.device_put(leaf, leaf.sharding)
        on_mesh = isinstance(leaf.sharding, NamedSharding)
        return leaf if on_mesh else jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(place, state)


def _without(params: Any, other: Any) -> Any:
    """A tree without arrays of `params`: some optimizers hold the first parameters as they came,
    and the step donates its buffers, so that none may occur twice."""
    shared = {id(leaf) for leaf in jax.tree.leaves(params)}
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if id(leaf) in shared else leaf, other)


def student_weights(params: Any, frozen: Any, lora: LoRAConfig) -> Any:
    """The student as parameters of the model, from what is trained and what is frozen."""
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
    """The teacher after a step to `params`; left as it was, to the bit, where it does not move.

    A moving average moves where `applies` is true. A snapshot is the student itself after every
    `settings.every` steps, whether or not the last of them was applied.

    With LoRA the average is of what the student adds to the frozen model, in full: it is exactly
    the average of the merged weights, less the model.

    Args:
        teacher: the moving average before the step.
        params: what is trained, after the step.
        applies: whether the step changed the weights.
        settings: kind and rate; kinds other than `ema` and `snapshot` stay as they are.
        lora: its scale, if the model has factors.
        done: steps taken, this one included; a snapshot needs it.
    """
    if settings is None or settings.kind not in ("ema", "snapshot"):
        return teacher
    share = settings.rate
    if settings.kind == "snapshot":
        assert settings.every is not None
        assert done is not None
        # A moving average of which nothing stays.
        share, applies = 1.0, done % settings.every == 0
    rate = jnp.where(applies, jnp.float32(share), 0.0)
    if lora.rank:
        return averaged_deltas(teacher, params, lora.scale, rate)
    moved = optax.incremental_update(params, teacher, rate)
    # A rate of 0 is not enough: 0 times NaN is NaN.
    return jax.tree.map(lambda new, old: jnp.where(applies, new, old), moved, teacher)
