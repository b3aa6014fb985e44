"""Post-training from parts: a policy, a task, an objective and an optimizer, in one jitted step."""

# ruff: noqa: E402
from pgpo_jax._extras import require_extra

# This comes before the modules that need the extra, so that the error names all missing packages.
require_extra("train")

from pgpo_jax.training._step_report import StepReport as StepReport
from pgpo_jax.training._train import (
    TrainResult as TrainResult,
    make_trainer as make_trainer,
    read_config as read_config,
    train as train,
)
from pgpo_jax.training._trainer import Trainer as Trainer
from pgpo_jax.training.config import (
    DriftConfig as DriftConfig,
    EngineConfig as EngineConfig,
    EvaluationConfig as EvaluationConfig,
    InformationConfig as InformationConfig,
    LoRAConfig as LoRAConfig,
    LossConfig as LossConfig,
    MeshConfig as MeshConfig,
    OptimizerConfig as OptimizerConfig,
    PolicyConfig as PolicyConfig,
    ReopoldConfig as ReopoldConfig,
    RlcsdConfig as RlcsdConfig,
    RltfConfig as RltfConfig,
    RolloutConfig as RolloutConfig,
    SelectionConfig as SelectionConfig,
    TeacherConfig as TeacherConfig,
    TextsConfig as TextsConfig,
)
from pgpo_jax.training.config._information_presets import (
    INFORMATION_PRESETS as INFORMATION_PRESETS,
    with_information as with_information,
)
from pgpo_jax.training.config._json import (
    check_same_config as check_same_config,
    from_json as from_json,
)
from pgpo_jax.training.config._presets import PRESETS as PRESETS
from pgpo_jax.training.config._published import (
    PUBLISHED as PUBLISHED,
    with_published as with_published,
)
from pgpo_jax.training.config._train_config import Parts as Parts, TrainConfig as TrainConfig
from pgpo_jax.training.devices._mesh import (
    fetch_rows as fetch_rows,
    gather_rows as gather_rows,
    make_mesh as make_mesh,
    process_local_rows as process_local_rows,
    shard_rows as shard_rows,
)
from pgpo_jax.training.devices._processes import (
    DistributedConfig as DistributedConfig,
    connect as connect,
    is_first as is_first,
)
from pgpo_jax.training.memory._abstract import abstract_step as abstract_step
from pgpo_jax.training.memory._estimate import (
    MemoryPlan as MemoryPlan,
    memory_plan as memory_plan,
)
from pgpo_jax.training.memory._shapes import model_shape as model_shape
from pgpo_jax.training.objectives import (
    DRIFT as DRIFT,
    GRPO as GRPO,
    OBJECTIVES as OBJECTIVES,
    OPCD as OPCD,
    OPD as OPD,
    OPSD as OPSD,
    REOPOLD as REOPOLD,
    RLCSD as RLCSD,
    RLSD as RLSD,
    RLTF as RLTF,
    SDFT as SDFT,
    SDPO as SDPO,
    SFT as SFT,
    SRPO as SRPO,
    Models as Models,
    Objective as Objective,
    ObjectiveSections as ObjectiveSections,
    ShownSolutions as ShownSolutions,
    Taught as Taught,
    TaughtByData as TaughtByData,
)
from pgpo_jax.training.rollout._batch import Experience as Experience, pack as pack
from pgpo_jax.training.rollout._engine import (
    RolloutEngine as RolloutEngine,
    RolloutRequest as RolloutRequest,
    Sampler as Sampler,
    SamplingParams as SamplingParams,
)
from pgpo_jax.training.rollout._engines import ENGINES as ENGINES, make_engine as make_engine
from pgpo_jax.training.rollout._evaluate import (
    Answer as Answer,
    Evaluation as Evaluation,
    evaluate as evaluate,
)
from pgpo_jax.training.rollout._policy import (
    LoadedPolicy as LoadedPolicy,
    Policy as Policy,
    Responses as Responses,
    load_policy as load_policy,
    model_folder as model_folder,
)
from pgpo_jax.training.rollout._records import Lesson as Lesson, Rollout as Rollout
from pgpo_jax.training.rollout._stream import QuestionStream as QuestionStream
from pgpo_jax.training.rollout._vllm import VLLMServer as VLLMServer
from pgpo_jax.training.run._callbacks import (
    BestCheckpoint as BestCheckpoint,
    Callback as Callback,
    EarlyStopping as EarlyStopping,
    Run as Run,
)
from pgpo_jax.training.run._checkpoint import Checkpoints as Checkpoints
from pgpo_jax.training.run._export import export_model as export_model
from pgpo_jax.training.run._guarded import GuardedTracker as GuardedTracker
from pgpo_jax.training.run._json_lines import JSONLinesTracker as JSONLinesTracker
from pgpo_jax.training.run._lock import locked_file as locked_file
from pgpo_jax.training.run._run_folder import read_jsonl as read_jsonl
from pgpo_jax.training.run._tensorboard import TensorBoardTracker as TensorBoardTracker
from pgpo_jax.training.run._tracker import SilentTracker as SilentTracker, Tracker as Tracker
from pgpo_jax.training.run._trackers import TRACKERS as TRACKERS, make_trackers as make_trackers
from pgpo_jax.training.run._trackio import TrackioTracker as TrackioTracker
from pgpo_jax.training.run._wandb import WandbTracker as WandbTracker
from pgpo_jax.training.update._named_optimizers import (
    OPTIMIZERS as OPTIMIZERS,
    named_optimizer as named_optimizer,
)
from pgpo_jax.training.update._optimizer import make_optimizer as make_optimizer
from pgpo_jax.training.update._state import TrainState as TrainState, init_state as init_state
from pgpo_jax.training.update._step import make_train_step as make_train_step
