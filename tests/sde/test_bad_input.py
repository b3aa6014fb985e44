"""What the laboratory refuses by name, and roots whose eigenvalues are equal or zero."""

from dataclasses import dataclass, replace

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sde
from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde._equations import as_eta
from sde._psd import psd_root
from sde.monte_carlo import _ensemble
from sde.monte_carlo._ensemble import check_paths, gather, over_chunks


def drawn(rank, size=4):
    factor = np.random.default_rng(rank).standard_normal((size, rank))
    return factor @ factor.T


MATRICES = {
    "isotropic": 2.0 * np.eye(3),
    "two equal": np.diag([1.0, 1.0, 4.0]),
    "rank one": drawn(1),
    "zero": np.zeros((3, 3)),
    "general": drawn(4) + np.eye(4),
}


def by_eigh(matrix):
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T


@pytest.mark.parametrize("name", MATRICES)
def test_the_root_has_derivatives(name):
    matrix = jnp.asarray(MATRICES[name])
    tangent = jnp.asarray(drawn(3, len(matrix)))
    root, slope = jax.jvp(psd_root, (matrix,), (tangent,))
    np.testing.assert_allclose(root @ root, matrix, atol=1e-9)
    assert np.isfinite(slope).all()
    first, second = jax.jvp(lambda a: jax.jvp(psd_root, (a,), (tangent,))[1], (matrix,), (tangent,))
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    if name in ("isotropic", "two equal", "general"):
        # R dR + dR R = dA, and a difference quotient.
        np.testing.assert_allclose(root @ slope + slope @ root, tangent, atol=1e-9)
        step = 1e-5
        ahead, behind = (psd_root(matrix + s * step * tangent) for s in (1, -1))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(
            second, (ahead - 2 * root + behind) / step**2, rtol=1e-3, atol=1e-3
        )
    # The control: where eigenvalues are equal, the derivative of eigh is none.
    plain = jax.jvp(by_eigh, (matrix,), (tangent,))[1]
    assert np.isfinite(plain).all() == (name == "general")


@dataclass(frozen=True, kw_only=True)
class Isotropic(sde.Problem):
    """Noise without a preferred direction in three dimensions."""

    theta0: tuple[float, ...] = (0.5, 0.2, -0.1)

    def gradients(self, theta):
        return theta + jnp.concatenate([jnp.eye(3), -jnp.eye(3)])

    def signals(self, theta):
        return jnp.zeros(6) * theta[0]


@pytest.mark.slow
def test_a_stratonovich_solver_runs_in_three_dimensions(key):
    settings = {"chain": "sgd", "eta": 1 / 8, "paths": 4, "key": key}
    paths = sde.simulate(Isotropic(), "eq7", solver=diffrax.Heun(), **settings)
    assert np.isfinite(paths).all()


@pytest.mark.parametrize(
    "eta", [np.float32(0.125), np.float64(0.125), jnp.float32(0.125), np.array(0.125), 0.125]
)
def test_an_eta_of_any_kind_is_the_same(eta):
    assert as_eta(eta) == 0.125
    assert type(as_eta(eta)) is float
    wanted = sde.exact_expectation("quadratic", "sgd", "mean", eta=0.125)
    assert sde.exact_expectation("quadratic", "sgd", "mean", eta=eta) == wanted


@pytest.mark.parametrize("eta", [0.0, -0.1, float("nan"), "0.1", None, True + 0j, np.ones(1)])
def test_other_etas_are_refused(eta):
    with pytest.raises(PGPOValueError, match="eta must be a positive number"):
        as_eta(eta)


@pytest.mark.parametrize("paths", [0, -5, 10**15])
def test_so_many_paths_are_refused(paths):
    with pytest.raises(PGPOValueError, match=r"paths must be a whole number in \[1, 10\*\*11\]"):
        check_paths(paths, 1)


def test_paths_beyond_the_memory_are_refused(monkeypatch, key):
    def full(shape):
        raise MemoryError("Unable to allocate")

    monkeypatch.setattr("sde.monte_carlo._ensemble.np.empty", full)
    with pytest.raises(PGPOValueError, match="in memory, got 4: Unable to allocate"):
        gather(lambda key: jnp.ones((4, 1)), key, 4, 4, 1)


@dataclass(frozen=True, kw_only=True)
class Lengths(sde.Problem):
    """Losses and signals of the shapes that are asked for."""

    theta0: tuple[float, ...] = (0.5,)
    losses_shape: tuple[int, ...] = (3,)
    signals_shape: tuple[int, ...] = (3,)

    def losses(self, theta):
        return jnp.ones(self.losses_shape) * theta[0] ** 2

    def signals(self, theta):
        return jnp.ones(self.signals_shape) * theta[0]


