"""The statements about the brake: a large alpha under the cap rho_max = 1.

rho is 1 where I > 0 and falls as exp(alpha I) below, so that it has a kink at I = 0.
"""

import dataclasses

from sde._statement import MOMENTS, statement
from sde.problems import PROBLEMS

_BRAKE = {"alpha": 30.0, "rho_max": 1.0}
# A descent along which every signal falls through zero, as of a student that grows sure.
_FALLING = dataclasses.replace(
    PROBLEMS["double_well"],
    **_BRAKE,
    transversal=True,
    signal_slopes=(-1.2, -0.8, -1.0, -0.6),
    signal_shifts=(0.8, 0.2, 0.5, 0.3),
)
_CROSSED = (("double_well, I falling, brake", _FALLING),)
# The signals do not depend on theta: two examples are above zero, two below.
_SELECTED = dataclasses.replace(PROBLEMS["quadratic"], **_BRAKE)
_CONSTANT = (("quadratic, brake", _SELECTED),)

BRAKE_ROWS = (
    statement(
        "brake-crossed",
        "the brake, told the population signal, is tracked across I = 0 by its own b and S",
        "pgpo_population",
        "corrected",
        "order 1",
        problems=_CROSSED,
    ),
    statement(
        "brake-published",
        "Theorem 2(ii) tracks the brake as it is run, signal and gradient of one minibatch",
        "pgpo_minibatch",
        "thm2ii",
        "order 0",
        problems=(*_CROSSED, *_CONSTANT),
    ),
    statement(
        "brake-jensen",
        "-E[rho_B] grad L tracks the brake as it is run",
        "pgpo_minibatch",
        "jensen",
        "order 0",
        problems=(*_CROSSED, *_CONSTANT),
    ),
    statement(
        "brake-corrected",
        "-E[rho_B g_B] tracks the brake as it is run: the gradient of the examples with I > 0",
        "pgpo_minibatch",
        "corrected",
        "order 1",
        problems=(*_CROSSED, *_CONSTANT),
    ),
    statement(
        "brake-delayed-published",
        "Theorem 2(ii) tracks the brake with the signal of the previous minibatch",
        "pgpo_delayed",
        "thm2ii",
        "order 0",
        problems=_CONSTANT,
        observables=MOMENTS,
    ),
    statement(
        "brake-delayed",
        "the delayed brake follows -E[rho_B] grad L: the share of minibatches with I > 0",
        "pgpo_delayed",
        "averaged",
        "order 1",
        problems=_CONSTANT,
        observables=MOMENTS,
    ),
)
