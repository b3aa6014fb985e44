import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pgpo_jax._multiplier import check_hyperparameters
from pgpo_jax.information import SIGNALS
from pgpo_jax.models import LORA_TARGETS
from pgpo_jax.training._combinations import check_combinations


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{rule}, got {value!r}")


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value > 0, f"{type(owner).__name__}.{name} must be positive", value)


def _probability(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(0 <= value <= 1, f"{type(owner).__name__}.{name} must be in [0, 1]", value)


def _one_of_its_choices(owner: Any) -> None:
    for entry in dataclasses.fields(owner):
        if get_origin(entry.type) is Literal:
            value, choices = getattr(owner, entry.name), get_args(entry.type)
            rule = f"{type(owner).__name__}.{entry.name} must be one of {choices}"
            _require(value in choices, rule, value)


@dataclass(frozen=True)
class RolloutConfig:
    """How the student answers (lengths in tokens)."""

    questions: int = 32
    """Questions per step."""
    samples: int = 8
    """Responses per question."""
    temperature: float = 1.0
    """Sampling temperature; the losses see logits divided by it, too."""
    top_p: float = 1.0
    """Mass of the nucleus that is sampled from."""
    max_prompt: int = 2048
    """Longer questions are dropped and counted, never cut."""
    max_response: int = 8192
    """A response without an end by then is graded as it stands."""
    smallest_bucket: int = 256
    """Lengths are padded to this times a power of two, so that few programs are compiled."""
    row_buckets: int = 4
    """Sequences without a teacher signal are dropped; what remains is padded to a multiple of
    `questions * samples / row_buckets` rows."""
    micro_batch: int | None = None
    """Questions answered at a time, which bounds the key-value cache. `None`: all at once. The
    random numbers differ from those of another `micro_batch`."""
    share_prompts: bool = False
    """Read a prompt once for all responses to it, and a teacher prompt once for all that are shown
    the same solution. Pays where prompts are not short against responses; needs one device and
    no micro-batches."""

    def __post_init__(self) -> None:
        _positive(self, "questions", "samples", "temperature", "max_prompt", "max_response")
        _positive(self, "smallest_bucket", "row_buckets")
        if self.micro_batch is not None:
            _positive(self, "micro_batch")
            _require(
                self.questions % self.micro_batch == 0,
                f"RolloutConfig.micro_batch must divide questions = {self.questions}",
                self.micro_batch,
            )
        _require(0 < self.top_p <= 1, "RolloutConfig.top_p must be in (0, 1]", self.top_p)
        _require(
            self.rows % self.row_buckets == 0,
            "RolloutConfig.row_buckets must divide questions * samples",
            (self.row_buckets, self.questions, self.samples),
        )

    @property
    def rows(self) -> int:
        """Sequences per step."""
        return self.questions * self.samples


@dataclass(frozen=True)
class TeacherConfig:
    """The self-teacher: which weights it has and what it is shown."""

    kind: Literal["ema", "live", "frozen", "trust_region"] = "ema"
    """`ema`: slow copy of the student; `live`: the student itself; `frozen`: the initial model;
    `trust_region`: logits mixed between the initial model and the student."""
    rate: float = 0.05
    """Step of the `ema`, or share of the student in the `trust_region` mix."""
    success_threshold: float = 0.5
    """A response counts as a solution from this score on."""
    exclude_self: bool = True
    """A response is never its own solution."""
    strip_thinking: bool = True
    """Remove `<think>` blocks from a solution before it is shown."""
    feedback: bool = False
    """Show the grader's feedback."""
    feedback_only_without_solution: bool = True
    """Show it only to samples without a solution."""
    misleading: float = 0.0
    """Chance that a shown solution is replaced by a *wrong* answer of the same group, passed off as
    correct. Which ones is a function of (seed, step), and those of a smaller chance are among those
    of a larger one. Where the group has no wrong answer the right one stays, and is counted."""
    max_prompt: int = 10240
    """Samples with longer teacher prompts are dropped and counted, never cut."""

    def __post_init__(self) -> None:
        _one_of_its_choices(self)
        _probability(self, "rate", "misleading")
        _positive(self, "max_prompt")


@dataclass(frozen=True)
class LossConfig:
    """The divergence between student and teacher, as in `pgpo_jax.distillation.divergence`."""

    teacher_weight: float = 0.5
    support: Literal["full", "topk_tail", "topk", "sampled"] = "topk_tail"
    k: int = 100
    aggregation: Literal["sequence_mean", "token_mean", "sequence_sum"] = "sequence_mean"
    rollout_clip: float | None = 2.0
    """Cap on the ratio of the trainer's to the sampler's probability of a token; `None`: no
    correction. With one optimizer step per batch this is the only ratio that is not 1."""
    modulation: Literal["none", "token", "sequence"] = "none"
    """Weigh the divergence of each token by rho of its own information, or by rho of the mean of
    its sequence, instead of the step by rho(I_k), which is then 1. alpha, rho_max and rho_min are
    those of `information`. `sequence` costs one more product with each output head."""
    chunk: int = 1024
    """Tokens whose logits are alive at the same time."""

    def __post_init__(self) -> None:
        _one_of_its_choices(self)
        _probability(self, "teacher_weight")
        _positive(self, "k", "chunk")
        _require(
            self.support != "sampled" or self.teacher_weight == 1.0,
            "LossConfig.teacher_weight must be 1 with support 'sampled'",
            self.teacher_weight,
        )
        if self.rollout_clip is not None:
            _positive(self, "rollout_clip")


@dataclass(frozen=True)
class InformationConfig:
    """The signal and the multiplier, as in `pgpo_jax.scale_by_information`."""

    estimator: str = "entropy"
    """One of `pgpo_jax.information.SIGNALS`: entropy, kl, js, pointwise, or outcome (the pointwise
    gain signed by the grade)."""
    rows: Literal["all", "failures"] = "all"
    """Which sequences with a teacher signal I is measured on: all, or those graded below
    `teacher.success_threshold` (I = 0 if there are none). The loss takes all of them."""
    reduction: Literal["sequence_mean", "token_mean", "sequence_sum"] = "sequence_mean"
    alpha: float = 1.0
    """Per nat. Method `sdpo` runs the same program with 0."""
    rho_max: float = 2.0
    rho_min: float = 0.0
    decay: float = 0.0
    delay: Literal[0, 1] = 0
    target_rho: float | None = None
    """Mean of rho that alpha is adapted to, from `alpha` on; above 1 and below `rho_max`. See
    `pgpo_jax.scale_by_information_to_target`. `None`: alpha is fixed."""
    replay: tuple[float, ...] = ()
    """Control: nats per step that the multiplier is given instead of the measured I, which is still
    logged. Empty: the measured one. Values, not a part of the program: nothing is compiled anew."""
    flip: bool = False
    """Control: the multiplier is given -I."""
    half: Literal["none", "same", "other"] = "none"
    """Control: the gradient comes from questions 0, 2, 4, ... of the step alone, and I from those
    (`same`) or from the others (`other`), whose noise is independent. The loss is then divided by
    the number of sequences of questions 0, 2, 4, ..., and I by that of the sequences it is from."""

    def __post_init__(self) -> None:
        _one_of_its_choices(self)
        _require(
            all(map(math.isfinite, self.replay)),
            "InformationConfig.replay must be finite",
            self.replay,
        )
        _require(
            not (self.replay and self.flip),
            "InformationConfig.flip must be false with a replay, which may hold -I itself",
            self.flip,
        )
        _require(
            self.estimator in SIGNALS,
            f"InformationConfig.estimator must be one of {sorted(SIGNALS)}",
            self.estimator,
        )
        check_hyperparameters(self.alpha, self.rho_max, self.rho_min)
        _require(0 <= self.decay < 1, "InformationConfig.decay must be in [0, 1)", self.decay)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up from 0, and a schedule after it."""

    learning_rate: float = 1e-5
    warmup_steps: int = 10
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    """Global norm of the gradient above which it is scaled down."""
    micro_batch: int | None = None
    """Rows that go through the model at a time; their gradients are added up in float32 and give
    the step of the whole batch. `None`: all rows at once."""
    max_skipped: int = 10
    """Training stops after this many non-finite gradients in a row."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate after the warm-up; `cosine` would be 0 one step after the last of
    `steps`, which can then not be changed when a run is resumed."""
    plateau: bool = False
    """Multiply the rate by `plateau_factor` whenever the loss has not fallen below its least value
    for `plateau_patience` steps (`optax.contrib.reduce_on_plateau`)."""
    plateau_factor: float = 0.5
    plateau_patience: int = 10

    def __post_init__(self) -> None:
        _one_of_its_choices(self)
        _positive(self, "learning_rate", "eps", "clip_norm", "max_skipped", "plateau_patience")
        _require(
            0 < self.plateau_factor < 1,
            "OptimizerConfig.plateau_factor must be in (0, 1)",
            self.plateau_factor,
        )
        if self.micro_batch is not None:
            _positive(self, "micro_batch")
        _require(
            self.warmup_steps >= 0,
            "OptimizerConfig.warmup_steps must be at least 0",
            self.warmup_steps,
        )


@dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adapters (LoRA): the model's own weights are frozen, thin factors are trained."""

    rank: int = 0
    """Of the factors; 0 trains all weights instead."""
    alpha: float = 32.0
    """The product of the factors is multiplied by alpha / rank."""
    targets: tuple[str, ...] = LORA_TARGETS
    """Kernels that have factors."""
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the frozen weights in memory."""

    def __post_init__(self) -> None:
        _one_of_its_choices(self)
        _require(self.rank >= 0, "LoRAConfig.rank must be at least 1, or 0 for none", self.rank)
        _positive(self, "alpha")
        _require(
            bool(self.targets) and set(self.targets) <= set(LORA_TARGETS),
            f"LoRAConfig.targets must be some of {LORA_TARGETS}",
            self.targets,
        )

    @property
    def scale(self) -> float:
        """What multiplies the product of the factors."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class EvaluationConfig:
    """avg@n on held-out questions."""

    every: int = 5
    """Steps between evaluations; the initial and the final model are always evaluated."""
    questions: int = 0
    """How many held-out questions; 0 takes all of a file (a synthetic source needs a number)."""
    samples: int = 16
    temperature: float = 0.6
    top_p: float = 0.95
    batch: int = 32
    """Questions sampled at a time."""

    def __post_init__(self) -> None:
        _positive(self, "every", "samples", "batch")
        _require(
            self.questions >= 0, "EvaluationConfig.questions must be at least 0", self.questions
        )
        _require(
            self.temperature >= 0,
            "EvaluationConfig.temperature must be at least 0",
            self.temperature,
        )


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh; all 1 means one device and no mesh."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        _positive(self, "data", "fsdp", "tensor")

    @property
    def size(self) -> int:
        """Devices in all."""
        return math.prod((self.data, self.fsdp, self.tensor))


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
        _one_of_its_choices(self)
        _positive(self, "steps", "checkpoint_every")
        _require(
            self.keep_checkpoints >= 0,
            "TrainConfig.keep_checkpoints must be at least 0",
            self.keep_checkpoints,
        )
        shards = self.mesh.data * self.mesh.fsdp
        rung = self.rollout.rows // self.rollout.row_buckets
        micro_batch = self.optimizer.micro_batch or rung
        _require(
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
            _require(
                rows % shards == 0,
                f"{name} must be divisible by mesh.data * mesh.fsdp = {shards}",
                rows,
            )
        _require(
            not self.rollout.share_prompts or self.mesh.size == 1,
            "rollout.share_prompts needs one device",
            f"a mesh of {self.mesh.size}",
        )
        _require(
            not self.rollout.share_prompts or self.optimizer.micro_batch is None,
            "rollout.share_prompts needs all rows at once: optimizer.micro_batch must be None",
            self.optimizer.micro_batch,
        )
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
