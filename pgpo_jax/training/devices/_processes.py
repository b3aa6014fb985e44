"""Several processes that run one program: how they meet, and how they stay together."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from pgpo_jax.errors import PGPORuntimeError, PGPOValueError

T = TypeVar("T")

_VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


@dataclass(frozen=True)
class DistributedConfig:
    """How several processes meet (`jax.distributed`); nothing set: there is one.

    It is no part of a run's configuration: it changes from process to process and from one
    continuation of a run to the next.
    """

    coordinator: str | None = None
    """HOST:PORT of process 0; or $JAX_COORDINATOR_ADDRESS."""
    num_processes: int | None = None
    """How many there are; or $JAX_NUM_PROCESSES."""
    process_id: int | None = None
    """Which of them this is, from 0; or $JAX_PROCESS_ID."""
    cluster: bool = False
    """Ask the cluster for all three (Slurm, Open MPI, Kubernetes, Cloud TPU)."""

    def check(self) -> None:
        """Refuses half a meeting.

        Not done when one is made: what the environment leaves open, a flag may say.

        Raises:
            ValueError: if some of the three are missing, malformed or out of range, or given
                beside `cluster`.
        """
        given = [name for name in _VARIABLES if getattr(self, name) is not None]
        if self.cluster and given:
            raise PGPOValueError(f"distributed.cluster finds {given[0]} itself, got both")
        if given and len(given) < len(_VARIABLES):
            missing = next(name for name in _VARIABLES if name not in given)
            raise PGPOValueError(
                f"distributed.{', '.join(_VARIABLES)} belong together: {missing} is missing "
                f"(the flag, or ${_VARIABLES[missing]})"
            )
        if self.coordinator is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise PGPOValueError(
                f"distributed.coordinator must be HOST:PORT, got {self.coordinator!r}"
            )
        assert self.num_processes is not None
        assert self.process_id is not None
        if not 0 <= self.process_id < self.num_processes:
            raise PGPOValueError(
                f"distributed.process_id must be in [0, num_processes = {self.num_processes}), "
                f"got {self.process_id}"
            )

    @classmethod
    def from_environment(cls) -> "DistributedConfig":
        """What the environment variables say, all of it or a part.

        Raises:
            ValueError: if one of them should be a number and is none.
        """
        values: dict[str, Any] = {
            name: os.environ[variable]
            for name, variable in _VARIABLES.items()
            if os.environ.get(variable)
        }
        for name in ("num_processes", "process_id"):
            if name in values:
                if not values[name].isdecimal():
                    raise PGPOValueError(
                        f"${_VARIABLES[name]} must be a number, got {values[name]!r}"
                    )
                values[name] = int(values[name])
        return cls(**values)


def connect(config: DistributedConfig) -> None:
    """Meets the other processes, if there are any; before any other use of JAX.

    If they do not come within five minutes, JAX's runtime aborts the process: there is no
    exception to catch.

    Raises:
        ValueError: if the settings do not fit together, or there is no cluster to ask.
        RuntimeError: if JAX has been used already.
    """
    config.check()
    if jax.distributed.is_initialized():
        return
    if config.cluster:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise PGPOValueError(f"distributed.cluster found no cluster to ask: {error}") from error
    elif config.coordinator is not None:
        jax.distributed.initialize(
            config.coordinator,
            config.num_processes,
            config.process_id,
            cluster_detection_method="deactivate",
        )


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is up in any process; all must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def largest(number: int) -> int:
    """The largest of the processes' numbers, in all of them; all must ask."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))


def from_first(array: np.ndarray) -> np.ndarray:
    """The array of the first process, in all of them; all must ask."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


@contextmanager
def on_first(manager: AbstractContextManager[T]) -> Iterator[T | None]:
    """Enters a context in the first process only; if that fails there, it fails in all.

    Raises:
        RuntimeError: in the other processes, if it failed in the first.
    """
    with ExitStack() as stack:
        value, error = None, None
        if is_first():
            try:
                value = stack.enter_context(manager)
            # Whatever it is, the others must hear of it: they would wait for ever.
            except Exception as caught:
                error = caught
        if any_process(error is not None):
            raise error or PGPORuntimeError("the run was refused by process 0; see its message")
        yield value
