import math
from dataclasses import dataclass
from typing import Literal

from pgpo_jax._multiplier import check_hyperparameters
from pgpo_jax.distillation._divergence import Support
from pgpo_jax.information import CHOICES
from pgpo_jax.models import LORA_TARGETS
from pgpo_jax.training.config._rules import (
    finite,
    one_of_its_choices,
    positive,
    probability,
    require,
)


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
    random numbers are the same."""
    share_prompts: bool = False
    """Read a prompt once for all responses to it, and a teacher prompt once for all that are shown
    the same solution. Pays where prompts are not short against responses; needs one device and
    no micro-batches."""

    def __post_init__(self) -> None:
        positive(self, "questions", "samples", "temperature", "max_prompt", "max_response")
        positive(self, "smallest_bucket", "row_buckets")
        finite(self, "temperature")
        if self.micro_batch is not None:
            positive(self, "micro_batch")
            require(
                self.questions % self.micro_batch == 0,
                f"RolloutConfig.micro_batch must divide questions = {self.questions}",
                self.micro_batch,
            )
        require(0 < self.top_p <= 1, "RolloutConfig.top_p must be in (0, 1]", self.top_p)
        require(
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
        one_of_its_choices(self)
        probability(self, "rate", "misleading")
        finite(self, "success_threshold")
        positive(self, "max_prompt")


@dataclass(frozen=True)
class LossConfig:
    """The divergence between student and teacher, as in `pgpo_jax.distillation.divergence`."""

    teacher_weight: float = 0.5
    support: Support = "topk_tail"
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
        one_of_its_choices(self)
        probability(self, "teacher_weight")
        positive(self, "k", "chunk")
        require(
            self.support != "sampled" or self.teacher_weight == 1.0,
            "LossConfig.teacher_weight must be 1 with support 'sampled'",
            self.teacher_weight,
        )
        if self.rollout_clip is not None:
            positive(self, "rollout_clip")


@dataclass(frozen=True)
class InformationConfig:
    """The signal and the multiplier, as in `pgpo_jax.scale_by_information`."""

    estimator: str = "entropy"
    """One of `pgpo_jax.information.CHOICES`: entropy, kl, js, pointwise, outcome (the pointwise
    gain signed by the grade), or outcome_contrast (its mean over right responses minus that over
    wrong ones; a modulation of the loss, which is of single responses, is that of outcome)."""
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
        one_of_its_choices(self)
        require(
            all(map(math.isfinite, self.replay)),
            "InformationConfig.replay must be finite",
            self.replay,
        )
        require(
            not (self.replay and self.flip),
            "InformationConfig.flip must be false with a replay, which may hold -I itself",
            self.flip,
        )
        require(
            self.estimator in CHOICES,
            f"InformationConfig.estimator must be one of {sorted(CHOICES)}",
            self.estimator,
        )
        require(
            self.rows == "all" or self.estimator != "outcome_contrast",
            "InformationConfig.rows must be 'all' with estimator 'outcome_contrast', which needs "
            "both right and wrong responses",
            self.rows,
        )
        check_hyperparameters(self.alpha, self.rho_max, self.rho_min)
        require(0 <= self.decay < 1, "InformationConfig.decay must be in [0, 1)", self.decay)


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
    """Multiply the rate by `plateau_factor` whenever the loss has not fallen below its least value,
    by one part in 10,000, for `plateau_patience` steps (`optax.contrib.reduce_on_plateau`)."""
    plateau_factor: float = 0.5
    plateau_patience: int = 10

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        positive(self, "learning_rate", "eps", "clip_norm", "max_skipped", "plateau_patience")
        finite(self, "learning_rate", "eps", "weight_decay")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"OptimizerConfig.{name} must be in [0, 1)", value)
        require(
            self.weight_decay >= 0,
            "OptimizerConfig.weight_decay must be at least 0",
            self.weight_decay,
        )
        require(
            0 < self.plateau_factor < 1,
            "OptimizerConfig.plateau_factor must be in (0, 1)",
            self.plateau_factor,
        )
        if self.micro_batch is not None:
            positive(self, "micro_batch")
        require(
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
        one_of_its_choices(self)
        require(self.rank >= 0, "LoRAConfig.rank must be at least 1, or 0 for none", self.rank)
        positive(self, "alpha")
        finite(self, "alpha")
        require(
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
        positive(self, "every", "samples", "batch")
        require(
            self.questions >= 0, "EvaluationConfig.questions must be at least 0", self.questions
        )
        require(
            self.temperature >= 0,
            "EvaluationConfig.temperature must be at least 0",
            self.temperature,
        )
        finite(self, "temperature")
        require(0 < self.top_p <= 1, "EvaluationConfig.top_p must be in (0, 1]", self.top_p)


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh; all 1 means one device and no mesh."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        positive(self, "data", "fsdp", "tensor")

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.row_shards * self.tensor

    @property
    def row_shards(self) -> int:
        """Parts into which questions and sequences are spread."""
        return self.data * self.fsdp
