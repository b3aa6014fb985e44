"""Any data from outside gives a result or an error of ours.

By default each reader sees about 50 examples. The long form gives each 10,000, without the suite's
check of annotations, so that it is the product's own checks that are met:

    PGPO_FUZZ=10000 python -m pytest tests/fuzz -o addopts=--import-mode=importlib
"""

import copy
import os

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from jaxtyping import TypeCheckError

from pgpo_jax.errors import PGPOError

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("PGPO_FUZZ", "50")),
    deadline=None,
    derandomize="PGPO_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope="package")
def _profile():
    settings.load_profile("fuzz")
    yield
    settings.load_profile("default")


def fuzzed(test):
    """The settings of a test, which are read when it is made."""
    return settings(settings.get_profile("fuzz"))(test)


def refused(call):
    """Calls, and tells whether it was refused by an error of ours; any other error passes on."""
    try:
        call()
    # The suite checks annotations before the product checks its values.
    except (PGPOError, TypeCheckError):
        return True
    return False


numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**53, 1e308])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
"""Any JSON value."""

texts = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "\n",
        "\ufeff{}",
        "[" * 5000,
        '{"a":' * 5000,
        "NaN",
        "9" * 5000,
        '{"a": 1, "a": 2}',
        "{}\n{",
    ]
)
"""Text that is hardly ever what is expected."""


@st.composite
def damaged(draw, original):
    """A JSON value with one to three of its places replaced, dropped or doubled."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        parent = value
        while isinstance(parent, dict | list) and parent:
            keys = list(parent) if isinstance(parent, dict) else range(len(parent))
            key = draw(st.sampled_from(list(keys)))
            if isinstance(parent[key], dict | list) and parent[key] and draw(st.booleans()):
                parent = parent[key]
                continue
            how = draw(st.integers(0, 3))
            if how == 0:
                del parent[key]
            elif how == 1 and isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]))
            else:
                parent[key] = draw(values)
            break
    return value if draw(st.integers(0, 30)) else draw(values)
