"""rho(I): closed forms, limits, derivatives, precision, and refusals."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st

import pgpo_jax as pgpo
from pgpo_jax._multiplier import check_hyperparameters

REFUSED = [
    ("alpha", -0.1),
    ("alpha", float("nan")),
    ("alpha", float("inf")),
    ("alpha", np.float32(-1)),
    ("rho_max", 0.99),
    ("rho_max", float("nan")),
    ("rho_min", -0.1),
    ("rho_min", 1.1),
    ("rho_min", float("nan")),
]


def test_closed_form(x64):
    signal = jnp.linspace(-3.0, 3.0, 61)
    got = pgpo.multiplier(signal, 1.5, 4.0, 0.05)
    want = np.maximum(np.minimum(np.exp(1.5 * np.asarray(signal)), 4.0), 0.05)
    np.testing.assert_allclose(got, want, rtol=1e-14)
    assert got.shape == (61,)


WIDE = {"width": 32, "allow_subnormal": False}


@given(
    st.floats(-(2.0**99), 2.0**99, **WIDE),
    st.floats(0, 2.0**99, **WIDE),
    st.floats(1, 2.0**99, **WIDE),
    st.floats(0, 1, **WIDE),
)
@settings(max_examples=60, deadline=None)
def test_stays_in_its_range(signal, alpha, rho_max, rho_min):
    rho = float(jax.jit(pgpo.multiplier)(jnp.float32(signal), alpha, rho_max, rho_min))
    assert np.float32(rho_min) <= rho <= np.float32(rho_max)


def test_the_cap_is_exact_and_flat():
    rho, slope = jax.value_and_grad(pgpo.multiplier)(jnp.float32(9.0), 1.0, 3.3)
    assert rho == np.float32(3.3)
    assert slope == 0


def test_no_cap(x64):
    rho = pgpo.multiplier(jnp.float64(30.0), 1.0, float("inf"))
    np.testing.assert_allclose(rho, np.exp(30.0), rtol=1e-14)
    assert pgpo.multiplier(jnp.float64(1e4), 1.0, float("inf")) == jnp.inf


def test_zero_alpha_is_no_modulation():
    assert pgpo.multiplier(jnp.array([-5.0, 0.0, 5.0]), 0.0).tolist() == [1.0] * 3


def test_two_derivatives_batched(x64):
    signal = jnp.array([-0.4, 0.1, 0.3])
    first = jax.vmap(jax.grad(lambda i: pgpo.multiplier(i, 1.5, 4.0)))(signal)
    second = jax.vmap(jax.grad(jax.grad(lambda i: pgpo.multiplier(i, 1.5, 4.0))))(signal)
    np.testing.assert_allclose(first, 1.5 * np.exp(1.5 * np.asarray(signal)), rtol=1e-13)
    np.testing.assert_allclose(second, 2.25 * np.exp(1.5 * np.asarray(signal)), rtol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("int32", "float32")],
)
def test_computed_in_float32(dtype, expected):
    rho = pgpo.multiplier(jnp.asarray(60000, dtype), 1.0)  # alpha * I would overflow half precision
    assert rho == 2
    assert rho.dtype == expected


def test_float64_stays(x64):
    assert pgpo.multiplier(jnp.float64(0.1)).dtype == jnp.float64
    assert pgpo.multiplier(jnp.float32(0.1)).dtype == jnp.float32


@pytest.mark.parametrize(("name", "value"), REFUSED)
@pytest.mark.parametrize(
    "factory",
    [
        lambda **kw: pgpo.multiplier(0.0, **kw),
        pgpo.scale_by_information,
        lambda **kw: pgpo.pgpo(optax.sgd(0.1), **kw),
    ],
)
def test_refuses_bad_hyperparameters(factory, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .* got {re.escape(repr(value))}"):
        factory(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("decay", 1.0), ("decay", -0.1), ("delay", 2), ("delay", 0.5)]
)
def test_refuses_bad_filters(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got {value!r}"):
        pgpo.scale_by_information(**{name: value})


# Past the type checks that these tests run with, which would stop all of them.
@pytest.mark.parametrize(
    "value", ["1.0", "much", None, 1j, np.array([1.0, 2.0]), jnp.ones(1), [1.0]], ids=repr
)
def test_only_one_number_is_a_hyperparameter(value):
    """An array would give each entry of an update a multiplier of its own, without a word."""
    with pytest.raises(ValueError, match=r"alpha must be a finite number >= 0, got "):
        check_hyperparameters(value, 2.0, 0.0)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.array(1.0), jnp.bfloat16(1), True])
def test_any_kind_of_number_is_one(value):
    check_hyperparameters(value, value, value)


def test_tracers_are_not_checked():
    got = jax.jit(lambda a: pgpo.multiplier(1.0, a))(-1.0)
    np.testing.assert_allclose(got, np.exp(-1.0), rtol=1e-6)
