"""The brake: a large alpha under rho_max = 1, with its rows and what the theory says of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import sde
from sde.problems import SlidingKink
from sde.weak_order import _brake

ROWS = [name for name in sde.STATEMENTS if name.startswith("brake-")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_rows_of_the_brake(name):
    row = sde.STATEMENTS[name]
    for _, problem in row.problems:
        assert (problem.alpha, problem.rho_max) == (30.0, 1.0)
        asked = sde.Comparison(problem, row.chain, row.equation, observables=row.observables)
        report = asked.order()
        assert report.verdict == row.expected, report.reason


def still_point(chain, problem):
    """Where b of a chain vanishes."""
    setting = sde.Setting(problem, 0.0)
    drift = jax.jit(lambda x: chain.drift(setting, x[None])[0])
    return scipy.optimize.brentq(lambda x: float(drift(jnp.asarray(x))), -3.0, 3.0, xtol=1e-12)


def test_the_brake_selects_examples_and_a_delayed_brake_does_not():
    ((_, problem),) = sde.STATEMENTS["brake-delayed"].problems
    curvatures, centres = (np.asarray(v) for v in (problem.curvatures, problem.centres))
    above = np.asarray(problem.information_values) > 0

    def minimum(of):
        return np.average(centres[of], weights=curvatures[of])

    everywhere = minimum(np.full(4, True))
    selected = still_point(sde.CHAINS["pgpo_minibatch"], problem)
    assert abs(selected - minimum(above)) < 1e-5
    assert abs(still_point(sde.CHAINS["pgpo_delayed"], problem) - everywhere) < 1e-9
    assert abs(still_point(sde.CHAINS["pgpo_population"], problem) - everywhere) < 1e-9
    assert abs(selected - everywhere) > 1.0
    # With a small alpha all examples have a weight.
    mild = dataclasses.replace(problem, alpha=1.0)
    assert abs(still_point(sde.CHAINS["pgpo_minibatch"], mild) - minimum(above)) > 0.1


@functools.lru_cache
def time_to_leave(alpha):
    """The time of the path without noise from -2, where I < 0, to where I = 0."""
    problem = dataclasses.replace(sde.PROBLEMS["student_teacher"], alpha=alpha, rho_max=1.0)

    @jax.jit
    def at(x):
        theta = x[None]
        information, gradient = problem.information(theta), problem.gradient(theta)[0]
        return information, -1.0 / (problem.multiplier(information) * gradient)

    zero = scipy.optimize.brentq(lambda x: float(at(jnp.asarray(x))[0]), -2.0, -1.0)
    return scipy.integrate.quad(lambda x: float(at(jnp.asarray(x))[1]), -2.0, zero)[0]


@pytest.mark.parametrize(
    ("alpha", "time"), [(0.0, 1.432), (1.0, 1.501), (10.0, 2.361), (30.0, 7.574), (100.0, 1190.4)]
)
def test_a_wrong_and_sure_student_leaves_late(alpha, time):
    assert time_to_leave(alpha) == pytest.approx(time, rel=1e-3)


def test_a_fall_through_zero_is_slowed_to_a_logarithm():
    # At a constant pull c, I falls as -log(1 + alpha c t) / alpha.
    ((_, problem),) = sde.STATEMENTS["brake-delayed"].problems
    pull, end = 0.4, 50.0
    fallen = scipy.integrate.solve_ivp(
        lambda _, i: -pull * np.asarray(problem.multiplier(jnp.asarray(i))), (0.0, end), [0.0]
    )
    known = -np.log1p(problem.alpha * pull * end) / problem.alpha
    assert fallen.y[0, -1] == pytest.approx(known, rel=1e-2)
    assert fallen.y[0, -1] > -0.22 > -pull * end


@pytest.mark.slow
def test_the_constant_of_a_crossing_does_not_grow_with_alpha():
    mild, steep = _brake.measure_crossing(3.0), _brake.measure_crossing(30.0)
    assert steep.population < 2.0 * mild.population
    assert steep.minibatch < 2.0 * mild.minibatch
    # What the published equation misses does.
    assert abs(steep.published) > 4.0 * abs(mild.published)


@pytest.mark.slow
def test_the_half_order_of_a_slide_grows_with_alpha():
    one = _brake.measure_sliding(1.0)
    assert one.fitted == pytest.approx(one.predicted, rel=0.01)
    assert one.still.endswith("order 1/2")
    assert one.unchanged.endswith("order 1")
    assert "-0.0518 / -0.0518" in _brake.sliding_table([one])[-1]
    ratio = sde.exact.half_order(SlidingKink(alpha=30.0, rho_max=1.0), "ode") / one.predicted
    assert ratio == pytest.approx(30.0)


def test_the_tables_name_every_alpha():
    lines = _brake.crossing_table([_brake.Crossing(30.0, 0.056, 0.035, -0.062, -0.059)])
    assert "| 30 " in lines[-1]
    assert "-0.0620" in lines[-1]
