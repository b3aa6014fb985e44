"""Simulation against exact values, against a plain loop, and against what it must refuse."""

import dataclasses

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sde
from sde.monte_carlo import _equation
from sde.monte_carlo._brownian import SummedBrownianPath, brownian_path, check_normals
from sde.monte_carlo._control_variate import Moments
from sde.monte_carlo._ensemble import even_chunks, over_chunks
from sde.monte_carlo._solvers import check_solver, levy_area

KEY = jax.random.key(7)
# E theta and E theta^2 of SGD on the quadratic at eta = 1/8, K = 8, as fractions.
SGD_MEAN = 3225738019513 / 8796093022208
SGD_M2 = 37824641993517449859835 / 151115727451828646838272


@pytest.mark.slow
def test_diffrax_and_a_plain_scan_take_the_same_steps():
    how = {"chain": "pgpo_minibatch", "eta": 1 / 8, "paths": 64, "key": KEY, "substeps": 2}
    a = sde.simulate("torus", "second_order", **how)
    b = sde.simulate("torus", "second_order", backend="scan", **how)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    assert np.std(a) > 0.01


def test_chain_has_the_exact_moments():
    e = sde.estimate_chain("quadratic", "sgd", ["mean", "m2"], eta=1 / 8, paths=4096, key=KEY)
    # The linearised chain is the chain itself here, so both are exact whatever the sample.
    np.testing.assert_allclose(e.values, [SGD_MEAN, SGD_M2], rtol=0, atol=2e-3)
    assert abs(e.values[0] - SGD_MEAN) < 1e-12 + 4 * e.standard_errors[0]
    raw = sde.run_chain("quadratic", "sgd", eta=1 / 8, paths=20_000, key=KEY)
    assert abs(raw.mean() - SGD_MEAN) < 4 * raw.std() / len(raw) ** 0.5


@pytest.mark.parametrize(
    "chain",
    [
        "pgpo_minibatch",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("pgpo_ema", "pgpo_delayed")),
    ],
)
def test_the_controls_leave_the_expectation_alone(chain):
    how = {"eta": 1 / 8, "paths": 8192, "key": KEY}
    with_ = sde.estimate_chain("quadratic", chain, ["mean", "m2"], **how)
    exact = [sde.exact_expectation("quadratic", chain, g, eta=1 / 8) for g in ("mean", "m2")]
    assert np.all(np.abs(with_.values - exact) < 4 * with_.standard_errors + 1e-12)
    without = sde.estimate_chain("quadratic", chain, ["mean", "m2"], control_variate=False, **how)
    assert np.all(with_.standard_errors < 0.6 * without.standard_errors)
    assert np.all(np.abs(without.values - exact) < 4 * without.standard_errors)


def test_too_few_paths_for_the_regression_on_controls_are_refused():
    how = {"eta": 1 / 4, "key": KEY}
    with pytest.raises(ValueError, match=r"paths must be more than 16, .* got 4"):
        sde.estimate_chain("torus", "pgpo_minibatch", ["mean"], paths=4, **how)
    with pytest.raises(ValueError, match="paths must be more than 1, "):
        sde.estimate_chain("quadratic", "sgd", ["m2"], paths=1, control_variate=False, **how)


def test_the_standard_error_counts_what_the_regression_costs():
    # Of 12 paths, 6 go to the regression on 5 controls: z is then Student's t with 6 degrees.
    rng, z = np.random.default_rng(0), []
    for _ in range(2000):
        controls = rng.standard_normal((12, 5))
        rows = np.concatenate([np.ones((12, 1)), rng.standard_normal((12, 1)), controls], axis=1)
        moments = Moments(1)
        moments.add(rows.T @ rows)
        estimate = moments.estimate()
        z.append(estimate.values[0] / estimate.standard_errors[0])
    assert abs(np.mean(np.abs(z) < stats.t.ppf(0.95, 6)) - 0.9) < 0.03


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (1, r"a path is not finite \(chain, eta=0.5\)"),
        (2, r"the control variates are not finite \(chain, eta=0.5\), and the paths are"),
    ],
)
def test_what_is_not_finite_is_named(column, message):
    rows = np.random.default_rng(0).standard_normal((12, 3))
    rows[:, 0] = 1.0
    moments = Moments(1)
    moments.add(rows.T @ rows)
    assert np.isfinite(moments.estimate().values).all()
    rows[3, column] = np.nan
    moments.add(rows.T @ rows)
    with pytest.raises(FloatingPointError, match=message):
        moments.estimate("chain, eta=0.5")


@pytest.mark.slow
def test_richardson_removes_the_bias_that_euler_has():
    how = {"chain": "sgd", "eta": 1 / 4, "paths": 8192, "key": KEY}
    exact = sde.exact_expectation("quadratic", "eq7", "m2", eta=1 / 4)
    rich = sde.estimate_equation("quadratic", "eq7", ["m2"], substeps=8, **how)
    assert abs(rich.values[0] - exact) < 4 * rich.standard_errors[0] + 1e-4
    plain = sde.estimate_equation("quadratic", "eq7", ["m2"], substeps=1, richardson=False, **how)
    assert abs(plain.values[0] - exact) > 8 * plain.standard_errors[0]


