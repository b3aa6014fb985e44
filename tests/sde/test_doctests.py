import doctest
import importlib
import pkgutil

import pytest

import sde

MODULES = [name for _, name, package in pkgutil.walk_packages(sde.__path__, "sde.") if not package]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
