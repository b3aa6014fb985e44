"""The configuration of a run."""

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
    RlcsdConfig,
    RltfConfig,
    RolloutConfig,
    SelectionConfig,
    TeacherConfig,
    TextsConfig,
)
from pgpo_jax.training.config._checks import (
    check_grpo,
    check_multiplier,
    check_rlcsd,
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
    """The parts of a `Trainer`.

    Added in version 0.2.0.
    """

    policy: LoadedPolicy
    task: Task
    objective: Objective
    optimizer: optax.GradientTransformationExtraArgs


WITHOUT_INFORMATION = ("grpo", "sft", "rltf")
"""The objectives that measure no information and so have no multiplier."""


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run. The defaults are those of the paper, else those of SDPO.

    Raises:
        ValueError: a setting is out of its range. The message names the rule and the value.

    Examples:
        >>> TrainConfig(steps=20, seed=1).steps
        20
    """

    model: str = "tiny"
    """Folder of a Hugging Face model (Llama, Mistral, Qwen2 or Qwen3), a Hub id, or `tiny` for the
    model shipped with the package."""
    task: str = "synthetic:all"
    """The training task, see `pgpo_jax.tasks.load_task`."""
    eval_task: str | None = None
    """Source of the held-out questions. By default it is the `test` split of a synthetic task, or
    the file `test.json` next to a `train.json`. Without either there is no evaluation."""
    grader: GraderConfig = field(default_factory=GraderConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    objective: str = "sdpo"
    """The objective. `sdpo` and `grpo` learn from sampled responses, `sft` from responses in the
    data. With `opsd` the teacher is shown the data's solution, with `sdft` its demonstration, and
    with `opcd` a context of the whole task. With `rlsd` it is shown the answer, and its
    probabilities scale the advantages. With `rlcsd` it is shown right and wrong answers of peers,
    and their contrast moves the advantages. `srpo` treats wrong responses as sdpo and right ones as
    grpo. `drift` does the same with smooth weights by pass rate. `rltf` has a second turn with the
    grader's feedback. With `opd` and `reopold` the teacher is another model, teacher.model.
    FILE.py:NAME is an objective of your own. SDPO with `information.alpha` above 0 is PGPO. On the
    command line all but the first three start with the settings of their authors; see
    docs/objectives.md."""
    steps: int = 100
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype of the computation. The weights are stored in float32."""
    remat: bool = True
    """Recompute each layer in the backward pass instead of storing its activations."""
    remat_policy: Literal[
        "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable"
    ] = "nothing_saveable"
    """Name in `jax.checkpoint_policies` of the activations that are stored with `remat`."""
    attention: Literal["xla", "chunked", "cudnn"] = "xla"
    """`xla` computes all scores at once in float32. `chunked` computes 256 queries at a time, for
    long sequences on any machine. `cudnn` is flash attention on NVIDIA GPUs and needs bfloat16."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    checkpoint_every: int = 50
    """Number of steps between checkpoints. The final state is always saved."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep. With 0 none is written, and the run cannot be
    continued."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers of the numbers in addition to the JSON lines: tensorboard, wandb, trackio,
    FILE.py:NAME."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    information: InformationConfig = field(default_factory=InformationConfig)
    reopold: ReopoldConfig = field(default_factory=ReopoldConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    rltf: RltfConfig = field(default_factory=RltfConfig)
    rlcsd: RlcsdConfig = field(default_factory=RlcsdConfig)
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
        # JAX would truncate a longer seed to its last 32 bits, and NumPy refuses a negative one.
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
        require(
            self.information.budget is None or self.objective not in WITHOUT_INFORMATION,
            f"information.budget must be None with objective {self.objective!r}, which measures no "
            "information",
            self.information.budget,
        )
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
        if self.objective == "rlcsd":
            check_rlcsd(self.rollout, self.optimizer)
        if self.objective == "rltf":
            check_rltf(self.rollout, self.optimizer, self.rltf)
        if self.objective in ("srpo", "drift"):
            check_routed(self.objective, self.rollout, self.teacher, self.loss, self.optimizer)
        check_teacher(self.objective, self.teacher)
        if not is_object_spec(self.objective):
            self.make_objective()

    @property
    def param_dtype(self) -> str:
        """Dtype of the model's weights in memory; trained weights are float32."""
        return self.lora.base_dtype if self.lora.rank else "float32"

    @property
    def alpha(self) -> float:
        """The alpha of the step's multiplier, per nat; 0 without a multiplier."""
        measured = self.objective not in WITHOUT_INFORMATION
        return self.information.alpha if measured and self.loss.modulation == "none" else 0.0

    @property
    def label(self) -> str:
        """A short name of the method; `pgpo` is SDPO with a multiplier."""
        scaled = self.alpha > 0 or self.information.budget or self.loss.modulation != "none"
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
            rlcsd=self.rlcsd,
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
        """Make the parts of a `Trainer`; cheap checks come before the model is loaded.

        Raises:
            ValueError, FileNotFoundError: the task, mesh, optimizer, model or teacher is invalid.
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
            ValueError, FileNotFoundError: the mesh or the model is invalid.
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
        """The engine that generates the responses.

        Raises:
            ValueError, TypeError, RuntimeError: see `pgpo_jax.training.make_engine`.
        """
        return make_engine(self.engine, self.rollout.max_num_seqs)

    def trainer_settings(self, engine: RolloutEngine | None = None) -> dict[str, Any]:
        """The keywords of `Trainer` for the parts; a teacher that is another model is loaded.

        Args:
            engine: result of `make_engine`; `None` makes it here.
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
        """The configuration as nested plain values, for `config.json`."""
        return dataclasses.asdict(self)