def test_the_pair_of_the_extrapolation_sees_one_path():
    fine = brownian_path(5, 2, KEY)
    coarse = SummedBrownianPath(fine=fine)
    total = fine.evaluate(jnp.asarray(6.0), jnp.asarray(7.0)) + fine.evaluate(
        jnp.asarray(7.0), jnp.asarray(8.0)
    )
    np.testing.assert_array_equal(coarse.evaluate(jnp.asarray(6.0), jnp.asarray(8.0)), total)


def test_normals_of_float32_are_read_in_float64():
    moments = jnp.asarray(6.0), jnp.asarray(7.0)
    drawn = brownian_path(5, 2, KEY, normals="float32").evaluate(*moments)
    assert drawn.dtype == jnp.float64
    np.testing.assert_array_equal(drawn, drawn.astype(jnp.float32))
    whole = brownian_path(5, 2, KEY).evaluate(*moments)
    assert not np.array_equal(whole, whole.astype(jnp.float32))


def test_a_levy_area_of_float32_is_read_in_float64():
    moments = jnp.asarray(6.0), jnp.asarray(7.0)
    path = brownian_path(5, 1, KEY, diffrax.SRA1(), "float32")
    drawn = path.evaluate(*moments, use_levy=True)
    assert isinstance(drawn, diffrax.SpaceTimeLevyArea)
    assert {leaf.dtype for leaf in jax.tree.leaves(drawn)} == {jnp.dtype("float64")}


def test_normals_have_one_of_two_precisions():
    with pytest.raises(ValueError, match="normals must be 'float64' or 'float32', got 'float16'"):
        check_normals("float16")


@pytest.mark.slow
def test_normals_of_float32_give_the_expectations_of_the_exact_engine():
    how = {"chain": "pgpo_minibatch", "eta": 1 / 8, "paths": 8192, "key": KEY}
    exact = {
        equation: sde.exact_expectation(
            "student_teacher", equation, "mean", eta=1 / 8, chain="pgpo_minibatch"
        )
        for equation in ("corrected", "eq7")
    }
    seen = sde.estimate_equation(
        "student_teacher", "corrected", ["mean"], substeps=8, normals="float32", **how
    )
    error, noise = abs(seen.values[0] - exact["corrected"]), seen.standard_errors[0]
    assert error < 4 * noise + 2e-4
    # The test has the power to tell another equation.
    assert abs(seen.values[0] - exact["eq7"]) > 4 * noise + 2e-4


@pytest.mark.slow
def test_stratonovich_solvers_get_their_drift(monkeypatch):
    how = {"chain": "pgpo_minibatch", "eta": 1 / 8, "paths": 8192, "key": KEY, "substeps": 4}
    exact = sde.exact_expectation(
        "student_teacher", "corrected", "mean", eta=1 / 8, chain="pgpo_minibatch"
    )

    def bias():
        e = sde.estimate_equation(
            "student_teacher", "corrected", ["mean"], solver=diffrax.EulerHeun(), **how
        )
        return e.values[0] - exact, e.standard_errors[0]

    value, error = bias()
    assert abs(value) < 0.004 + 4 * error
    # Without the correction the solver integrates another process, off by +0.030.
    monkeypatch.setattr(_equation, "is_stratonovich", lambda solver: False)
    _equation.equation_program.cache_clear()
    value, error = bias()
    _equation.equation_program.cache_clear()
    assert value > 0.02 + 4 * error


@pytest.mark.slow
def test_paths_are_distinct_and_reproducible():
    how = {"eta": 1 / 4, "paths": 50, "key": KEY, "chunk": 16}
    a = sde.simulate("student_teacher", "eq7", chain="sgd", **how)
    assert len(np.unique(a)) == 50
    np.testing.assert_array_equal(a, sde.simulate("student_teacher", "eq7", chain="sgd", **how))


def test_numbers_do_not_depend_on_the_devices():
    assert jax.device_count() == 8

    def draw(key):
        return jax.random.normal(key, (3,))

    spread = list(over_chunks(draw, KEY, 11))
    alone = [draw(jax.random.fold_in(KEY, c)) for c in range(11)]
    np.testing.assert_array_equal(spread, alone)


def test_chunks_are_even():
    assert even_chunks(100, 30) == 25
    assert even_chunks(5, 30) == 5


@pytest.mark.slow
def test_the_memory_of_the_signal_is_not_returned():
    chain = dataclasses.replace(sde.CHAINS["pgpo_ema"], beta=None, rate=2.0)
    x = sde.simulate("quadratic", "augmented", chain=chain, eta=1 / 4, paths=10, key=KEY)
    assert x.shape == (10, 1)
    assert x.dtype == np.float64


