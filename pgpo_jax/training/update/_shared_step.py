import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.update._state import TrainState
from pgpo_jax.training.update._step import make_train_step


def shared_step(
    graphdef: Any,
    optimizer: optax.GradientTransformationExtraArgs,
    program: Objective,
    state: TrainState,
    *,
    mesh: Mesh | None,
    **settings: Any,
) -> Callable[..., Any]:
    """The compiled step of a run, shared by runs of this process with the same program.

    Args:
        graphdef: structure of the model.
        optimizer: of the run.
        program: result of `Objective.program`.
        state: first state, with the sharding of each array.
        mesh: mesh of the model. Steps on a mesh are not shared.
        settings: further arguments of `make_train_step`.

    Returns:
        The step, as `make_train_step` returns it.
    """
    if mesh is not None:
        layout = jax.tree.map(lambda leaf: leaf.sharding, state)
        return make_train_step(graphdef, optimizer, program, layout=layout, **settings)
    try:
        hash((program, graphdef))
    except TypeError:
        # An objective of the user that cannot be compared has its own program.
        return make_train_step(graphdef, optimizer, program, **settings)
    return _of_update(graphdef, optimizer.update, program, **settings)


@functools.lru_cache(maxsize=32)
def _of_update(
    graphdef: Any, update: Callable[..., Any], objective: Objective, **settings: Any
) -> Callable[..., Any]:
    """The step of all runs of this process that differ only in seed, questions or evaluation.

    Only `update` of the optimizer is a part of the program. The result of `init` is an argument.
    """

    def no_init(params: Any) -> Any:
        raise AssertionError("a step does not make an optimizer's state")

    optimizer = optax.GradientTransformationExtraArgs(no_init, update)
    return make_train_step(graphdef, optimizer, objective, **settings)
