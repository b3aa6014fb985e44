"""Chunks of an ensemble over devices: memory is that of a few chunks."""

import functools as ft
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from pgpo_jax.errors import PGPOFloatingPointError, PGPOValueError

CHUNK = 1 << 17
"""Default number of paths per chunk. XLA spreads a chunk over its threads, and it takes MiB of
memory.

Added in version 0.2.0.
"""


_MOST_PATHS = 10**11
_MOST_NUMBERS = 1 << 28
_WORTH_TELLING = 5.0


def not_finite(label: str) -> str:
    """The message for a path that did not stay finite; the label names chain or equation and eta.

    >>> not_finite("chain, eta=0.5")
    'a path is not finite (chain, eta=0.5): the step is too large for this problem, so lower eta'
    """
    where = f" ({label})" if label else ""
    cause = "the step is too large for this problem, so lower eta"
    if not label.startswith("chain"):
        cause += ", or the diffusion matrix lost positive semi-definiteness"
    return f"a path is not finite{where}: {cause}"


def check_paths(paths: int, chunk: int) -> None:
    """Raises ValueError unless paths and chunk are whole numbers in [1, 10**11].

    A CPU core computes some millions of steps a second, so more paths would run for years.
    """
    for name, value in (("paths", paths), ("chunk", chunk)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 1 <= value <= _MOST_PATHS:
            raise PGPOValueError(f"{name} must be a whole number in [1, 10**11], got {value!r}")


def even_chunks(paths: int, chunk: int) -> int:
    """The size of equal chunks, at most `chunk`, that wastes the fewest paths.

    >>> even_chunks(100_000, 16_384)
    14286

    Added in version 0.2.0.
    """
    check_paths(paths, chunk)
    return math.ceil(paths / math.ceil(paths / chunk))


def fitting(chunk: int, numbers: int) -> int:
    """The size of a chunk whose paths hold `numbers` numbers each, at most 2 GiB in all.

    >>> fitting(1 << 17, 4), fitting(1 << 17, 100 * 1000)
    (131072, 2684)
    """
    return min(chunk, max(1, _MOST_NUMBERS // numbers))


@ft.lru_cache(maxsize=64)
def _mesh(devices: int) -> Mesh:
    return Mesh(np.asarray(jax.devices()[:devices]), ("chunks",))


@ft.lru_cache(maxsize=128)
def _sharded(function: Callable[..., PyTree], devices: int) -> Any:
    """One compiled program per function and number of devices, kept for the next call."""
    everywhere = PartitionSpec()

    def block(keys: Key[Array, " 1"], args: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[None], function(keys[0], *args))

    return jax.jit(
        jax.shard_map(
            block,
            mesh=_mesh(devices),
            in_specs=(PartitionSpec("chunks"), everywhere),
            out_specs=PartitionSpec("chunks"),
            check_vma=False,
        )
    )


@ft.partial(jax.jit, static_argnums=2)
def _keys(key: PRNGKeyArray, first: Int[Array, ""], count: int) -> Key[Array, " count"]:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def over_chunks(
    function: Callable[..., PyTree],
    key: PRNGKeyArray,
    chunks: int,
    *args: Any,
    label: str = "",
    tell: Callable[[str], None] | None = None,
) -> Iterator[PyTree]:
    """Yields `function(key_c, *args)` for chunks c = 0, 1, ..., one chunk per device at a time.

    Chunk c always gets `fold_in(key, c)`, so the numbers do not depend on how many devices there
    are.

    Args:
        function: a pure function of a key and `args`; the same object compiles once.
        key: the key of the whole ensemble.
        chunks: how many chunks.
        args: numbers, traced.
        label: name on the progress bar, shown when stderr is a terminal and the run is long.
        tell: told once how long the rest will take, if that is more than some seconds.

    Raises:
        ValueError: a chunk does not fit into memory.

    Added in version 0.2.0.
    """
    rounds = math.ceil(chunks / jax.device_count())
    devices = math.ceil(chunks / rounds)
    program = _sharded(function, devices)
    sharding = NamedSharding(_mesh(devices), PartitionSpec("chunks"))
    for first in _progress(range(0, rounds * devices, devices), label):
        keys = _keys(key, first, devices)
        begun = time.perf_counter()
        try:
            out = jax.device_get(program(jax.device_put(keys, sharding), args))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise PGPOValueError(
                f"chunk must be small enough for its paths to be in memory ({label}): give a "
                f"smaller one. {error}"
            ) from error
        # The first round compiles, so the second says how long one takes.
        if tell is not None and first == devices:
            left = (rounds - 2) * (time.perf_counter() - begun)
            if left > _WORTH_TELLING:
                tell(f"{label}: {chunks} chunks of paths, about {left:.0f} s more")
        for i in range(min(devices, chunks - first)):
            yield jax.tree.map(lambda leaf, i=i: leaf[i], out)


def _progress(rounds: range, label: str):
    if not label or len(rounds) < 4 or not sys.stderr.isatty():
        return rounds
    from tqdm import tqdm

    return tqdm(rounds, desc=label, leave=False, unit="chunk")


def gather(
    function: Callable[..., Any],
    key: PRNGKeyArray,
    paths: int,
    chunk: int,
    dim: int,
    *args: Any,
    label: str = "",
) -> Float[np.ndarray, "paths d"]:
    """All the samples `[paths, dim]`, chunk by chunk, in host memory.

    `function` gives (states, controls), as the programs of chains and equations do; the controls
    are not looked at.

    Args:
        function: (key, *args) -> states [chunk, m] and controls, a pure function; the same object
            compiles once.
        key: the key of the whole ensemble.
        paths: how many.
        chunk: paths per call of `function`.
        dim: how many coordinates of a state to keep, from the first.
        args: numbers, traced.
        label: name on the progress bar, shown when stderr is a terminal and the run is long.

    Raises:
        FloatingPointError: a path is not finite.

    >>> def program(key, scale):
    ...     return scale * jnp.ones((3, 1)), None
    >>> gather(program, jax.random.key(0), 4, 3, 1, 2.0)[:, 0]
    array([2., 2., 2., 2.])

    Added in version 0.2.0.
    """
    try:
        out = np.empty((paths, dim))
    except MemoryError as error:
        raise PGPOValueError(
            f"paths must be few enough for their states to be in memory, got {paths}: {error}. "
            "sde.estimate_chain and sde.estimate_equation hold one chunk at a time"
        ) from error
    chunks = math.ceil(paths / chunk)
    for c, (part, _) in enumerate(over_chunks(function, key, chunks, *args, label=label)):
        rows = out[c * chunk : (c + 1) * chunk]
        rows[:] = np.asarray(part)[: len(rows), :dim]
    if not np.all(np.isfinite(out)):
        raise PGPOFloatingPointError(not_finite(label))
    return out
