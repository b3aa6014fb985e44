"""The laboratory of stochastic differential equations behind PGPO."""

from sde._chains import CHAINS as CHAINS, Chain as Chain
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
)
from sde.exact import (
    exact_expectation as exact_expectation,
    exact_value as exact_value,
    ode_floor as ode_floor,
    weak_errors as weak_errors,
)
from sde.problems import PROBLEMS as PROBLEMS, Problem as Problem
