"""The settings of teacher, loss and information."""

import math
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
    """Settings of the teacher: its weights and its prompt.

    Raises:
        ValueError: a setting is out of its range. The message names the rule and the value.

    Examples:
        >>> TeacherConfig(kind="frozen").kind
        'frozen'
    """

    kind: Literal["ema", "live", "frozen", "trust_region", "snapshot", "external"] = "ema"
    """Weights of the teacher. `ema` is a moving average of the student. `live` is the student
    itself. `frozen` is the initial model. `trust_region` mixes the logits of the initial model and
    the student. `snapshot` is the student after the last multiple of `every` steps. `external` is
    another model, which does not change."""
    model: str | None = None
    """Folder or Hub id of the other model, with kind `external`. It may have any size and family,
    but must have the student's tokenizer and vocabulary."""
    rate: float = 0.05
    """Rate of the moving average of `ema`, or share of the student in the mixture of
    `trust_region`."""
    every: int | None = None
    """Number of steps between two snapshots. It is required for kind `snapshot` and not allowed for
    others."""
    success_threshold: float = 0.5
    """Lowest score of a response that counts as a solution."""
    exclude_self: bool = True
    """Never show a response to itself as a solution."""
    strip_thinking: bool = True
    """Remove `<think>` blocks from a solution before it is shown."""
    feedback: bool = False
    """Show the grader's feedback."""
    feedback_only_without_solution: bool = True
    """Show feedback only to samples without a solution."""
    thinking: bool = False
    """Let the teacher think before it answers, if the chat template has this option."""
    template: Literal["published", "sdpo"] = "published"
    """Wording of the teacher's prompt for the objectives opsd, sdft, rlsd and opcd. `published` is
    that of their authors. `sdpo` is that of SDPO for a peer's solution."""
    reason_first: bool = False
    """OPSD: the teacher first writes an explanation of the solution, one per question and step. It
    then reads it together with the solution."""
    max_rationale: int = 1024
    """Longest explanation, in tokens."""
    experience: str | None = None
    """OPCD: a text file with lines `- EXPERIENCE ITEM: ...`, which are lessons from earlier
    attempts at the task. The teacher reads them before each question."""
    system: str | None = None
    """OPCD: a text file that replaces the question's system message for the teacher."""
    max_prompt: int = 10240
    """Largest length of a teacher prompt, in tokens. Samples with longer prompts are dropped and
    counted, never cut."""

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
    """The divergence between student and teacher, as in `pgpo_jax.distillation.divergence`.

    Raises:
        ValueError: a setting is out of its range. The message names the rule and the value.

    Examples:
        >>> LossConfig(support="full", teacher_weight=0.5).teacher_weight
        0.5
    """

    form: Literal["divergence", "advantage"] = "divergence"
    """With `divergence` the divergence is differentiated. With `advantage` the teacher's log-ratios
    are constant advantages of a policy gradient, as in `pgpo_jax.distillation.advantage_loss`. This
    needs teacher_weight 1."""
    teacher_weight: float = 0.5
    support: Support = "topk_tail"
    k: int = 100
    reduction: Literal["sequence_mean", "token_mean", "sequence_sum"] = "sequence_mean"
    """Reduction of the divergences of tokens to the loss of the batch."""
    rollout_clip: float | None = 2.0
    """Upper bound of the ratio of the trainer's to the sampler's probability of a token. `None`
    means no correction. With one optimizer step per batch this is the only ratio that is not 1."""
    rollout_level: Literal["token", "sequence"] = "token"
    """With `token` each token has its own ratio. With `sequence` it has the mean over the tokens of
    its response (SDFT). The latter costs one more product with each output head."""
    entry_clip: float | None = None
    """Upper bound of each word's term of the divergence, in nats (OPSD). `None` means no bound.
    With a bound the loss may be negative."""
    skip_tokens: int = 0
    """Number of first tokens of each response to leave out of the loss and the information
    (SDFT)."""
    modulation: Literal["none", "token", "sequence"] = "none"
    """Weight the divergence of each token by rho of its own information, or by rho of the mean of
    its sequence. The multiplier of the step, rho(I_k), is then 1. alpha, rho_max and rho_min are
    those of `information`. `sequence` costs one more product with each output head."""
    weight: Literal["none", "teacher_entropy", "position", "pass_rate", "belief_shift"] = "none"
    """Weight the loss of each token by a signal without a gradient. `teacher_entropy` gives
    uncertain tokens of the teacher less weight. `position` gives the beginning of a response less
    weight. `pass_rate` gives questions with about half right responses more weight. `belief_shift`
    trains only the questions whose belief in the sampled answers the teacher's context moves most.
    The denominators and the information do not change."""
    weight_min: float = 0.25
    """Smallest weight of `teacher_entropy` and `position`. Their largest weight is 1."""
    weight_max: float = 2.0
    """Largest weight of `pass_rate`. Its smallest weight is 0. Before this bound its mean over the
    batch is 1."""
    weight_share: float = 0.2
    """Share of the questions that `belief_shift` selects, rounded up to whole ones."""
    overlap_k: int | None = None
    """Number k of most likely words for the overlap of student and teacher. The overlap and the
    difference of their entropies are logged (`distillation/...`). `None` logs neither. It needs no
    further pass, but a search for the most likely words of both."""
    chunk: int = 1024
    """Number of tokens whose logits are in memory at the same time."""

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
    """The signal and the multiplier, as in `pgpo_jax.scale_by_information`.

    Raises:
        ValueError: a setting is out of its range. The message names the rule and the value.

    Examples:
        >>> InformationConfig(alpha=1.0, rho_max=2.0).estimator
        'entropy'
    """

    estimator: str = "entropy"
    """One of `pgpo_jax.information.CHOICES`: entropy, kl, js, pointwise, outcome, outcome_contrast.
    The estimator `outcome` is the pointwise gain signed by the grade. `outcome_contrast` is the
    mean gain of right responses minus that of wrong ones. A modulation of the loss needs single
    responses, so it then uses `outcome`."""
    reduction: Literal["sequence_mean", "token_mean", "sequence_sum"] = "sequence_mean"
    alpha: float = 1.0
    """Sensitivity per nat. With 0 there is no multiplier, which is plain SDPO."""
    rho_max: float = 2.0
    rho_min: float = 0.0
    decay: float = 0.0
    delay: Literal[0, 1] = 0
    target_rho: float | None = None
    """Target of the mean of rho, above 1 and below `rho_max`. alpha starts from `alpha` and adapts
    to it, see `pgpo_jax.scale_by_information_to_target`. `None` means a fixed alpha."""
    budget: float | None = None
    """Nats that a step may move the policy per nat of information, in the place of Eq. 9, see
    `pgpo_jax.scale_by_information_budget`. alpha must then be 0 and rho_max 1."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        require(
            self.estimator in CHOICES,
            f"InformationConfig.estimator must be one of {sorted(CHOICES)}",
            self.estimator,
        )
        check_hyperparameters(self.alpha, self.rho_max, self.rho_min)
        require(0 <= self.decay < 1, "InformationConfig.decay must be in [0, 1)", self.decay)
        if self.budget is not None:
            require(
                0 < self.budget < math.inf,
                "InformationConfig.budget must be positive and finite",
                self.budget,
            )
