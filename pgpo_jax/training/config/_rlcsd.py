"""Settings of the objective rlcsd."""

from dataclasses import dataclass

from pgpo_jax.training.config._rules import finite, positive, require


@dataclass(frozen=True)
class RlcsdConfig:
    """Settings of the contrast of right and wrong hints, of the objective rlcsd.

    Raises:
        ValueError: a setting is out of its range. The message names the rule and the value.

    >>> RlcsdConfig(wrong_hints=2).scale
    0.5

    Added in version 0.2.0.
    """

    wrong_hints: int = 4
    """Largest number of wrong answers of peers that each response is contrasted with. Each is one
    more pass of the teacher."""
    scale: float = 0.5
    """Largest move of an advantage: beta times lambda of the authors."""
    temperature: float = 0.02
    """Temperature in nats. A contrast that is large beside it moves the advantage by the whole
    scale."""
    clip: float = 2.0
    """Bound of a move."""
    threshold: float = 0.02
    """An advantage is moved where the move is larger than this."""
    moved_weight: float = 1.0
    """The weight of the mean over moved tokens beside that over all others."""

    def __post_init__(self) -> None:
        positive(self, "wrong_hints", "temperature")
        finite(self, "scale", "temperature", "clip", "threshold", "moved_weight")
        for name in ("scale", "clip", "threshold", "moved_weight"):
            value = getattr(self, name)
            require(value >= 0, f"RlcsdConfig.{name} must be at least 0", value)
