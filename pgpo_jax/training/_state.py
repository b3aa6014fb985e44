from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from pgpo_jax.training._config import TeacherConfig


class TrainState(NamedTuple):
    """All that changes during training; what a checkpoint holds.

    Attributes:
        step: steps taken, skipped ones included.
        params: the student, float32.
        teacher: the moving average or the initial model, float32; `None` if the teacher is live.
        opt_state: of the whole chain, the multiplier's state included.
        skipped: steps in a row whose gradient was not finite.
    """

    step: Int[Array, ""]
    params: Any
    teacher: Any
    opt_state: Any
    skipped: Int[Array, ""]


def init_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    teacher: TeacherConfig,
    mesh: Mesh | None = None,
) -> TrainState:
    """The state before the first step; the teacher starts as a copy of the student.

    On a mesh the moments are laid out as their parameters are, and scalars are held everywhere.
    """
    # A copy, since the step donates its buffers: student and teacher must not share any.
    copy = None if teacher.kind == "live" else jax.tree.map(jnp.copy, params)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        teacher=copy,
        opt_state=optimizer.init(params),
        skipped=jnp.zeros((), jnp.int32),
    )
    if mesh is None:
        return state

    def place(leaf: Array) -> Array:
        on_mesh = isinstance(leaf.sharding, NamedSharding)
        return leaf if on_mesh else jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(place, state)
