"""The sections of a run's configuration, and the checks of each."""

from pgpo_jax.training.config._drift import DriftConfig as DriftConfig
from pgpo_jax.training.config._engine import EngineConfig as EngineConfig
from pgpo_jax.training.config._objective import (
    InformationConfig as InformationConfig,
    LossConfig as LossConfig,
    TeacherConfig as TeacherConfig,
)
from pgpo_jax.training.config._optimizer import (
    LoRAConfig as LoRAConfig,
    OptimizerConfig as OptimizerConfig,
)
from pgpo_jax.training.config._policy import PolicyConfig as PolicyConfig
from pgpo_jax.training.config._reopold import ReopoldConfig as ReopoldConfig
from pgpo_jax.training.config._rlcsd import RlcsdConfig as RlcsdConfig
from pgpo_jax.training.config._rltf import RltfConfig as RltfConfig
from pgpo_jax.training.config._rollout import (
    EvaluationConfig as EvaluationConfig,
    MeshConfig as MeshConfig,
    RolloutConfig as RolloutConfig,
)
from pgpo_jax.training.config._run import (
    SelectionConfig as SelectionConfig,
    TextsConfig as TextsConfig,
)
