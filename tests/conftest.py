"""The strict regime of the whole suite: eight virtual CPU devices, strict dtype promotion."""

import os

# Before jax is imported: shards can then be tested on any machine.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def x64():
    """Double precision for tests that check maths rather than machine behaviour."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(20260603)


@pytest.fixture
def quick_compilation():
    """These programs are tiny: compiling them takes all the time, so XLA need not try hard."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
