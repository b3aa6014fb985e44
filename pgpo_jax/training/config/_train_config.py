import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import optax
from jax.sharding import Mesh

from pgpo_jax.models import check_attention
from pgpo_jax.tasks import ColumnsConfig, GraderConfig, Task, is_object_spec, load_task, make_grader
from pgpo_jax.training.config import (
    DriftConfig,
    EngineConfig,
    EvaluationConfig,
    InformationConfig,
    LoRAConfig,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    PolicyConfig,
    ReopoldConfig,
    RltfConfig,
    RolloutConfig,
    SelectionConfig,
    TeacherConfig,
    TextsConfig,
)
from pgpo_jax.training.config._checks import (
    check_grpo,
    check_multiplier,
    check_rlsd,
    check_rltf,
    check_routed,
    check_rows,
    check_schedule,
    check_sdpo,
    check_sft,
    check_teacher,
    check_weight,
)
from pgpo_jax.training.config._engine import check_logprobs
from pgpo_jax.training.config._rules import one_of_its_choices, positive, require
from pgpo_jax.training.devices._mesh import make_mesh
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._registry import ObjectiveSections, make_objective
from pgpo_jax.training.rollout._engine import RolloutEngine
from pgpo_jax.training.rollout._engines import make_engine
from pgpo_jax.training.rollout._held_out import held_out_questions
from pgpo_jax.training.rollout._policy import LoadedPolicy, load_policy
from pgpo_jax.training.rollout._teacher_model import check_teacher_folder
from pgpo_jax.training.update._optimizer import make_optimizer


class Parts(NamedTuple):
    """What a `Trainer` is made of.

    Added in version 0.2.0.
    """

    policy: LoadedPolicy
    task: Task
    objective: Objective
    optimizer: optax.GradientTransformationExtraArgs


