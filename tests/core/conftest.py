import jax
import pytest


@pytest.fixture
def lenient():
    """Standard dtype promotion, which optax's Adam and others need; ours needs no such leave."""
    with jax.numpy_dtype_promotion("standard"):
        yield
