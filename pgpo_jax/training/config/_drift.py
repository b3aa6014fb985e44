from dataclasses import dataclass

from pgpo_jax.training.config._rules import positive, require


@dataclass(frozen=True)
class DriftConfig:
    """The routing by pass rate, the buffer of successes and the bonus of the objective drift.

    Added in version 0.2.0.
    """

    decay: float = 0.85
    """Decay of the counts of right and wrong responses to a question, for each step since it was
    last asked."""
    prior: float = 8.0
    """Number of pseudo-responses with a pass rate of one half."""
    hard_below: float = 0.3
    """Pass rate at which the weight for hard questions is one half."""
    easy_above: float = 0.7
    """Pass rate at which the weight for easy questions is one half."""
    softness: float = 0.08
    """Width of both sigmoid steps, as a pass rate."""
    bonus_margin: float = 0.2
    """A token of a right response gets a bonus if the student's log-probability exceeds the
    teacher's by more than this, in nats."""
    bonus_max: float = 2.0
    """Largest factor of the bonus; 1: no bonus."""
    kept: int = 4
    """Number of right responses to a question that are kept."""
    questions: int = 50_000
    """Number of questions that are remembered. Beyond it the questions asked longest ago are
    forgotten."""
    buffer_from: int = 0
    """First step, counted from 0, in which a kept response is shown."""
    newest_first: bool = False
    """Show the newest kept response instead of the one with the best score."""
    warmup_steps: int = 0
    """Number of first steps in which all responses with a teacher are distilled and none is
    reinforced. The counts then start again."""

    def __post_init__(self) -> None:
        require(0 < self.decay <= 1, "DriftConfig.decay must be in (0, 1]", self.decay)
        positive(self, "prior", "softness", "kept", "questions")
        require(
            0 < self.hard_below <= self.easy_above < 1,
            "DriftConfig.hard_below must be above 0 and at most easy_above, which is below 1; "
            f"easy_above is {self.easy_above}",
            self.hard_below,
        )
        require(
            self.bonus_margin >= 0,
            "DriftConfig.bonus_margin must be at least 0",
            self.bonus_margin,
        )
        require(
            1 <= self.bonus_max < float("inf"),
            "DriftConfig.bonus_max must be at least 1 and finite",
            self.bonus_max,
        )
        for name in ("buffer_from", "warmup_steps"):
            value = getattr(self, name)
            require(value >= 0, f"DriftConfig.{name} must be at least 0", value)