@pytest.mark.parametrize(
    ("losses", "signals"), [((3,), (2,)), ((3,), (1,)), ((3, 1), (3,)), ((), ()), ((3,), ())]
)
def test_lengths_that_differ_are_refused(losses, signals, key):
    problem = Lengths(losses_shape=losses, signals_shape=signals)
    with pytest.raises(PGPOValueError, match="Lengths must have one loss and one"):
        sde.run_chain(problem, "pgpo_minibatch", eta=1 / 8, paths=4, key=key)
    assert Lengths().num_examples == 3


@dataclass(frozen=True, kw_only=True)
class Wide(sde.Problem):
    """A matrix of data that may not fit theta0, and a field that may be an array."""

    theta0: tuple[float, ...] = (0.5, 0.1)
    columns: int = 2
    shift: object = 0.0

    def losses(self, theta):
        return (jnp.ones((4, self.columns)) @ theta - self.shift) ** 2

    def signals(self, theta):
        return 0.1 * jnp.ones(4) * theta[0]


def _flat(chain, setting, state):
    return jnp.zeros(state.shape[0])


EQ7 = sde.EQUATIONS["eq7"]
LINE_SEARCH = sde.optax_chain(optax.lbfgs)
MISNAMED = sde.optax_chain(optax.sgd, regime="ballistic", b1=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": Wide(columns=3)}, r"losses of Wide must take theta of shape \(2,\), the len"),
        ({"problem": Wide(shift=np.zeros(4))}, "'shift' of Wide is of type ndarray. Keep a tuple"),
        ({"problem": Wide(theta0=[0.5, 0.1])}, "'theta0' of Wide is of type list"),
        ({"equation": replace(EQ7, drift=lambda *_: jnp.zeros(3))}, "the drift of 'eq7' must have"),
        ({"equation": replace(EQ7, diffusion=_flat)}, r"shape \(2, 2\) on Wide, got \(2,\)"),
        ({"observable": lambda theta: theta}, r"one number per theta, got the shape \(2,\)"),
        ({"observable": lambda theta: theta[0] @ theta}, "must take theta of shape"),
        ({"chain": LINE_SEARCH}, r"lbfgs\) must step on the gradient of a minibatch"),
        ({"chain": MISNAMED}, "optimizer must take learning_rate, b1, and fails with: sgd"),
    ],
)
def test_a_question_that_cannot_be_computed_is_refused_as_it_is_asked(change, message):
    def ask(problem=Wide(), chain="sgd", equation=EQ7, observable="m2"):
        return sde.Comparison(
            problem, chain, equation, observables=["mean", observable], etas=(1 / 4, 1 / 8)
        )

    with pytest.raises((PGPOValueError, PGPOTypeError), match=message):
        ask(**change)
    # The control: nothing else is wrong with it.
    assert ask().etas == (1 / 4, 1 / 8)


def test_many_chunks_say_how_long_they_take(monkeypatch, key):
    def slow(key, scale):
        return jnp.ones(()) * scale

    monkeypatch.setattr(_ensemble, "_WORTH_TELLING", 0.0)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    told = []
    chunks = list(over_chunks(slow, key, 5, 2.0, label="chain, eta=0.5", tell=told.append))
    assert len(chunks) == 5
    (line,) = told
    assert line.startswith("chain, eta=0.5: 5 chunks of paths, about ")
    # Two rounds are over by then.
    list(over_chunks(slow, key, 2, 2.0, tell=told.append))
    assert len(told) == 1


def test_a_chunk_beyond_memory_is_named(monkeypatch, key):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    def none(key):
        return key

    monkeypatch.setattr(_ensemble, "_sharded", lambda *_: exhausted)
    with pytest.raises(PGPOValueError, match=r"chunk must be small enough .* \(chain, eta=0.5\)"):
        list(over_chunks(none, key, 1, label="chain, eta=0.5"))
    monkeypatch.setattr(_ensemble, "_sharded", lambda *_: broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        list(over_chunks(none, key, 1))


def test_a_step_that_is_too_large_is_told_so():
    from sde.problems import PROBLEMS

    well = PROBLEMS["double_well"]
    with pytest.raises(PGPOValueError, match=r"there is none\. Use a smaller eta"):
        sde.exact_expectation(well, "sgd", "mean", eta=4.0, horizon=8.0)
