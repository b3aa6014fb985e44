"""The example of a problem, a chain and an optimizer of one's own does run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sde

FILE = Path(__file__).parents[2] / "examples" / "own_problem.py"


@pytest.mark.parametrize("chain", ["momentum", "adamw"])
def test_the_chains_move_downhill_in_three_dimensions(chain, key):
    with jax.enable_x64(True):
        problem = sde.as_problem(f"{FILE}:Bowl")
        how = {"eta": 1 / 8, "horizon": 4.0, "paths": 64, "key": key}
        ends = sde.run_chain(problem, f"{FILE}:{chain}", **how)
        assert ends.shape == (64, 3)
        before, after = (
            float(np.mean(jax.vmap(problem.losses)(jnp.asarray(at))))
            for at in (problem.start[None], ends)
        )
        assert after < 0.7 * before


def test_it_is_looked_at_in_double_precision_without_the_caller_asking():
    """A caller need not have switched to 64 bits, and arrays of the file have them."""

    def shifted(theta):
        return theta[0] - jnp.asarray([0.5])[0]

    names = (f"{FILE}:Bowl", f"{FILE}:momentum", "corrected")
    compared = sde.Comparison(*names, observables=(shifted,))
    assert compared.chain.name == "momentum"


@pytest.mark.slow
def test_the_derived_equation_of_the_momentum_chain_is_of_order_one():
    # The command in the file, with fewer paths.
    report = sde.Comparison(
        *(f"{FILE}:Bowl", f"{FILE}:momentum", "corrected"),
        etas=tuple(2.0**-k for k in range(2, 7)),
    ).order(sde.MonteCarlo(paths=1024))
    assert report.verdict == "order 1", report.reason
    assert (report.problem, report.chain) == ("Bowl", "momentum")
