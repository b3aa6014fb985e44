"""The strict regime of the whole suite: eight virtual CPU devices, strict dtype promotion.

One run of pytest compiles with one set of options, since these are no part of what jit remembers a
program by. It compiles quickly: compiling takes nearly all the time of the tests. `--optimized`
compiles as products do; `make test-slow` does so for the tests with the mark of that name.
"""

import atexit
import gc
import importlib.metadata
import os
import pathlib
import shutil
import signal
import tempfile
import threading

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


def pytest_addoption(parser):
    parser.addoption("--backwards", action="store_true", help="the last test first")
    parser.addoption("--optimized", action="store_true", help="compile as products do")


def heed_signals():
    """What `nohup` or a shell's background ignores, runs would ignore too, and their tests fail."""
    usual = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    if threading.current_thread() is threading.main_thread():
        for name, handler in usual.items():
            number = getattr(signal, name)
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, handler)


def choose_compilation(quick: bool):
    """Few optimizations or all, in child processes, too: they read the environment."""
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))
    jax.config.update("jax_disable_most_optimizations", quick)
    # With few, most of the time goes to the emitters of fusions. Newer versions have no others.
    version = importlib.metadata.version("jaxlib")
    if quick and tuple(int(part) for part in version.split(".")[:2]) < (0, 11):
        flags, without = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"
        if without not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {without}".strip()


def pytest_configure(config):
    heed_signals()
    choose_compilation(quick=not config.option.optimized)


def pytest_collection_modifyitems(config, items):
    # No test may depend on what ran before it: `make test ARGS=--backwards` must pass too.
    if config.option.backwards:
        items.reverse()
    # The fast tier leaves out what is slow, and nothing else.
    marks = [(item, {mark.name for mark in item.iter_markers()}) for item in items]
    missed = [item.nodeid for item, names in marks if "optimized" in names and "slow" not in names]
    if missed:
        raise pytest.UsageError(f"a test that is optimized must be slow, too: {missed}")


# Linux gives a process 65,530 memory maps, and each compiled program that is kept holds several.
# Without any left, XLA ends the process with a segmentation fault.
MOST_MAPS = 20_000


def memory_maps() -> int:
    """Number of memory maps of this process; 0 where the system does not tell."""
    path = pathlib.Path("/proc/self/maps")
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Programs of earlier test files are dropped before they take all memory maps."""
    yield
    if memory_maps() > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Double precision for tests that check maths rather than machine behaviour."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(20260603)
