"""The instrument on the real thing: verdicts, negative controls, traps and refusals."""

import dataclasses
import json
import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sde
from sde.monte_carlo import Estimate
from sde.order import Measurement, _monte_carlo

# Polynomial moments of the quadratic are closed: exact rows cost milliseconds.
MOMENTS = ("mean", "m2", "m4")
QUICK = {"observables": MOMENTS}


GOOD = sde.EQUATIONS["second_order"]


def _misread(chain, setting, state):
    # The noise read as Stratonovich: half the slope of the diffusion joins the drift.
    slope = jax.jacfwd(lambda x: GOOD.diffusion(chain, setting, x)[0, 0])(state)
    return GOOD.drift(chain, setting, state) + 0.25 * slope


def _of_minibatch(chain, setting, state):
    # Signal and gradient coupled as in Algorithm 1, whatever the chain does.
    return GOOD.drift(sde.CHAINS["pgpo_minibatch"], setting, state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("swap", "chain", "verdict"),
    [
        ({}, "pgpo_minibatch", "order 2"),
        ({"drift": sde.EQUATIONS["corrected"].drift}, "pgpo_minibatch", "order 1"),
        ({"diffusion": sde.EQUATIONS["thm2ii"].diffusion}, "pgpo_minibatch", "order 1"),
        ({"drift": _misread}, "pgpo_minibatch", "order 1"),
        ({}, "pgpo_population", "order 2"),
        ({"drift": _of_minibatch}, "pgpo_population", "order 0"),
    ],
    ids=["none", "correction", "diffusion", "interpretation", "none-uncoupled", "coupling"],
)
def test_each_swap_changes_the_verdict(swap, chain, verdict):
    equation = dataclasses.replace(GOOD, **swap)
    assert sde.Comparison("quadratic", chain, equation, **QUICK).order().verdict == verdict


def test_order_zero_is_confirmed_by_the_floor():
    report = sde.Comparison("quadratic", "pgpo_minibatch", "thm2ii", **QUICK).order()
    assert report.verdict == "order 0"
    assert abs(report.c0 - report.floors[report.decisive]) < 0.05 * abs(report.c0)
    assert abs(report.floors["mean"] - -0.16244) < 1e-5


def test_var_over_eta_sees_what_order_one_does_not():
    wrong = sde.Comparison("quadratic", "pgpo_population", "thm2ii", **QUICK).order()
    right = sde.Comparison("quadratic", "pgpo_population", "consistent", **QUICK).order()
    assert wrong.verdict == right.verdict == "order 1"
    assert abs(right.variance_ratio - 1) < 0.005
    assert abs(wrong.variance_ratio - 1.090) < 0.002


def test_the_mean_alone_confirms_nothing_but_may_refute():
    # On a linear drift the mean would confirm the theorem as printed, which is false.
    blind = sde.Comparison("quadratic", "sgd", "thm2i_literal", observables=("mean",)).order()
    assert blind.findings["mean"].verdict == "order 1"
    assert blind.verdict == "undecided"
    assert "m2" in blind.reason
    seen = sde.Comparison("quadratic", "sgd", "thm2i_literal", observables=("mean", "m2")).order()
    assert seen.verdict == "order 0"
    alone = sde.Comparison("quadratic", "pgpo_minibatch", "thm2ii", observables=("mean",)).order()
    assert alone.verdict == "order 0"


@pytest.mark.slow
def test_euler_at_the_step_of_the_chain_verifies_nothing():
    scheme = sde.MonteCarlo(paths=256, substeps=1, richardson=False)
    report = sde.Comparison("quadratic", "sgd", "eq7", **QUICK).order(scheme)
    assert report.verdict == "undecided"
    assert "Euler with dt = eta" in report.reason


def test_a_solver_that_is_not_extrapolated_does_not_refute_order_two(monkeypatch):
    def of_euler(method, asked):
        # Its own weak error is all there is: of order 1, for an equation that is of order 2.
        etas, size = np.asarray(asked.etas), len(asked.observables)
        errors = np.outer(0.2 * etas, np.ones(size))
        return Measurement(
            asked.evidence(errors, 1e-6 * errors, None, 0 * errors, 1000), (1.0, 0.0), 1000, {}
        )

    monkeypatch.setattr(sde.MonteCarlo, "measure", of_euler)
    second = sde.Comparison("quadratic", "sgd", "second_order", **QUICK)
    seen = second.order(sde.MonteCarlo())
    assert seen.verdict == "order 1", "with extrapolation it would be the equation's"
    hidden = second.order(sde.MonteCarlo(richardson=False))
    assert hidden.verdict == "undecided"
    assert "without extrapolation" in hidden.reason
    first = sde.Comparison("quadratic", "sgd", "eq7", **QUICK)
    assert first.order(sde.MonteCarlo(richardson=False)).verdict == "order 1"


def test_a_floor_too_small_for_these_steps_is_not_certified_as_order_one():
    # The covariance term is proportional to alpha: so small, every error looks linear.
    faint = dataclasses.replace(sde.PROBLEMS["quadratic"], alpha=1e-4)
    report = sde.Comparison(faint, "pgpo_minibatch", "thm2ii", **QUICK).order()
    assert all(abs(p - 1) < 0.05 for p, _ in report.slopes.values())
    assert report.verdict == "undecided"
    assert "floor" in report.reason


def test_without_noise_there_is_no_ratio_of_variances():
    report = sde.Comparison("quadratic", "sgd", "eq7", batch_size=4, replace=False, **QUICK).order()
    assert report.verdict == "order 1"
    assert np.isnan(report.variance_ratio)
    assert json.loads(report.to_json())["variance_ratio"] is None


