"""Runs of several processes: their connection, and values that all of them share."""

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
    """Settings of several processes (`jax.distributed`). The default is one process.

    They are no part of a run's configuration, because they differ between processes and may change
    when a run is resumed.
    """

    coordinator: str | None = None
    """HOST:PORT of process 0, or $JAX_COORDINATOR_ADDRESS."""
    num_processes: int | None = None
    """Number of processes, or $JAX_NUM_PROCESSES."""
    process_id: int | None = None
    """Number of this process, from 0, or $JAX_PROCESS_ID."""
    cluster: bool = False
    """Get all three from the cluster (Slurm, Open MPI, Kubernetes, Cloud TPU)."""

    def check(self) -> None:
        """Refuse incomplete settings.

        The constructor does not check this, because flags may complete the environment's settings.

        Raises:
            ValueError: some of the three are missing, malformed or out of range, or given together
                with `cluster`.
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
        """The settings in the environment variables, complete or in part.

        Raises:
            ValueError: a variable that must be a number is none.
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
    """Connect to the other processes, if there are any; call this before any other use of JAX.

    If they do not connect within five minutes, JAX's runtime aborts the process without an
    exception.

    Raises:
        ValueError: the settings do not fit together, or no cluster is found.
        RuntimeError: JAX has been used already.
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
    """Whether this is the first process, which writes files and logs for all."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. All processes must call this."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def largest(number: int) -> int:
    """The largest of the processes' numbers. All processes must call this."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))


def from_first(array: np.ndarray) -> np.ndarray:
    """The array of the first process. All processes must call this."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


@contextmanager
def on_first(manager: AbstractContextManager[T]) -> Iterator[T | None]:
    """Enter a context in the first process only. If it fails there, it fails in all.

    Raises:
        RuntimeError: it failed in the first process. Raised in the others.
    """
    with ExitStack() as stack:
        value, error = None, None
        if is_first():
            try:
                value = stack.enter_context(manager)
            # The other processes must learn of any error, or they would wait for ever.
            except Exception as caught:
                error = caught
        if any_process(error is not None):
            raise error or PGPORuntimeError("the run was refused by process 0; see its message")
        yield value