WITHOUT_INFORMATION = ("grpo", "sft", "rltf")
"""The objectives that measure no information, and so have no multiplier."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. The defaults are the paper's; where it is silent, SDPO's."""

    model: str = "tiny"
    """Folder of a Hugging Face model (Llama, Mistral, Qwen2 or Qwen3), a Hub id, or `tiny`: the
    model shipped with the package."""
    task: str = "synthetic:all"
    """What to train on: see `pgpo_jax.tasks.load_task`."""
    eval_task: str | None = None
    """What to hold out; by default the `test` split of a synthetic task, or the file `test.json`
    beside a `train.json`; else there is no evaluation."""
    grader: GraderConfig = field(default_factory=GraderConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    objective: str = "sdpo"
    """What a batch teaches: `sdpo`, `grpo`, `sft` (the responses that the data holds), `opsd` (the
    teacher is shown the data's solution), `sdft` (its demonstration), `rlsd` (its answer, which
    sizes the advantages), `opcd` (a context of the whole task), `srpo` (wrong responses as sdpo,
    right ones as grpo), `drift` (the same softly, by pass rate), `rltf` (a second turn with
    the grader's words), `opd` and `reopold` (another model, teacher.model, on the student's
    responses), or FILE.py:NAME. SDPO with `information.alpha` above 0 is PGPO. On the command line
    all but the first three begin with the settings of their authors; see docs/objectives.md."""
    steps: int = 100
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the computation; the weights are kept in float32."""
    remat: bool = True
    """Recompute each layer in the backward pass instead of storing its activations."""
    remat_policy: Literal[
        "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable"
    ] = "nothing_saveable"
    """What of a layer is stored all the same: a name in `jax.checkpoint_policies`."""
    attention: Literal["xla", "chunked", "cudnn"] = "xla"
    """`xla`: all scores at once, float32; `chunked`: 256 queries at a time, for long sequences on
    any machine; `cudnn`: flash attention on NVIDIA GPUs, which needs bfloat16."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    checkpoint_every: int = 50
    """Steps between checkpoints; the final state is always saved."""
    keep_checkpoints: int = 2
    """0: none is written, and the run cannot be continued."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where numbers go besides the JSON lines: tensorboard, wandb, trackio, FILE.py:NAME."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    information: InformationConfig = field(default_factory=InformationConfig)
    reopold: ReopoldConfig = field(default_factory=ReopoldConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    rltf: RltfConfig = field(default_factory=RltfConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    texts: TextsConfig = field(default_factory=TextsConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        positive(self, "steps", "checkpoint_every")
        require(
            self.keep_checkpoints >= 0,
            "TrainConfig.keep_checkpoints must be at least 0",
            self.keep_checkpoints,
        )
        # JAX would cut a longer one to its last 32 bits, and NumPy refuses a negative one.
        require(0 <= self.seed < 2**32, "TrainConfig.seed must be in [0, 2**32)", self.seed)
        check_rows(
            self.rollout,
            self.evaluation,
            self.optimizer.micro_batch,
            row_shards=self.mesh.row_shards,
            devices=self.mesh.size,
        )
        require(
            self.engine.name == "sampler" or self.rollout.max_num_seqs is None,
            f"rollout.max_num_seqs must be None with engine.name {self.engine.name!r}",
            self.rollout.max_num_seqs,
        )
        if self.engine.name == "vllm":
            sampled = self.rollout.temperature, self.rollout.top_p, self.rollout.top_k
            check_logprobs(self.engine.logprobs_mode, *sampled)
        check_attention(self.attention, self.dtype)
        check_multiplier(self.information, self.loss)
        check_weight(self.loss, self.rollout)
        check_schedule(self.optimizer, self.loss, self.steps)
        if self.objective == "grpo":
            check_grpo(self.rollout, self.optimizer)
        if self.objective == "sft":
            check_sft(self.rollout)
        if self.objective == "sdpo":
            check_sdpo(self.rollout, self.teacher)
        if self.objective == "rlsd":
            check_rlsd(self.rollout, self.optimizer)
        if self.objective == "rltf":
            check_rltf(self.rollout, self.optimizer, self.rltf)
        if self.objective in ("srpo", "drift"):
            check_routed(self.objective, self.rollout, self.teacher, self.loss, self.optimizer)
        check_teacher(self.objective, self.teacher)
        if not is_object_spec(self.objective):
            self.make_objective()

    @property
    def param_dtype(self) -> str:
        """Of the model's weights in memory: what is trained is float32."""
        return self.lora.base_dtype if self.lora.rank else "float32"

    @property
    def alpha(self) -> float:
        """The alpha of the step's multiplier, per nat; 0 where there is none."""
        measured = self.objective not in WITHOUT_INFORMATION
        return self.information.alpha if measured and self.loss.modulation == "none" else 0.0

    @property
    def label(self) -> str:
        """A short name of the method: `pgpo` is SDPO with a multiplier."""
        scaled = self.alpha > 0 or self.loss.modulation != "none"
        return "pgpo" if self.objective == "sdpo" and scaled else self.objective

    def make_objective(self) -> Objective:
        """The objective that `objective` names, with its sections."""
        sections = ObjectiveSections(
            self.teacher,
            self.loss,
            self.information,
            policy=self.policy,
            reopold=self.reopold,
            drift=self.drift,
            rltf=self.rltf,
        )
        return make_objective(self.objective, sections)

    def make_task(self) -> Task:
        """The questions, with their grader; files are read and checked."""
        return load_task(
            self.task,
            eval_spec=self.eval_task,
            columns=self.columns,
            # The task's own grader is used unless another one is named.
            grader=None if self.grader.name == "auto" else make_grader(settings=self.grader),
        )

    def make_optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer with its multiplier; equal settings give the same object."""
        steps = self.steps if self.optimizer.schedule == "cosine" else 1
        return make_optimizer(self.optimizer, self.information, alpha=self.alpha, steps=steps)

    def build(self) -> Parts:
        """Makes the parts of a `Trainer`; what is cheap to check comes before the model.

        Raises:
            ValueError, FileNotFoundError: for a bad task, mesh, optimizer, model or teacher.
        """
        mesh = make_mesh(self.mesh)
        task = self.make_task()
        held_out_questions(task, self.evaluation)
        objective, optimizer = self.make_objective(), self.make_optimizer()
        objective.check_questions(task.questions("train", self.seed))
        if self.teacher.model is not None:
            check_teacher_folder(self.model, self.teacher.model)
        policy = self._load(self.model, mesh, remat=self.remat and self.remat_policy)
        return Parts(policy, task, objective, optimizer)

    def load_teacher(self) -> LoadedPolicy | None:
        """The other model that is the teacher, in the student's dtypes and on its mesh, or `None`.

        Raises:
            ValueError, FileNotFoundError: for a bad mesh or model.
        """
        other = self.teacher.model
        return None if other is None else self._load(other, make_mesh(self.mesh), remat=False)

    def _load(self, model: str, mesh: Mesh | None, *, remat: bool | str) -> LoadedPolicy:
        return load_policy(
            model,
            mesh=mesh,
            dtype=self.dtype,
            remat=remat,
            attention=self.attention,
            param_dtype=self.param_dtype,
        )

    def make_engine(self) -> RolloutEngine:
        """What generates the responses.

        Raises:
            ValueError, TypeError, RuntimeError: see `pgpo_jax.training.make_engine`.
        """
        return make_engine(self.engine, self.rollout.max_num_seqs)

    def trainer_settings(self, engine: RolloutEngine | None = None) -> dict[str, Any]:
        """The keywords of `Trainer` that go with the parts; another model as teacher is loaded.

        Args:
            engine: what `make_engine` gave; `None`: it is made here.
        """
        return {
            "teacher": self.load_teacher(),
            "rollout": self.rollout,
            "evaluation": self.evaluation,
            "lora": self.lora,
            "seed": self.seed,
            "texts": self.texts,
            "micro_batch": self.optimizer.micro_batch,
            "grader_timeout": self.grader.timeout,
            "engine": engine or self.make_engine(),
            "constant_metrics": {"pgpo/alpha": float(np.float32(self.alpha))},
        }

    def fit_settings(self) -> dict[str, Any]:
        """The keywords of `Trainer.fit`."""
        return {
            "steps": self.steps,
            "checkpoint_every": self.checkpoint_every,
            "keep_checkpoints": self.keep_checkpoints,
            "trackers": self.trackers,
            "max_skipped": self.optimizer.max_skipped,
            "selection": self.selection,
        }

    def to_json(self) -> dict[str, Any]:
        """As nested plain values, for `config.json`."""
        return dataclasses.asdict(self)
