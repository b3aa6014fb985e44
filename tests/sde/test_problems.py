"""Problems: what they are made of, and that a seventh needs one file."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgpo_jax
import sde
from sde.problems import Quadratic, SlidingKink, StudentTeacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seventh(sde.Problem):
    """No loss: gradients only, which need not be those of any function."""

    theta0: tuple[float, ...] = (0.4,)

    def gradients(self, theta):
        return jnp.tanh(theta + jnp.asarray([[-0.5], [0.2], [0.4]]))

    def signals(self, theta):
        return jnp.asarray([0.5, -0.3, 0.2]) * jnp.cos(theta[0])


def test_table_names():
    assert set(sde.PROBLEMS) == {
        "quadratic",
        "double_well",
        "logistic",
        "student_teacher",
        "torus",
        "sliding_kink",
    }


@pytest.mark.parametrize("name", sde.PROBLEMS)
def test_gradients_are_those_of_the_losses(name):
    problem = sde.PROBLEMS[name]
    theta, step = problem.start, 1e-6
    analytic, losses = np.asarray(jax.jit(problem.gradients)(theta)), jax.jit(problem.losses)
    for k in range(problem.dim):
        shift = step * jnp.eye(problem.dim)[k]
        numeric = (losses(theta + shift) - losses(theta - shift)) / (2 * step)
        np.testing.assert_allclose(analytic[:, k], numeric, atol=1e-8)
    assert problem.signals(theta).shape == (problem.num_examples,)


def test_double_well_gradient_is_the_documented_cubic():
    x = 0.7
    expected = [
        x**3 - x + s + r * x
        for s, r in zip((-0.6, 0.4, 0.5, -0.3), (0.3, -0.4, 0.2, -0.1), strict=True)
    ]
    got = sde.PROBLEMS["double_well"].gradients(jnp.asarray([x]))[:, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_student_teacher_signal_is_an_entropy_difference():
    problem = StudentTeacher()
    p = jax.nn.sigmoid(jnp.asarray(problem.slopes) * 0.3 + jnp.asarray(problem.shifts))
    q = jnp.asarray(problem.teacher)

    def entropy(r):
        return -r * jnp.log(r) - (1 - r) * jnp.log(1 - r)

    theta = jnp.asarray([0.3])
    np.testing.assert_allclose(problem.signals(theta), entropy(p) - entropy(q), rtol=1e-12)
    kl = p * jnp.log(p / q) + (1 - p) * jnp.log((1 - p) / (1 - q))
    np.testing.assert_allclose(problem.losses(theta), kl, rtol=1e-12)


def test_multiplier_is_the_products_own():
    problem = dataclasses.replace(sde.PROBLEMS["double_well"], alpha=1.3, rho_max=1.5)
    signals = jnp.linspace(-2.0, 2.0, 9)
    np.testing.assert_array_equal(
        problem.multiplier(signals), pgpo_jax.multiplier(signals, 1.3, 1.5)
    )


def test_softmin_rounds_the_cap_off():
    hard = dataclasses.replace(sde.PROBLEMS["double_well"], rho_max=2.0)
    signals = jnp.asarray([-1.0, 0.9, 1.1, 3.0])
    for temperature, distance in ((0.3, 0.25), (0.01, 0.01)):
        soft = hard.with_softmin(temperature)
        assert jnp.max(jnp.abs(soft.multiplier(signals) - hard.multiplier(signals))) < distance
        assert soft.smooth
    assert not hard.smooth
    assert Quadratic(rho_max=2.0).smooth, "a constant signal leaves no kink in theta"


def test_torus_drift_is_not_a_gradient_but_sgd_is():
    problem, theta = sde.PROBLEMS["torus"], jnp.asarray([0.7, -0.4])
    setting = sde.Setting(problem, 0.1)
    curls = {}
    for name in ("sgd", "pgpo_population", "pgpo_minibatch"):
        chain = sde.CHAINS[name]
        jacobian = jax.jit(jax.jacfwd(lambda x, chain=chain: chain.drift(setting, x)))(theta)
        curls[name] = abs(float(jacobian[0, 1] - jacobian[1, 0]))
    assert curls["sgd"] < 1e-14
    assert curls["pgpo_population"] > 0.01
    assert curls["pgpo_minibatch"] > 0.01


def test_sliding_kink_starts_on_the_kink():
    for alpha, cap in ((0.7, 2.0), (1.5, 1.2)):
        problem = SlidingKink(alpha=alpha, rho_max=cap)
        signal = float(problem.information(problem.start))
        assert math.isclose(math.exp(alpha * signal), cap, rel_tol=1e-12)


def test_a_seventh_problem_is_taken_everywhere():
    value, error = sde.exact_value(Seventh(), "pgpo_minibatch", "m2", eta=1 / 8)
    again, _ = sde.exact_value(Seventh(), "corrected", "m2", eta=1 / 8, chain="pgpo_minibatch")
    assert error < 1e-10
    assert 0 < abs(value - again) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1.0}, "alpha"),
        ({"rho_max": 0.5}, "rho_max"),
        ({"theta0": ()}, "theta0"),
        ({"softmin": 0.1}, "softmin"),
        ({"softmin": -0.1, "rho_max": 2.0}, "softmin"),
        ({"domain": (1.0, -1.0)}, "domain"),
        ({"domain": (2.0, 3.0)}, "domain must hold theta0"),
        ({"curvatures": (1.0,)}, "one length"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(sde.PROBLEMS["quadratic"], **change)


def test_a_problem_without_losses_or_gradients_says_so():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Empty(sde.Problem):
        theta0: tuple[float, ...] = (0.0,)

        def signals(self, theta):
            return theta

    with pytest.raises(NotImplementedError, match="neither"):
        Empty().gradients(jnp.zeros(1))
