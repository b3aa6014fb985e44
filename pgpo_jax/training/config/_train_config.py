import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pgpo_jax.models._layers import check_attention
from pgpo_jax.training.config._combinations import check_combinations
from pgpo_jax.training.config._rules import one_of_its_choices, positive, require
from pgpo_jax.training.config._sections import (
    EvaluationConfig as EvaluationConfig,
    InformationConfig as InformationConfig,
    LoRAConfig as LoRAConfig,
    LossConfig as LossConfig,
    MeshConfig as MeshConfig,
    OptimizerConfig as OptimizerConfig,
    RolloutConfig as RolloutConfig,
    TeacherConfig as TeacherConfig,
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. The defaults are the paper's; where it is silent, SDPO's."""

    model: str = "tiny"
    """Folder of a Hugging Face Qwen3, a Hub id, or `tiny`: the model shipped with the package."""
    task: str = "synthetic:all"
    """What to train on: see `pgpo_jax.tasks.load_questions`."""
    eval_task: str | None = None
    """What to hold out; by default the `test` split of a synthetic task, or the file `test.json`
    beside a `train.json`; else there is no evaluation."""
    method: Literal["pgpo", "sdpo", "grpo"] = "pgpo"
    """`grpo` is the baseline without a teacher: advantages are scores less the mean of their group,
    the policy loss is clipped, every response trains. Of `loss` it reads the aggregation, the
    rollout clip and the chunk."""
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
    tensorboard: bool = True
    """Write TensorBoard's events beside the JSON lines, which hold the same numbers."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    information: InformationConfig = field(default_factory=InformationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
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
        shards = self.mesh.row_shards
        rung = self.rollout.rows // self.rollout.row_buckets
        micro_batch = self.optimizer.micro_batch or rung
        require(
            rung % micro_batch == 0,
            f"optimizer.micro_batch must divide rollout.questions * samples / row_buckets = {rung}",
            micro_batch,
        )
        for name, rows in (
            ("rollout.questions", self.rollout.questions),
            ("rollout.micro_batch", self.rollout.micro_batch or self.rollout.questions),
            ("evaluation.batch", self.evaluation.batch),
            ("rollout.questions * samples / row_buckets", rung),
            ("optimizer.micro_batch", micro_batch),
        ):
            require(
                rows % shards == 0,
                f"{name} must be divisible by mesh.data * mesh.fsdp = {shards}",
                rows,
            )
        require(
            not self.rollout.share_prompts or self.mesh.size == 1,
            "rollout.share_prompts needs one device",
            f"a mesh of {self.mesh.size}",
        )
        require(
            not self.rollout.share_prompts or self.optimizer.micro_batch is None,
            "rollout.share_prompts needs all rows at once: optimizer.micro_batch must be None",
            self.optimizer.micro_batch,
        )
        check_attention(self.attention, self.dtype)
        check_combinations(self)

    @property
    def loss_sequences(self) -> int:
        """The sequences that the loss is divided by, those without a teacher signal included."""
        settings = self.rollout
        if self.information.half == "none":
            return settings.rows
        return (settings.questions + 1) // 2 * settings.samples

    @property
    def param_dtype(self) -> str:
        """Of the model's weights in memory: what is trained is float32."""
        return self.lora.base_dtype if self.lora.rank else "float32"

    @property
    def alpha(self) -> float:
        """The alpha of the step's multiplier that the program runs with."""
        modulated = self.method == "pgpo" and self.loss.modulation == "none"
        return self.information.alpha if modulated else 0.0

    def to_json(self) -> dict[str, Any]:
        """As nested plain values, for `config.json`."""
        return dataclasses.asdict(self)
