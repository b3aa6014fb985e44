"""The strict regime of the whole suite: eight virtual CPU devices, strict dtype promotion."""

import atexit
import os
import shutil
import tempfile
from contextlib import contextmanager

# Before jax is imported: shards can then be tested on any machine.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# What one worker or child process compiled, the others of the same session need not compile.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.mkdtemp(prefix="pgpo-tests-")
    atexit.register(shutil.rmtree, _programs, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

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


@contextmanager
def _compiling(quickly):
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", quickly)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def quick_compilation(request):
    """For programs so small that compiling them takes all the time: XLA need not try hard.

    A test that is marked `optimized` gets what users get.
    """
    with _compiling(quickly="optimized" not in request.keywords):
        yield


@pytest.fixture(scope="module")
def quick_module():
    """The same for what the fixtures of a module compile."""
    with _compiling(quickly=True):
        yield
