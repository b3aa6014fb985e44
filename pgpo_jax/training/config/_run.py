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
"""What each evaluation of a run logs."""


@dataclass(frozen=True)
class TextsConfig:
    """Which sampled texts a run keeps, in `texts.jsonl`.

    Added in version 0.2.0.
    """

    rows: int = 4
    """Responses of a step that are kept, each to another question; 0 keeps none."""
    every: int = 1
    """Steps between steps whose texts are kept."""
    evaluation: int = 4
    """Held-out questions of which each evaluation keeps the first response."""

    def __post_init__(self) -> None:
        positive(self, "every")
        for name in ("rows", "evaluation"):
            value = getattr(self, name)
            require(value >= 0, f"TextsConfig.{name} must be at least 0", value)


@dataclass(frozen=True)
class SelectionConfig:
    """Which checkpoint is the best one, and when a run stops early; both look at evaluations.

    Added in version 0.2.0.
    """

    metric: str = "eval/accuracy"
    """A metric of the evaluations."""
    best: Literal["largest", "smallest"] = "largest"
    """Which value of the metric is the best."""
    keep_best: bool = False
    """Keep the checkpoint of the best evaluation, too, in `checkpoints-best`."""
    patience: int | None = None
    """Stop after this many evaluations in a row without a new best value. `None`: never."""
    margin: float = 0.0
    """How much better than the best so far a value must be to count as a new best one."""

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
