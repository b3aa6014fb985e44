import doctest
import importlib
import pkgutil

import pytest

import pgpo_jax.models

MODULES = [name for _, name, _ in pkgutil.iter_modules(pgpo_jax.models.__path__)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(f"pgpo_jax.models.{name}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
