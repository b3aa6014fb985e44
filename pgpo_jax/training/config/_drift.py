from dataclasses import dataclass

from pgpo_jax.training.config._rules import positive, require


@dataclass(frozen=True)
class DriftConfig:
    """The routing by pass rate, the buffer of successes and the bonus of the objective drift.

    Added in version 0.2.0.
    """

    decay: float = 0.85
    """Counts of right and wrong responses to a question are multiplied by this for each step since
    it was last asked."""
    prior: float = 8.0
    """Responses that a pass rate of one half counts as."""
    hard_below: float = 0.3
    """Pass rate at which a question is half hard."""
    easy_above: float = 0.7
    """Pass rate at which it is half easy."""
    softness: float = 0.08
    """Width of both steps, as a pass rate."""
    bonus_margin: float = 0.2
    """A token of a right response gets a bonus where the student's log-probability is above the
    teacher's by more than this, nats."""
    bonus_max: float = 2.0
    """Largest factor of the bonus; 1: no bonus."""
    kept: int = 4
    """Right responses to a question that are kept."""
    questions: int = 50_000
    """Questions that are remembered, those last asked; above them the oldest are forgotten."""
    buffer_from: int = 0
    """The first step, counted from 0, in which a kept response is shown."""
    newest_first: bool = False
    """Show the newest kept response instead of the one with the best score."""
    warmup_steps: int = 0
    """First steps in which all that have a teacher are distilled and nothing is reinforced; the
    counts then begin anew."""

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
