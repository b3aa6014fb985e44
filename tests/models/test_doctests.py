import doctest
import importlib
import pkgutil

import pytest

import pgpo_jax.models

WALK = pkgutil.walk_packages(pgpo_jax.models.__path__, "pgpo_jax.models.")
MODULES = [name for _, name, package in WALK if not package]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
