"""AdamW under the multiplier: where its decay stands in what is run, in b, and in the rows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo
import sde
from sde.problems import StudentTeacher

DECAY, ETA = 0.3, 1 / 16
RATES = {"b1": 2.0, "b2": 1.0, "eps": 0.1}
SIDES = ("inside", "outside")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounded(StudentTeacher):
    """rho in float32, as `scale_by_information` computes it."""

    def multiplier(self, information):
        return super().multiplier(information.astype(jnp.float32)).astype(information.dtype)


PROBLEM = Rounded()


def run_as(side):
    """AdamW as it is run, in optax's own parts."""

    def make(learning_rate, weight_decay, **rates):
        below = functools.partial(pgpo.pgpo, alpha=PROBLEM.alpha, rho_max=PROBLEM.rho_max)
        if side == "inside":
            return below(optax.adamw(learning_rate, weight_decay=weight_decay, **rates))
        decay = optax.add_decayed_weights(-learning_rate * weight_decay)
        return optax.chain(below(optax.adam(learning_rate, **rates)), decay)

    return sde.optax_chain(make, regime="ballistic", weight_decay=DECAY, name=side, **RATES)


def written(side, sign=1.0):
    """The same by hand, bias correction included."""

    def begin(problem):
        return problem.start, jnp.zeros(1), jnp.zeros(1), 0.0

    def advance(problem, state, examples, eta):
        theta, first, second, count = state
        gradient = problem.gradients(theta)[examples].mean(0)
        rho = problem.multiplier(problem.signals(theta)[examples].mean())
        b1, b2 = 1 - RATES["b1"] * eta, 1 - RATES["b2"] * eta
        first = b1 * first + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient**2
        count = count + 1.0
        root = jnp.sqrt(second / (1 - b2**count)) + RATES["eps"]
        direction, decay = first / (1 - b1**count) / root, sign * DECAY * theta
        step = rho * (direction + decay) if side == "inside" else rho * direction + decay
        return theta - eta * step, first, second, count

    return sde.StateChain(begin, advance)


@functools.partial(jax.jit, static_argnums=0)
def follow(chain):
    rows = jnp.asarray(np.random.default_rng(0).integers(0, PROBLEM.num_examples, (200, 2)))

    def step(state, row):
        state = chain.step(PROBLEM, state, row, ETA)
        return state, state[0]

    return jax.lax.scan(step, chain.initial_state(PROBLEM), rows)[1]


@pytest.mark.parametrize("side", SIDES)
def test_the_decay_of_what_is_run_stands_where_it_is_said_to(side):
    run = follow(run_as(side))
    np.testing.assert_allclose(run, follow(written(side)), rtol=0, atol=1e-12)
    other = SIDES[1 - SIDES.index(side)]
    for control in (written(other), written(side, sign=-1.0)):
        assert float(jnp.abs(run - follow(control)).max()) > 1e-2


@pytest.mark.parametrize("side", SIDES)
def test_the_chain_of_the_rows_is_adamw_after_its_bias_correction(side):
    chain = sde.STATEMENTS[f"adamw-{side}-corrected"].chain
    optimizer = run_as(side)
    theta, first, second = jnp.array([0.7]), jnp.array([-0.4]), jnp.array([1.3])
    state = optimizer.begin(PROBLEM)[1]

    def late(leaf):
        # After so many steps 1 - b^count is 1.
        return jnp.asarray(10**6, leaf.dtype) if leaf.ndim == 0 else leaf

    state = jax.tree.map(late, optax.tree.set(state, mu=first, nu=second))
    for n in range(PROBLEM.num_examples):
        row = jnp.asarray([n])
        theirs, _ = optimizer.advance(PROBLEM, (theta, state), row, ETA)
        start = {"theta": theta, "m": first, "v": second}
        mine = chain.advance(PROBLEM, start, row, ETA)["theta"]
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
        other = sde.STATEMENTS[f"adamw-{SIDES[1 - SIDES.index(side)]}-corrected"].chain
        assert float(jnp.abs(other.advance(PROBLEM, start, row, ETA)["theta"] - mine)[0]) > 1e-4


@pytest.mark.parametrize("side", SIDES)
def test_the_drift_has_the_decay_times_the_mean_rho_or_not(side):
    problem = StudentTeacher()
    setting = sde.Setting(problem, ETA)
    chain = sde.STATEMENTS[f"adamw-{side}-corrected"].chain
    theta, first, second = (jnp.array([x]) for x in (0.7, -0.4, 1.3))
    weights, _, signals = setting.enumerate(theta)
    size = weights @ problem.multiplier(signals)
    direction = first / (jnp.sqrt(second) + 0.1)
    wanted = -size * direction - DECAY * theta * (size if side == "inside" else 1.0)
    found = chain.drift(setting, jnp.concatenate([theta, first, second]))
    np.testing.assert_allclose(found[:1], wanted, atol=1e-13)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("what", ["misplaced", "wrong-sign"])
def test_wrong_decays_leave_a_floor_and_the_right_one_none(side, what):
    row = sde.STATEMENTS[f"adamw-{side}-{what}"]
    wrong = sde.ode_floor("student_teacher", row.chain, row.equation, "mean")
    assert abs(wrong) > 0.04
    assert sde.ode_floor("student_teacher", row.chain, "corrected", "mean") == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in sde.STATEMENTS if n.startswith("adamw-")])
def test_the_rows_of_adamw(name):
    row = sde.STATEMENTS[name]
    asked = sde.Comparison("student_teacher", row.chain, row.equation, etas=row.etas)
    # With fewer paths than the row has; the controls leave a millionth of the variance.
    report = asked.order(sde.MonteCarlo(paths=128))
    assert report.verdict == row.expected, report.reason
