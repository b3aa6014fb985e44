r"""The statements about AdamW: where the decoupled weight decay stands, and its sign.

With the decay inside the multiplier, as in `pgpo(optax.adamw(...))`, theta drifts with
$-E[\rho_B](m/P + \lambda\theta)$; outside, with $-E[\rho_B]m/P - \lambda\theta$.
"""

import dataclasses
from collections.abc import Callable

from jaxtyping import Array, Float

from sde._adaptive import adaptive_chain
from sde._chains import Chain
from sde._equations import EQUATIONS, Equation
from sde._setting import Setting
from sde._statement import statement
from sde.order import ETAS

_ADAM = {"first": 2.0, "second": 1.0}
_DECAYED = {
    side: adaptive_chain(
        **_ADAM, weight_decay=0.3, decay_inside=side == "inside", name=f"pgpo_adamw_{side}"
    )
    for side in ("inside", "outside")
}
_UNDECAYED = adaptive_chain(**_ADAM, name="pgpo_adam")


def _drift_outside(chain: Chain, setting: Setting, state: Float[Array, " m"]) -> Float[Array, " m"]:
    del chain
    return _DECAYED["outside"].drift(setting, state)


def _drift_inside(chain: Chain, setting: Setting, state: Float[Array, " m"]) -> Float[Array, " m"]:
    del chain
    return _DECAYED["inside"].drift(setting, state)


def _drift_wrong_sign(
    chain: Chain, setting: Setting, state: Float[Array, " m"]
) -> Float[Array, " m"]:
    return 2.0 * _UNDECAYED.drift(setting, state) - chain.drift(setting, state)


def _wrong(name: str, formula: str, drift: Callable[..., Array]) -> Equation:
    return dataclasses.replace(
        EQUATIONS["corrected"], name=name, formula=formula, source="a control", drift=drift
    )


_OUTSIDE = _wrong("decay_outside", "the decay outside the multiplier", _drift_outside)
_INSIDE = _wrong("decay_inside", "the decay inside the multiplier", _drift_inside)
_SIGN = _wrong("decay_wrong_sign", "the decay with the wrong sign", _drift_wrong_sign)

ADAMW_ROWS = tuple(
    statement(
        f"adamw-{side}-{what}",
        claim,
        _DECAYED[side],
        equation,
        expected,
        "student_teacher",
        etas=ETAS,
        method="monte_carlo",
        paths=1 << 10,
    )
    for side, other, misplaced in (("inside", "outside", _OUTSIDE), ("outside", "inside", _INSIDE))
    for what, claim, equation, expected in (
        (
            "corrected",
            f"the chain's own b and S track PGPO-AdamW with the decay {side} the multiplier",
            "corrected",
            "order 1",
        ),
        (
            "misplaced",
            f"the equation with the decay {other} tracks PGPO-AdamW with the decay {side}",
            misplaced,
            "order 0",
        ),
        (
            "wrong-sign",
            f"a decay away from zero tracks PGPO-AdamW with the decay {side}",
            _SIGN,
            "order 0",
        ),
    )
)
