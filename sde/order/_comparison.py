"""An equation held against a chain, and the order that a method finds."""

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde.order._exact import Exact
from sde.order._method import Method
from sde.order._question import Question
from sde.order._report import OrderReport, report_order
from sde.order._verdict import TOLERANCE

_EXACT = Exact()


class Comparison(Question):
    r"""The question how fast the weak error of an equation against a chain falls with the step.

    `Comparison(problem, chain, equation).order(method)` answers it; the method is `sde.Exact()` or
    `sde.MonteCarlo(...)`, and has the settings that mean something for it alone.

    Args:
        problem: a problem, its name, or `FILE.py:NAME`.
        chain: a chain, likewise.
        equation: an equation, likewise.
        observables: test functions, names or functions of theta.
        etas: at least 5 step sizes for a verdict, each dividing the horizon, coarsest first; `None`
            for those of the method.
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Raises:
        ValueError: a name is unknown; the message names those that exist. Or the horizon is not
            positive, or etas do not divide it or do not decrease. Or there is no observable, or two
            have one name. Or the equation is not for this chain or problem.

    >>> report = Comparison("quadratic", "sgd", "eq7").order()
    >>> report.verdict
    'order 1'

    Added in version 0.2.0.
    """

    def order(self, method: Method = _EXACT, *, tolerance: float = TOLERANCE) -> OrderReport:
        r"""Measures the weak order, and says what the measurement is worth.

        A verdict follows one rule (`sde.order.classify_order`) and rests on all observables; the
        worst counts. Four traps are refused, with "undecided" and the reason:

        * One substep without extrapolation. Euler with dt = eta *is* SGD with Gaussian noise, so it
          measures the scheme and not the equation. Without extrapolation no number of substeps
          tells order 2 from 1.
        * The mean alone. It is blind to the diffusion when the drift is linear. A confirmation
          needs "m2" and a third observable: "cos3x", or "m3" or "m4" where an engine has moments
          only.
        * A Monte Carlo error larger than what it should resolve. It names the paths that would do.
        * An order-0 verdict that the ODE floor does not confirm.

        Args:
            method: `sde.Exact()` or `sde.MonteCarlo(...)`.
            tolerance: equivalence bound of a coefficient that should vanish, as a fraction.

        Returns:
            an `OrderReport`.

        Raises:
            TypeError: a method that is none.
            ValueError: a process that no exact engine covers, a solver that cannot take the noise,
                a diffusion matrix that is no covariance; all before anything is measured.
            FloatingPointError: a path did not stay finite.

        >>> import jax, sde
        >>> quick = sde.MonteCarlo(paths=64, key=jax.random.key(0))
        >>> sde.Comparison("quadratic", "sgd", "eq7", etas=[1 / 2, 1 / 4]).order(quick).verdict
        'undecided'
        """
        if not isinstance(method, Method):
            raise PGPOTypeError(
                "method must be sde.Exact() or sde.MonteCarlo(...), got "
                + (f"the class {method.__name__}" if isinstance(method, type) else repr(method))
            )
        if not 0 < tolerance < 1:
            raise PGPOValueError(f"tolerance must be above 0 and below 1, got {tolerance}")
        asked = self if self.etas is not None else self.at(method.etas)
        return report_order(asked, method, tolerance)