def _negative(chain, setting, state):
    return -0.1 * jnp.eye(state.shape[0], dtype=state.dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "quadradic"}, "unknown problem 'quadradic'; there are quadratic"),
        ({"equation": "eq8"}, "unknown equation 'eq8'; there are eq7"),
        ({"chain": "adam"}, "unknown chain 'adam'; there are sgd"),
        ({"eta": 0.3}, "eta must divide the horizon"),
        ({"eta": -0.1}, "eta must be a positive number"),
        ({"paths": 0}, "paths must be a whole number in "),
        ({"paths": -3}, "paths must be a whole number in "),
        ({"substeps": 0}, "substeps must be a whole number >= 1"),
        ({"solver": diffrax.Tsit5()}, "solver must declare how it reads the noise, .* Tsit5 does"),
        ({"solver": diffrax.ShARK()}, "ShARK takes only noise that does not depend on the state"),
        ({"backend": "scan", "solver": diffrax.Heun()}, "backend must be .* got 'scan' with Heun"),
        (
            {"equation": dataclasses.replace(sde.EQUATIONS["eq7"], diffusion=_negative)},
            "positive semi-definite",
        ),
        (
            {"problem": "sliding_kink", "equation": "second_order", "chain": "pgpo_population"},
            "needs a smooth multiplier",
        ),
    ],
)
def test_refusals_come_before_any_simulation(monkeypatch, change, message):
    monkeypatch.setattr(
        "sde.monte_carlo._simulate.gather", lambda *a, **k: pytest.fail("it simulated")
    )
    asked = {
        "problem": "quadratic",
        "equation": "eq7",
        "chain": "sgd",
        "eta": 1 / 4,
        "paths": 4,
    } | change
    # Types are checked first in the suite; outside it the message is the product's own.
    with pytest.raises(Exception, match=message) as caught:
        sde.simulate(asked.pop("problem"), asked.pop("equation"), key=KEY, **asked)
    assert isinstance(caught.value, ValueError)


def test_richardson_is_for_euler():
    with pytest.raises(ValueError, match="richardson extrapolates Euler"):
        sde.estimate_equation(
            *("quadratic", "eq7", ["m2"]),
            chain="sgd",
            eta=1 / 4,
            paths=4,
            key=KEY,
            solver=diffrax.Heun(),
            richardson=True,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shifted(sde.Problem):
    """Losses that differ by a linear term: the noise of their gradients is the same everywhere."""

    theta0: tuple[float, ...] = (0.8, -0.3)

    def losses(self, theta):
        shifts = jnp.asarray([[0.5, 0.1], [-0.3, 0.4], [-0.2, -0.5]])
        return 0.5 * jnp.sum(theta**2) + 0.1 * jnp.sum(theta**4) + shifts @ theta

    def signals(self, theta):
        return jnp.asarray([0.1, -0.2, 0.3]) * theta[0]


@pytest.mark.slow
def test_solvers_for_additive_noise_and_those_that_keep_the_noise_take_it():
    how = {"chain": "sgd", "eta": 1 / 4, "paths": 512, "key": KEY}
    known, shark, reversible = (
        sde.estimate_equation(Shifted(), "eq7", ["mean"], solver=solver, **how).values[0]
        for solver in (diffrax.Euler(), diffrax.ShARK(), diffrax.ReversibleHeun())
    )
    assert abs(shark - known) < 1e-3
    assert abs(reversible - known) < 1e-3
    euler = sde.estimate_equation(Shifted(), "eq7", ["mean"], richardson=False, **how)
    assert abs(euler.values[0] - known) > 5e-3


def test_a_solver_is_taken_by_what_it_declares():
    class Mine(diffrax.Euler):
        pass

    class Undeclared(diffrax.Tsit5):
        pass

    for solver in (Mine(), diffrax.SPaRK(), diffrax.HalfSolver(diffrax.Heun())):
        check_solver(solver)
    assert levy_area(diffrax.SPaRK()) is diffrax.SpaceTimeLevyArea
    assert levy_area(diffrax.HalfSolver(diffrax.ShARK())) is diffrax.SpaceTimeLevyArea
    assert levy_area(Mine()) is diffrax.BrownianIncrement
    for solver, message in (
        (Undeclared(), "Undeclared does not"),
        (diffrax.HalfSolver(diffrax.Dopri5()), r"HalfSolver\(Dopri5\) does not"),
        (diffrax.ALIGN(0.1), "must take a drift and a noise.*ALIGN takes .*UnderdampedLangevin"),
        (diffrax.ItoMilstein(), "ItoMilstein forms one. Use diffrax.StratonovichMilstein"),
    ):
        with pytest.raises(ValueError, match=message):
            check_solver(solver)
    for thing, message in (("euler", "got 'euler'"), (diffrax.Euler, "got the class Euler")):
        with pytest.raises(TypeError, match=message):
            check_solver(thing)


def test_a_path_that_explodes_is_an_error():
    steep = dataclasses.replace(sde.PROBLEMS["double_well"], theta0=(40.0,))
    with pytest.raises(
        FloatingPointError, match=r"not finite \(chain, eta=0\.25\): the step is too"
    ):
        sde.run_chain(steep, "sgd", eta=1 / 4, horizon=4.0, paths=4, key=KEY)
