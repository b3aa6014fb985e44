import jax
import numpy as np
import pytest
import scipy.linalg

import sde
from sde.exact import as_observable
from sde.exact._process import Process
from sde.exact._propagation import _exponential, _rounded, exponential, propagate
from sde.exact._torus import torus_values


def generator(n: int) -> np.ndarray:
    """A second difference with drift, whose norm grows as n^2."""
    second = np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    first = 0.5 * (np.diag(np.ones(n - 1), 1) - np.diag(np.ones(n - 1), -1))
    return 0.5 * n**2 * 0.04 * second - 0.3 * n * first


@pytest.mark.parametrize(("n", "time"), [(3, 0.01), (60, 0.1), (130, 3.0)])
def test_the_exponential_is_that_of_scipy(n, time):
    matrix = time * generator(n)
    np.testing.assert_allclose(exponential(matrix), scipy.linalg.expm(matrix), atol=1e-13)


def test_a_large_matrix_needs_the_squarings():
    matrix = 0.1 * generator(60)
    with jax.enable_x64(True):
        unscaled = np.asarray(_exponential(np.pad(matrix, (0, 4)), 0))[:60, :60]
    assert np.abs(unscaled - scipy.linalg.expm(matrix)).max() > 1.0


@pytest.mark.parametrize("steps", [1, 32, 45])
def test_propagation_is_repeated_multiplication(steps):
    rng = np.random.default_rng(0)
    matrix, law, final = rng.random((11, 11)) / 6, rng.random(11), rng.random((11, 5))
    power, wanted = np.eye(11), [law @ final]
    for _ in range(steps):
        power = power @ matrix
        wanted.append(law @ power @ final)
    found = propagate(matrix, law, final, steps)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    assert np.abs(propagate(matrix.T, law, final, steps) - wanted).max() > 1e-3


def test_sizes_are_few_and_near():
    sizes = {_rounded(n) for n in range(1, 600)}
    assert all(n <= _rounded(n) <= max(n + 7, 1.125 * n) for n in range(1, 600))
    assert len(sizes) < 40


def test_two_steps_on_the_torus_are_the_sum_over_all_pairs_of_minibatches():
    names = ("mean", "m2", "cos3x")
    functions = tuple(as_observable(name) for name in names)

    def process(chain: str) -> Process:
        return Process(sde.PROBLEMS["torus"], sde.CHAINS[chain], None, 1 / 16)

    chain = process("pgpo_population")
    once = chain.next_states(chain.start[None])[0]
    twice = chain.next_states(once).reshape(-1, 2)
    weights = np.multiply.outer(chain.weights, chain.weights).ravel()
    wanted = [weights @ g.on(twice) for g in functions]
    np.testing.assert_allclose(torus_values(chain, functions, 2, 2)[-1], wanted, atol=1e-12)
    other = torus_values(process("pgpo_minibatch"), functions, 2, 2)[-1]
    assert np.abs(other - wanted).min() > 1e-4
