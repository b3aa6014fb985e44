"""Physics-Guided Policy Optimization (arXiv 2606.03620) as optax building blocks."""

from pgpo_jax import distillation as distillation, errors as errors, information as information
from pgpo_jax._brake import brake as brake
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
from pgpo_jax._version import __version__ as __version__
from pgpo_jax.errors import PGPOError as PGPOError
