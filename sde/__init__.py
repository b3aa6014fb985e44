"""The laboratory of stochastic differential equations behind PGPO."""

from sde._chains import CHAINS as CHAINS, Chain as Chain
from sde._control_variate import Estimate as Estimate
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
from sde._order import measure_order as measure_order
from sde._order_report import OrderReport as OrderReport
from sde._setting import Setting as Setting
from sde._simulate import run_chain as run_chain, simulate as simulate
from sde._simulate_expectation import (
    estimate_chain as estimate_chain,
    estimate_equation as estimate_equation,
)
from sde._simulate_solve import SOLVERS as SOLVERS
from sde._statements import STATEMENTS as STATEMENTS, Statement as Statement
from sde.exact import (
    exact_expectation as exact_expectation,
    exact_value as exact_value,
    ode_floor as ode_floor,
    weak_errors as weak_errors,
)
from sde.problems import PROBLEMS as PROBLEMS, Problem as Problem
