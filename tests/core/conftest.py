import jax
import pytest


@pytest.fixture
def lenient():
    """Standard dtype promotion, which optax's Adam and others need; ours needs no such leave."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def quick_compilation(request):
    """These programs are tiny: compiling them takes all the time, so XLA need not try hard."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", "optimized" not in request.keywords)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
