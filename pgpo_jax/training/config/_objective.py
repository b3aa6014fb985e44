from dataclasses import dataclass, fields
from typing import Literal

from pgpo_jax._multiplier import check_hyperparameters
from pgpo_jax.distillation._advantage import check_advantage
from pgpo_jax.distillation._divergence import Support, check_divergence
from pgpo_jax.information import CHOICES
from pgpo_jax.training.config._rules import (
    finite,
    one_of_its_choices,
    positive,
    probability,
    require,
)


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher: which weights it has and what it is shown."""

    kind: Literal["ema", "live", "frozen", "trust_region", "snapshot", "external"] = "ema"
    """`ema`: slow copy of the student; `live`: the student itself; `frozen`: the initial model;
    `trust_region`: logits mixed between the initial model and the student; `snapshot`: the student
    as it was after the last multiple of `every` steps; `external`: another model, which stays as it
    is."""
    model: str | None = None
    """Folder or Hub id of the other model, with kind `external`: of any size and family, with the
    student's tokenizer and vocabulary."""
    rate: float = 0.05
    """Step of the `ema`, or share of the student in the `trust_region` mix."""
    every: int | None = None
    """Steps between two snapshots; for kind `snapshot` only, which needs it."""
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
    thinking: bool = False
    """Let the teacher think before it answers, where the chat template offers that."""
    template: Literal["published", "sdpo"] = "published"
    """In which words the objectives opsd, sdft, rlsd and opcd show their text to the teacher: their
    authors', or those in which SDPO shows a peer's solution."""
    reason_first: bool = False
    """OPSD: the teacher writes an explanation of the solution first, one per question and step,
    and reads it with the solution."""
    max_rationale: int = 1024
    """Longest such explanation, in tokens."""
    experience: str | None = None
    """OPCD: a text file whose lines `- EXPERIENCE ITEM: ...` the teacher reads before each
    question: what was learnt from earlier tries at the task."""
    system: str | None = None
    """OPCD: a text file that is the teacher's system message in the place of the question's."""
    max_prompt: int = 10240
    """Samples with longer teacher prompts are dropped and counted, never cut."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        probability(self, "rate")
        require(
            self.kind != "external" or bool(self.model),
            "TeacherConfig.model must name another model with kind 'external'",
            self.model,
        )
        require(
            self.kind == "external" or self.model is None,
            f"TeacherConfig.kind must be 'external' with model {self.model!r}: the weights of "
            "another model are not taken from the student",
            self.kind,
        )
        usual = next(entry.default for entry in fields(self) if entry.name == "rate")
        require(
            self.kind != "external" or self.rate == usual,
            f"TeacherConfig.rate must be left at {usual} with kind 'external': the weights of "
            "another model are not averaged",
            self.rate,
        )
        finite(self, "success_threshold")
        positive(self, "max_prompt", "max_rationale")
        require(
            (self.every is not None) == (self.kind == "snapshot"),
            "TeacherConfig.every must be given for kind 'snapshot' and for no other; kind is "
            f"{self.kind!r}",
            self.every,
        )
        if self.every is not None:
            positive(self, "every")


@dataclass(frozen=True)
class LossConfig:
    """The divergence between student and teacher, as in `pgpo_jax.distillation.divergence`."""

    form: Literal["divergence", "advantage"] = "divergence"
    """`divergence`: it is differentiated; `advantage`: the teacher's log-ratios are the constant
    advantages of a policy gradient, as in `pgpo_jax.distillation.advantage_loss`, which needs
    teacher_weight 1."""
    teacher_weight: float = 0.5
    support: Support = "topk_tail"
    k: int = 100
    reduction: Literal["sequence_mean", "token_mean", "sequence_sum"] = "sequence_mean"
    """From the divergence of each token to the loss of the batch."""
    rollout_clip: float | None = 2.0
    """Cap on the ratio of the trainer's to the sampler's probability of a token; `None`: no
    correction. With one optimizer step per batch this is the only ratio that is not 1."""
    rollout_level: Literal["token", "sequence"] = "token"
    """`token`: each token has its own such ratio; `sequence`: the mean over the tokens of its
    response (SDFT). The latter costs one more product with each output head."""
    entry_clip: float | None = None
    """Cut each word's share of the divergence from above at this, in nats (OPSD); `None`: no cut.
    The loss may then be negative."""
    skip_tokens: int = 0
    """Leave the first tokens of each response out of loss and information (SDFT)."""
    modulation: Literal["none", "token", "sequence"] = "none"
    """Weigh the divergence of each token by rho of its own information, or by rho of the mean of
    its sequence, instead of the step by rho(I_k), which is then 1. alpha, rho_max and rho_min are
    those of `information`. `sequence` costs one more product with each output head."""
    weight: Literal["none", "teacher_entropy", "position", "pass_rate", "belief_shift"] = "none"
    """Weigh the loss of each token by a signal without a gradient: less where the teacher is
    unsure, less at the beginning of a response, more where about half of the responses to the
    question are right, or only the questions whose belief in the sampled answers the teacher's
    context moves most. The denominators and the information stay as they are."""
    weight_min: float = 0.25
    """Smallest weight by `teacher_entropy` and `position`, whose largest is 1."""
    weight_max: float = 2.0
    """Largest weight by `pass_rate`, whose smallest is 0 and whose mean over the batch is 1 before
    this cut."""
    weight_share: float = 0.2
    """The share of questions that `belief_shift` chooses, rounded up to whole ones."""
    overlap_k: int | None = None
    """Log how far the k most likely words of student and teacher agree, and how far apart their
    entropies are (`distillation/...`); `None`: do not. No further pass, but a search for the most
    likely words of both."""
    chunk: int = 1024
    """Tokens whose logits are alive at the same time."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        probability(self, "teacher_weight")
        probability(self, "weight_min")
        require(
            1 <= self.weight_max < float("inf"),
            "LossConfig.weight_max must be at least 1 and finite",
            self.weight_max,
        )
        require(
            0 < self.weight_share <= 1,
            "LossConfig.weight_share must be above 0 and at most 1",
            self.weight_share,
        )
        positive(self, "k", "chunk")
        if self.overlap_k is not None:
            positive(self, "overlap_k")
        require(
            self.support != "sampled" or self.teacher_weight == 1.0,
            "LossConfig.teacher_weight must be 1 with support 'sampled'",
            self.teacher_weight,
        )
        check_divergence(self.teacher_weight, self.support, self.k, True, 1.0, self.entry_clip)
        if self.form == "advantage":
            check_advantage(self.support)
            require(
                self.teacher_weight == 1.0,
                "LossConfig.teacher_weight must be 1 with form 'advantage', which has the "
                "direction KL(student||teacher)",
                self.teacher_weight,
            )
            require(
                self.entry_clip is None,
                "LossConfig.entry_clip must be None with form 'advantage': it cuts a divergence",
                self.entry_clip,
            )
        require(
            self.skip_tokens >= 0, "LossConfig.skip_tokens must be at least 0", self.skip_tokens
        )
        if self.rollout_clip is not None:
            positive(self, "rollout_clip")
        require(
            self.rollout_level == "token" or self.rollout_clip is not None,
            "LossConfig.rollout_clip must be a number with rollout_level 'sequence'",
            self.rollout_clip,
        )


