"""Self-distilled post-training: configuration, rollouts, the jitted step and run folders."""

from pgpo_jax.training._train import TrainResult as TrainResult, train as train
from pgpo_jax.training._trainer import StepReport as StepReport, Trainer as Trainer
from pgpo_jax.training.config._presets import PRESETS as PRESETS
from pgpo_jax.training.config._train_config import (
    EvaluationConfig as EvaluationConfig,
    InformationConfig as InformationConfig,
    LoRAConfig as LoRAConfig,
    LossConfig as LossConfig,
    MeshConfig as MeshConfig,
    OptimizerConfig as OptimizerConfig,
    RolloutConfig as RolloutConfig,
    TeacherConfig as TeacherConfig,
    TrainConfig as TrainConfig,
)
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
from pgpo_jax.training.memory._estimate import MemoryPlan as MemoryPlan, memory_plan as memory_plan
from pgpo_jax.training.objectives._control import (
    SignalControl as SignalControl,
    signal_control as signal_control,
)
from pgpo_jax.training.rollout._evaluate import Evaluation as Evaluation, evaluate as evaluate
from pgpo_jax.training.rollout._experience import (
    Experience as Experience,
    make_experience as make_experience,
)
from pgpo_jax.training.rollout._policy import (
    Policy as Policy,
    Responses as Responses,
    load_policy as load_policy,
)
from pgpo_jax.training.rollout._stream import QuestionStream as QuestionStream
from pgpo_jax.training.run._checkpoint import Checkpoints as Checkpoints
from pgpo_jax.training.run._guarded import GuardedTracker as GuardedTracker
from pgpo_jax.training.run._json_lines import JSONLinesTracker as JSONLinesTracker
from pgpo_jax.training.run._run_folder import (
    check_same_config as check_same_config,
    read_jsonl as read_jsonl,
)
from pgpo_jax.training.run._tensorboard import TensorBoardTracker as TensorBoardTracker
from pgpo_jax.training.run._tracker import SilentTracker as SilentTracker, Tracker as Tracker
from pgpo_jax.training.run._trackers import TRACKERS as TRACKERS, make_trackers as make_trackers
from pgpo_jax.training.run._trackio import TrackioTracker as TrackioTracker
from pgpo_jax.training.run._wandb import WandbTracker as WandbTracker
from pgpo_jax.training.update._optimizer import make_optimizer as make_optimizer
from pgpo_jax.training.update._state import TrainState as TrainState, init_state as init_state
from pgpo_jax.training.update._step import make_train_step as make_train_step
