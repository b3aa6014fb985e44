from dataclasses import dataclass
from typing import Literal

from pgpo_jax.training.config._rules import one_of_its_choices, positive, require

EVALUATION_METRICS = (
    "eval/accuracy",
    "eval/standard_error",
    "eval/response_length",
    "eval/pass_at_k",
    "eval/hesitation_words",
    "eval/dropped_questions",
    "eval/grader_failures",
)
"""The metrics that each evaluation of a run logs."""


@dataclass(frozen=True)
class TextsConfig:
    """Settings of the sampled texts that a run keeps in `texts.jsonl`.

    Added in version 0.2.0.
    """

    rows: int = 4
    """Number of responses of a step to keep, each to another question. 0 keeps none."""
    every: int = 1
    """Number of steps between steps whose texts are kept."""
    evaluation: int = 4
    """Number of held-out questions of which each evaluation keeps the first response."""

    def __post_init__(self) -> None:
        positive(self, "every")
        for name in ("rows", "evaluation"):
            value = getattr(self, name)
            require(value >= 0, f"TextsConfig.{name} must be at least 0", value)


@dataclass(frozen=True)
class SelectionConfig:
    """Settings of the best checkpoint and of early stopping, both by evaluations.

    Added in version 0.2.0.
    """

    metric: str = "eval/accuracy"
    """The metric of the evaluations to compare."""
    best: Literal["largest", "smallest"] = "largest"
    """Whether the largest or the smallest value is the best."""
    keep_best: bool = False
    """Also keep the checkpoint of the best evaluation, in `checkpoints-best`."""
    patience: int | None = None
    """Number of evaluations in a row without a new best value after which the run stops. `None`
    means never."""
    margin: float = 0.0
    """Smallest improvement over the best value that counts as a new best one."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        require(
            self.metric in EVALUATION_METRICS,
            f"SelectionConfig.metric must be a metric of the evaluations {EVALUATION_METRICS}",
            self.metric,
        )
        require(self.margin >= 0, "SelectionConfig.margin must be at least 0", self.margin)
        if self.patience is not None:
            positive(self, "patience")
