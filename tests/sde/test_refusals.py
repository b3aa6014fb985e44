"""What would have gone wrong without a word, or with the wrong one."""

import dataclasses
import tracemalloc

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sde
from benchmarks.weak_order import largest_difference
from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde._lookup import _lookup
from sde.exact import _process
from sde.exact._layout import Layout, _kinks
from sde.exact._process import Process
from sde.exact._propagation import exponential
from sde.monte_carlo._solvers import check_solver


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads(sde.Problem):
    """Reads one entry of theta and as many data as are asked for."""

    theta0: tuple[float, ...] = (0.5, -0.2)
    entry: int = 1
    last: int = 2

    def losses(self, theta):
        data = jnp.asarray([0.1, -0.4, 0.3])[jnp.asarray([0, 1, self.last])]
        return (theta[self.entry] - data) ** 2 + theta[0] ** 2

    def signals(self, theta):
        return jnp.zeros(3) * theta[0]


def stepping(shift):
    def advance(problem, theta, examples, eta):
        return theta - eta * problem.gradients(theta)[examples + shift].mean(0)

    return sde.StateChain(lambda p: p.start, advance, lambda theta: theta, name="shifted")


def reading(entry):
    return lambda theta: theta[entry] ** 2


STEPPING, READING = stepping(0), reading(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": Reads(entry=5)}, r"gradients of Reads must read .* index 5 is out of bounds"),
        ({"problem": Reads(last=3)}, r"gradients of Reads must read .* index 3 is out of bounds"),
        ({"chain": stepping(1)}, r"the step of shifted must read .* index 3 is out of bounds"),
        ({"observable": reading(2)}, "observable '<lambda>' must read .* index 2 is out"),
    ],
)
def test_an_index_beyond_the_end_is_refused(change, message):
    def ask(problem=Reads(), chain=STEPPING, observable=READING):
        return sde.Comparison(problem, chain, "ode", observables=[observable], etas=(1 / 4,))

    with pytest.raises(PGPOValueError, match=message):
        ask(**change)
    # The control: all else is within its array, the last entries counted from the end, too.
    assert ask(problem=Reads(entry=-1)).etas == (1 / 4,)


def broken(eta):
    def update(updates, state, params=None):
        return updates + "fast", state

    return optax.GradientTransformation(lambda params: (), update)


def unmade(eta):
    return optax.sgd(eta + None)


def test_a_mistake_of_an_optimizer_is_not_told_as_another(key):
    for make, message in (
        (broken, r"a step of optax_chain\(broken\) must be traceable by JAX; it fails with"),
        (unmade, "optimizer must be made, and fails with: unsupported operand"),
        (optax.adam, None),
    ):
        chain = sde.optax_chain(make)
        if message is None:
            assert sde.run_chain("quadratic", chain, eta=1 / 2, paths=2, key=key).shape == (2, 1)
            continue
        with pytest.raises(PGPOTypeError, match=message):
            sde.run_chain("quadratic", chain, eta=1 / 2, paths=2, key=key)
    # One that looks at the loss is still told as such (test_bad_input.py).


class Squared(diffrax.Euler):
    """Euler and a term in the square of the increments, as a scheme of one's own may have."""

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        change = terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
        y1 = jax.tree.map(lambda y, c: y + c + 3.0 * c**2, y0, change)
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful


def test_a_solver_of_ones_own_gets_no_controls_that_rest_on_odd_increments(key):
    how = {"chain": "sgd", "eta": 1 / 8, "paths": 256, "substeps": 2, "key": key}

    def estimate(solver, controlled):
        return sde.estimate_equation(
            "quadratic",
            "eq7",
            ["mean"],
            solver=solver,
            richardson=False,
            control_variate=controlled,
            **how,
        ).values[0]

    assert estimate(Squared(), True) == estimate(Squared(), False)
    # The control: the solvers of diffrax keep theirs.
    assert estimate(diffrax.Euler(), True) != estimate(diffrax.Euler(), False)


class Listed(diffrax.Euler):
    weights: object = None


def test_a_solver_that_cannot_be_hashed_is_refused_by_name():
    with pytest.raises(PGPOTypeError, match=r"solver must be hashable, .*; Listed is not"):
        check_solver(Listed(weights=np.ones(2)))
    check_solver(Listed(weights=(1.0, 1.0)))


def test_numbers_beyond_the_exact_engines_are_refused_by_name():
    with pytest.raises(PGPOValueError, match="generator of an equation must be finite"):
        exponential(np.array([[np.inf, 0.0], [0.0, 1.0]]))
    with pytest.raises(PGPOValueError, match=r"steps of SGD on Torus must be short .* eta=64\.0"):
        sde.exact_expectation("torus", "sgd", "mean", eta=64.0, horizon=128.0)
    torus = dataclasses.replace(sde.PROBLEMS["torus"], alpha=0.0)
    assert abs(sde.exact_expectation(torus, "pgpo_population", "mean", eta=1 / 4)) < 2.0


def many_minibatches():
    quadratic = sde.PROBLEMS["double_well"]
    problem = dataclasses.replace(
        quadratic,
        rho_max=1.3,
        **{
            name: tuple(np.tile(getattr(quadratic, name), 3)[:9])
            for name in ("shifts", "slopes", "signal_slopes", "signal_shifts")
        },
    )
    return Process(problem, sde.CHAINS["pgpo_minibatch"], None, 1 / 8, batch_size=6)


def test_many_minibatches_are_looked_at_a_few_at_a_time(monkeypatch):
    process = many_minibatches()
    states = np.linspace(-1.0, 1.0, 20)[:, None]
    size = len(process.weights)
    assert size == 3003
    seen, plain = [], _process._next_states

    def watched(problem, chain, block, batches, eta):
        seen.append(len(block) * len(batches))
        return plain(problem, chain, block, batches, eta)

    monkeypatch.setattr(_process, "_next_states", watched)
    found = process.next_states(states)
    assert max(seen) * 9 <= 1 << 20
    alone = process.next_states(states[7:8])
    np.testing.assert_allclose(found[7:8], alone, atol=1e-15)

    tracemalloc.start()
    kinks = _kinks(process, Layout(1, None, 0), -2.0, 2.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kinks
    # All of them on the whole scan are 98 MB, and several copies of these were made.
    assert peak < 64e6


def test_nulls_of_two_checkouts_are_compared():
    def rows(*values):
        report = {"errors": {"mean": list(values)}, "sup_errors": None}
        return [{"reports": {"quadratic": report}}]

    assert largest_difference(rows(1.0, None), rows(1.25, None)) == 0.25
    assert largest_difference(rows(1.0, None), rows(1.0, 2.0)) == np.inf
    assert largest_difference(rows(1.0, 2.0), rows(1.0, 2.0)) == 0.0


@pytest.mark.parametrize(
    ("kind", "table", "wanted", "base", "message"),
    [
        ("problem", sde.PROBLEMS, Reads, sde.Problem, r"Pass an instance, Reads\(\), and not"),
        ("chain", sde.CHAINS, optax.sgd(0.1), sde.Chain, "becomes a chain by sde.optax_chain"),
        ("chain", sde.CHAINS, "sgb", sde.Chain, "or FILE.py:NAME$"),
    ],
)
def test_what_is_often_passed_is_told_what_to_write(kind, table, wanted, base, message):
    with pytest.raises(PGPOValueError, match=message):
        _lookup(kind, table, wanted, base)
