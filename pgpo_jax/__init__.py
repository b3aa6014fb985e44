"""Physics-Guided Policy Optimization (arXiv 2606.03620) as optax building blocks.

Each part is imported on first use (PEP 562), so `import pgpo_jax` and `pgpo --help` do not load
jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pgpo_jax import errors as errors
from pgpo_jax._version import __version__ as __version__
from pgpo_jax.errors import PGPOError as PGPOError

if TYPE_CHECKING:
    from pgpo_jax import distillation as distillation, information as information
    from pgpo_jax._brake import brake as brake
    from pgpo_jax._budget import (
        ScaleByInformationBudgetState as ScaleByInformationBudgetState,
        scale_by_information_budget as scale_by_information_budget,
    )
    from pgpo_jax._multiplier import multiplier as multiplier
    from pgpo_jax._target import (
        ScaleByInformationToTargetState as ScaleByInformationToTargetState,
        scale_by_information_to_target as scale_by_information_to_target,
    )
    from pgpo_jax._transform import (
        ScaleByInformationState as ScaleByInformationState,
        pgpo as pgpo,
        scale_by_information as scale_by_information,
    )

__all__ = [
    "PGPOError",
    "ScaleByInformationBudgetState",
    "ScaleByInformationState",
    "ScaleByInformationToTargetState",
    "brake",
    "distillation",
    "errors",
    "information",
    "multiplier",
    "pgpo",
    "scale_by_information",
    "scale_by_information_budget",
    "scale_by_information_to_target",
]
# The module of each name. A test compares it with the imports above.
_LAZY = {
    "brake": "_brake",
    "ScaleByInformationBudgetState": "_budget",
    "scale_by_information_budget": "_budget",
    "multiplier": "_multiplier",
    "ScaleByInformationToTargetState": "_target",
    "scale_by_information_to_target": "_target",
    "ScaleByInformationState": "_transform",
    "pgpo": "_transform",
    "scale_by_information": "_transform",
}
_LAZY_PACKAGES = ("distillation", "information")


def __getattr__(name: str) -> Any:
    """Imports a name on its first use."""
    if name in _LAZY_PACKAGES:
        return importlib.import_module(f"pgpo_jax.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'pgpo_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pgpo_jax.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "importlib"})