@pytest.mark.slow
def test_monte_carlo_agrees_with_the_exact_engine_and_decides():
    etas = tuple(2.0**-k for k in range(3, 8))
    report = sde.Comparison("quadratic", "pgpo_minibatch", "thm2ii", etas=etas, **QUICK).order(
        sde.MonteCarlo(paths=4096, key=jax.random.key(1))
    )
    exact = sde.weak_errors("quadratic", "pgpo_minibatch", "thm2ii", etas=etas, observables=MOMENTS)
    for j, name in enumerate(MOMENTS[:2]):
        z = (report.errors[name] - exact.terminal[:, j]) / report.standard_errors[name]
        # Richardson leaves O(dt^2), visible only where the linear control is exact.
        assert np.all(np.abs(report.errors[name] - exact.terminal[:, j]) < 2e-3)
        assert np.all(np.abs(z[1:]) < 8)
    assert report.verdict == "order 0"
    # What the controls leave is of third order in the root of the step.
    assert report.gains is not None
    assert np.all(report.gains["mean"] > 1000)
    assert report.gains["mean"][-1] > 50 * report.gains["mean"][0]
    stored = json.loads(report.to_json())
    assert stored["verdict"] == "order 0"
    assert stored["slope_ci"] == list(report.slope_ci)
    assert stored["settings"]["seed"] == [0, 1]
    assert stored["settings"]["solver"] == "Euler"
    assert stored["settings"]["substeps"] == 4


@pytest.mark.parametrize(("variance", "ratio"), [(0.1, 1.0), (1e-17, np.nan)])
def test_a_chain_without_noise_has_no_ratio_of_variances_by_simulation(
    variance, ratio, monkeypatch
):
    def estimate(problem, which, wanted, **_):
        values = np.array([float(g.function(np.array([0.5]))) for g in wanted])
        values[-1] += variance
        return Estimate(values, np.full(len(wanted), 1e-6), np.ones(len(wanted)), 8)

    for name in ("estimate_chain", "estimate_equation"):
        monkeypatch.setattr(_monte_carlo, name, estimate)
    asked = sde.Comparison("quadratic", "sgd", "eq7", etas=(1 / 4,), observables=("mean",))
    found = asked.order(sde.MonteCarlo(paths=8))
    np.testing.assert_allclose(found.variance_ratio, ratio, rtol=1e-12)
    assert math.isnan(found.variance_ratio_error) == math.isnan(ratio)


def test_four_rungs_are_undecided():
    report = sde.Comparison("quadratic", "sgd", "eq7", etas=[1 / 8, 1 / 16, 1 / 32, 1 / 64]).order()
    assert report.verdict == "undecided"
    assert "at least 5" in report.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"etas": (0.3, 0.1)}, "eta must divide the horizon"),
        ({"etas": (1 / 16, 1 / 8)}, "etas must decrease"),
        ({"etas": ()}, "etas must hold"),
        ({"horizon": -1.0}, "horizon must be a positive number, got -1.0"),
        ({"observables": ()}, "at least one test function"),
        ({"observables": ("m2", "m2")}, "distinct names"),
        ({"observables": ("m9",)}, "unknown observable 'm9'"),
        ({"batch_size": 5, "replace": False}, "at most N=4"),
    ],
)
def test_a_question_that_has_no_meaning_is_refused_as_it_is_asked(change, message):
    with pytest.raises(ValueError, match=message):
        sde.Comparison("quadratic", "sgd", "eq7", **change)


def test_a_single_name_and_a_bound_without_meaning_are_refused():
    with pytest.raises(TypeError, match=r"sequence of test functions, such as \['mean'\]"):
        sde.Comparison("quadratic", "sgd", "eq7", observables="mean")
    asked = sde.Comparison("quadratic", "sgd", "eq7")
    for tolerance in (float("nan"), 0.0, -1.0, 1.0):
        with pytest.raises(ValueError, match="tolerance must be above 0 and below 1, got"):
            asked.order(tolerance=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": 0}, "paths must be"),
        ({"chunk": 0}, "chunk must be"),
        ({"solver": diffrax.Heun(), "richardson": True}, "richardson extrapolates Euler"),
        ({"solver": diffrax.Dopri5()}, "must declare how it reads the noise"),
        ({"substeps": 0}, "substeps must be"),
        ({"solver": diffrax.SEA()}, "SEA takes only noise that does not depend on the state"),
    ],
)
def test_refusals_come_before_any_simulation(monkeypatch, change, message):
    monkeypatch.setattr(sde.MonteCarlo, "measure", lambda *_: pytest.fail("it simulated"))
    with pytest.raises(ValueError, match=message):
        sde.Comparison("quadratic", "sgd", "eq7").order(sde.MonteCarlo(**change))


def test_a_method_is_an_object():
    for wrong in ("exact", sde.Exact):
        with pytest.raises(TypeError):
            sde.Comparison("quadratic", "sgd", "eq7").order(wrong)


def test_order_two_needs_smoothness():
    with pytest.raises(ValueError, match="needs a smooth multiplier"):
        sde.Comparison("sliding_kink", "pgpo_population", "second_order")


@pytest.mark.slow
def test_a_problem_of_ones_own():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Cosine(sde.Problem):
        theta0: tuple[float, ...] = (0.5,)

        def losses(self, theta):
            return 1.0 - jnp.cos(theta[0] + jnp.asarray([-0.5, 0.0, 0.5]))

        def signals(self, theta):
            return jnp.tanh(jnp.asarray([0.5, -0.2, 0.1]) * theta[0])

    report = sde.Comparison(Cosine(), "pgpo_minibatch", "ode", **QUICK).order()
    assert report.verdict == "order 1"
    assert report.problem == "Cosine"
