"""The laboratory of stochastic differential equations behind PGPO."""

# ruff: noqa: E402

from pgpo_jax._extras import require_extra

# This comes before the modules that import these packages, so that one line names all missing ones.
require_extra("sde")

from sde._adaptive import adaptive_chain as adaptive_chain
from sde._chains import Chain as Chain
from sde._equations import (
    EQUATIONS as EQUATIONS,
    Coefficients as Coefficients,
    Equation as Equation,
)
from sde._lookup import (
    as_chain as as_chain,
    as_equation as as_equation,
    as_problem as as_problem,
    count_steps as count_steps,
    short_name as short_name,
)
from sde._named_chains import CHAINS as CHAINS
from sde._optax_chain import OptaxChain as OptaxChain, optax_chain as optax_chain
from sde._regimes import REGIMES as REGIMES, Regime as Regime
from sde._setting import Setting as Setting
from sde._state_chain import StateChain as StateChain
from sde._statements import STATEMENTS as STATEMENTS, Statement as Statement
from sde.exact import (
    exact_expectation as exact_expectation,
    exact_value as exact_value,
    ode_floor as ode_floor,
    weak_errors as weak_errors,
)
from sde.monte_carlo import (
    Estimate as Estimate,
    estimate_chain as estimate_chain,
    estimate_equation as estimate_equation,
    run_chain as run_chain,
    simulate as simulate,
)
from sde.order import (
    Comparison as Comparison,
    Exact as Exact,
    MonteCarlo as MonteCarlo,
    OrderReport as OrderReport,
)
from sde.problems import PROBLEMS as PROBLEMS, Problem as Problem