@dataclass(frozen=True)
class InformationConfig:
    """The signal and the multiplier, as in `pgpo_jax.scale_by_information`."""

    estimator: str = "entropy"
    """One of `pgpo_jax.information.CHOICES`: entropy, kl, js, pointwise, outcome (the pointwise
    gain signed by the grade), or outcome_contrast (its mean over right responses minus that over
    wrong ones; a modulation of the loss, which is of single responses, is that of outcome)."""
    reduction: Literal["sequence_mean", "token_mean", "sequence_sum"] = "sequence_mean"
    alpha: float = 1.0
    """Per nat; 0 switches the multiplier off, which is plain SDPO."""
    rho_max: float = 2.0
    rho_min: float = 0.0
    decay: float = 0.0
    delay: Literal[0, 1] = 0
    target_rho: float | None = None
    """Mean of rho that alpha is adapted to, from `alpha` on; above 1 and below `rho_max`. See
    `pgpo_jax.scale_by_information_to_target`. `None`: alpha is fixed."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        require(
            self.estimator in CHOICES,
            f"InformationConfig.estimator must be one of {sorted(CHOICES)}",
            self.estimator,
        )
        check_hyperparameters(self.alpha, self.rho_max, self.rho_min)
        require(0 <= self.decay < 1, "InformationConfig.decay must be in [0, 1)", self.decay)
