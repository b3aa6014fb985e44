"""Expectations without Monte Carlo, each with its own discretisation error."""

from sde.exact._expectation import (
    exact_expectation as exact_expectation,
    exact_value as exact_value,
)
from sde.exact._floor import ode_floor as ode_floor
from sde.exact._half_order import half_order as half_order
from sde.exact._observables import (
    OBSERVABLES as OBSERVABLES,
    Observable as Observable,
    as_observable as as_observable,
)
from sde.exact._rational import rational_moments as rational_moments
from sde.exact._solve import ExactPath as ExactPath, exact_path as exact_path
from sde.exact._weak_errors import WeakErrors as WeakErrors, weak_errors as weak_errors
