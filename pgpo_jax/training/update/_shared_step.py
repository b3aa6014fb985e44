"""Shares compiled steps between runs of a process."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._taught import Taught
from pgpo_jax.training.update._optimizer import SettingsUpdate
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
) -> "SharedStep":
    """The compiled step of a run, shared by runs of this process with the same program.

    Args:
        graphdef: structure of the model.
        optimizer: of the run.
        program: result of `Objective.program`.
        state: first state, with the sharding of each array.
        mesh: mesh of the model. Steps on a mesh are not shared.
        settings: further arguments of `make_train_step`.

    Returns:
        The step, with the numbers of the run.
    """
    update, numbers = optimizer.update, None
    if isinstance(update, SettingsUpdate):
        update, numbers = update.program, dict(update.numbers)
    program = _without_multiplier(program)
    if mesh is not None:
        layout = jax.tree.map(lambda leaf: leaf.sharding, state)
        step = _made(graphdef, update, program, layout=layout, **settings)
        return SharedStep(step, numbers)
    try:
        hash((program, graphdef))
    except TypeError:
        # An objective of the user's own that cannot be compared has a program of its own.
        return SharedStep(_made(graphdef, update, program, **settings), numbers)
    return SharedStep(_of_update(graphdef, update, program, **settings), numbers)


@dataclasses.dataclass(frozen=True)
class SharedStep:
    """A compiled step with the numbers of one run.

    Attributes:
        program: as `make_train_step` returns it.
        numbers: what the optimizer is handed, if it takes them.
    """

    program: Callable[..., Any]
    numbers: dict[str, float] | None

    def __call__(self, state: TrainState, batch: Any, shown: Any = None) -> tuple[Any, ...]:
        """The new state, metrics and numbers per token; donates the state."""
        return self.program(state, batch, shown, self.numbers)

    def compilations(self) -> int:
        """How many programs there are, one for each shape of the batch."""
        # A jitted function has it; its type does not tell.
        return self.program._cache_size()  # pyright: ignore[reportFunctionMemberAccess]


def _without_multiplier(program: Objective) -> Objective:
    """The objective without the settings of a multiplier that the optimizer alone applies.

    Our objectives read them where the loss is modulated. One of the user's own may read them
    anywhere, and stays as it is.
    """
    ours = type(program).__module__.startswith(Taught.__module__.rpartition(".")[0])
    if not (ours and isinstance(program, Taught) and program.loss.modulation == "none"):
        return program
    measured = program.information
    signal = type(measured)(estimator=measured.estimator, reduction=measured.reduction)
    return dataclasses.replace(program, information=signal)


@functools.lru_cache(maxsize=32)
def _of_update(
    graphdef: Any, update: Callable[..., Any], objective: Objective, **settings: Any
) -> Callable[..., Any]:
    """The step of all runs of this process that differ only in seed, questions or evaluation.

    Only `update` of the optimizer is a part of the program. The result of `init` is an argument.
    """
    return _made(graphdef, update, objective, **settings)


def _made(
    graphdef: Any, update: Callable[..., Any], objective: Objective, **settings: Any
) -> Callable[..., Any]:
    def no_init(params: Any) -> Any:
        raise AssertionError("a step does not make an optimizer's state")

    optimizer = optax.GradientTransformationExtraArgs(no_init, update)
    return make_train_step(graphdef, optimizer, objective, **settings)
