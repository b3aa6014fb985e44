"""optax optimizers as chains, against the same steps written by hand."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo
import sde
from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde.problems import StudentTeacher, Torus

TORUS = sde.PROBLEMS["torus"]
STEPS = 300
B1, B2, EPS, DECAY = 0.9, 0.99, 1e-3, 0.1


def adamw(eta):
    return optax.adamw(eta, b1=B1, b2=B2, eps=EPS, weight_decay=DECAY)


def written_adamw(sign=1.0, corrected=True, eps=EPS, powers=(B1, B2)):
    """AdamW as Loshchilov and Hutter write it."""

    def begin(problem):
        zero = jnp.zeros(problem.dim)
        return problem.start, zero, zero, 0.0

    def advance(problem, state, examples, eta):
        theta, first, second, count = state
        gradient = problem.gradients(theta)[examples].mean(0)
        b1, b2 = powers
        first = b1 * first + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient**2
        count = count + 1.0
        m, v = first, second
        if corrected:
            m, v = m / (1 - b1**count), v / (1 - b2**count)
        step = m / (jnp.sqrt(v) + eps) + sign * DECAY * theta
        return theta - eta * step, first, second, count

    return sde.StateChain(begin, advance)


@functools.partial(jax.jit, static_argnums=(0, 1))
def follow(chain, problem, eta):
    """theta after each of many steps on drawn pairs of examples."""
    drawn = np.random.default_rng(0).integers(0, problem.num_examples, (STEPS, 2))
    if isinstance(chain, sde.StateChain):
        rows = jnp.asarray(drawn)
    else:
        rows = jnp.asarray(np.eye(problem.num_examples)[drawn].mean(axis=1))

    def step(state, row):
        state = chain.step(problem, state, row, eta)
        return state, state[: problem.dim]

    return jax.lax.scan(step, chain.initial_state(problem), rows)[1]


def test_adamw_is_the_one_that_is_written_by_hand():
    run = follow(sde.optax_chain(adamw), TORUS, 0.03)
    assert run.dtype == jnp.float64
    assert float(jnp.abs(run[-1] - run[0]).max()) > 0.3
    np.testing.assert_allclose(run, follow(written_adamw(), TORUS, 0.03), rtol=0, atol=1e-12)
    changes: list[dict[str, Any]] = [{"sign": -1.0}, {"corrected": False}, {"eps": 10 * EPS}]
    for change in changes:
        other = follow(written_adamw(**change), TORUS, 0.03)
        assert float(jnp.abs(run - other).max()) > 1e-3, change


def test_the_square_root_regime_scales_epsilon_and_noise():
    eta, eps = 1 / 64, 0.3
    rates: dict[str, Any] = {
        "learning_rate": 0.5,
        "b1": 3.0,
        "b2": 2.0,
        "eps": eps,
        "weight_decay": DECAY,
    }
    chain = sde.optax_chain(optax.adamw, regime="square_root", **rates)
    root = eta**0.5
    given = sde.REGIMES["square_root"].hyperparameters(eta, **rates)
    wanted = {
        "learning_rate": 0.5 * root,
        "b1": 1 - 3.0 * eta,
        "b2": 1 - 2.0 * eta,
        "eps": eps / root,
        "weight_decay": DECAY * root,
    }
    assert given == pytest.approx(wanted, rel=1e-15)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Louder(Torus):
        def gradients(self, theta):
            gradients = super().gradients(theta)
            mean = gradients.mean(axis=0)
            return mean + (gradients - mean) / root

    def by_hand(**changed):
        return sde.optax_chain(lambda _: optax.adamw(**(wanted | changed)))

    run = follow(chain, TORUS, eta)
    np.testing.assert_allclose(run, follow(by_hand(), Louder(), eta), rtol=0, atol=1e-12)
    unscaled = follow(by_hand(eps=eps), Louder(), eta)
    assert float(jnp.abs(run - unscaled).max()) > 1e-2
    assert float(jnp.abs(run - follow(by_hand(), TORUS, eta)).max()) > 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounded(StudentTeacher):
    """rho in float32, as `scale_by_information` computes it."""

    def multiplier(self, information):
        return super().multiplier(information.astype(jnp.float32)).astype(information.dtype)


@pytest.mark.parametrize("signal", ["minibatch", "population"])
def test_pgpo_of_sgd_is_the_chain_of_the_package(signal):
    problem = Rounded(rho_max=1.2)

    def make(eta):
        return pgpo.pgpo(optax.sgd(eta), alpha=problem.alpha, rho_max=problem.rho_max)

    run = follow(sde.optax_chain(make, signal=signal), problem, 0.05)
    np.testing.assert_allclose(
        run, follow(sde.CHAINS[f"pgpo_{signal}"], problem, 0.05), rtol=0, atol=1e-14
    )
    # Beside it: rho in float64, and no multiplier.
    wide = follow(sde.CHAINS[f"pgpo_{signal}"], StudentTeacher(rho_max=1.2), 0.05)
    assert 0 < float(jnp.abs(run - wide).max()) < 1e-6
    assert float(jnp.abs(run - follow(sde.CHAINS["sgd"], problem, 0.05)).max()) > 1e-2


def test_an_optax_chain_is_measured_by_monte_carlo(key):
    def make(eta):
        return pgpo.pgpo(optax.sgd(eta), alpha=0.7, rho_max=float("inf"))

    chain = sde.optax_chain(make, limit="pgpo_minibatch", name="pgpo")
    assert repr(chain) == "optax_chain(pgpo)"
    how = {"eta": 1 / 8, "paths": 2048, "key": key}
    found = sde.estimate_chain("quadratic", chain, ["mean", "m2"], **how)
    exact = [
        sde.exact_expectation("quadratic", "pgpo_minibatch", g, eta=1 / 8) for g in ("mean", "m2")
    ]
    assert np.all(np.abs(found.values - exact) < 4 * found.standard_errors)
    assert np.all(found.gain > 100)


def in_state(eta):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=eta)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: sde.optax_chain(optax.sgd(0.1)),
            PGPOTypeError,
            "step size of a finished transformation",
        ),
        (lambda: sde.optax_chain(optax.sgd, regime="cubic"), PGPOValueError, "there are fixed, b"),
        (lambda: sde.optax_chain(optax.sgd, b1=1.0), PGPOValueError, "rates belong to a regime"),
        (lambda: sde.optax_chain(optax.sgd, limit="adam"), PGPOValueError, "unknown chain 'adam'"),
        (lambda: sde.optax_chain(optax.sgd, signal="none"), PGPOValueError, "signal must be"),
        (
            lambda: sde.optax_chain(optax.adam, regime="ballistic", beta=1.0),
            PGPOValueError,
            "scales learning_rate, eps, weight_decay, b1, b2, decay, momentum; got 'beta'",
        ),
        (
            lambda: sde.optax_chain(optax.adam, regime="ballistic", b1=-1.0),
            PGPOValueError,
            "b1 must be a finite number >= 0, got -1.0",
        ),
    ],
)
def test_what_is_no_chain_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_steps_that_a_regime_does_not_have_are_refused(key):
    chain = sde.optax_chain(optax.adam, regime="ballistic", b2=8.0)
    with pytest.raises(PGPOValueError, match=r"at eta=0\.25 the rate 8\.0 gives -1\.0"):
        sde.run_chain("torus", chain, eta=1 / 4, paths=2, key=key)
    with pytest.raises(PGPOValueError, match="does not depend on eta"):
        sde.run_chain("torus", sde.optax_chain(in_state), eta=1 / 4, paths=2, key=key)
    # Bias correction divides 0 by 0 at eta = 0, and the count moves: there is no equation.
    with pytest.raises(PGPOValueError, match="as `limit` a chain with the b and S to use"):
        sde.ode_floor("quadratic", sde.optax_chain(optax.adam), "corrected", "mean")
