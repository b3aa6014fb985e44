"""What a batch of responses teaches: one file per objective."""

from pgpo_jax.training.objectives._base import Models as Models, Objective as Objective
from pgpo_jax.training.objectives._grpo import GRPO as GRPO
from pgpo_jax.training.objectives._registry import (
    OBJECTIVES as OBJECTIVES,
    ObjectiveSections as ObjectiveSections,
    make_objective as make_objective,
)
from pgpo_jax.training.objectives._sdpo import SDPO as SDPO, ShownSolutions as ShownSolutions
