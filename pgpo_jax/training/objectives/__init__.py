"""What a batch of responses teaches: one file per objective."""

from pgpo_jax.training.objectives._base import (
    Objective as Objective,
)
from pgpo_jax.training.objectives._by_data import TaughtByData as TaughtByData
from pgpo_jax.training.objectives._drift import DRIFT as DRIFT
from pgpo_jax.training.objectives._grpo import GRPO as GRPO
from pgpo_jax.training.objectives._means import (
    mean_over_loss as mean_over_loss,
    reduction_denominators as reduction_denominators,
)
from pgpo_jax.training.objectives._models import (
    Models as Models,
    student_states as student_states,
    teacher_states as teacher_states,
)
from pgpo_jax.training.objectives._opcd import OPCD as OPCD
from pgpo_jax.training.objectives._opd import OPD as OPD
from pgpo_jax.training.objectives._opsd import OPSD as OPSD
from pgpo_jax.training.objectives._registry import (
    OBJECTIVES as OBJECTIVES,
    ObjectiveSections as ObjectiveSections,
    make_objective as make_objective,
)
from pgpo_jax.training.objectives._reopold import REOPOLD as REOPOLD
from pgpo_jax.training.objectives._rlcsd import RLCSD as RLCSD
from pgpo_jax.training.objectives._rlsd import RLSD as RLSD
from pgpo_jax.training.objectives._rltf import RLTF as RLTF
from pgpo_jax.training.objectives._sdft import SDFT as SDFT
from pgpo_jax.training.objectives._sdpo import SDPO as SDPO, ShownSolutions as ShownSolutions
from pgpo_jax.training.objectives._sft import SFT as SFT
from pgpo_jax.training.objectives._srpo import SRPO as SRPO
from pgpo_jax.training.objectives._taught import Taught as Taught
