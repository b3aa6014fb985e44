from dataclasses import dataclass
from typing import Literal

from pgpo_jax.distillation._rescaled import Rescaling
from pgpo_jax.training.config._rules import (
    one_of_its_choices,
    positive,
    probability,
    require,
)


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of the policy gradient of the objectives rlsd and srpo.

    Added in version 0.2.0.
    """

    advantage: Literal["centred", "standardised"] = "centred"
    """The advantage: the score minus the mean of its group, or that divided by the standard
    deviation of the group."""
    rescaling: Rescaling = "algorithm1"
    """RLSD: Algorithm 1 clips the ratio on both sides. Eq. 16 takes the minimum of the clipped and
    the unclipped product. For negative advantages it has no upper clip."""
    ratio_clip: float = 0.2
    """RLSD: the teacher's ratio is clipped at 1 minus and 1 plus this."""
    mix: float = 0.5
    """RLSD: the teacher's share of the advantage at the first step."""
    mix_steps: int | None = 50
    """RLSD: number of steps over which that share decreases linearly to 0. `None` keeps it."""
    entropy_beta: float = 1.0
    """SRPO: beta of the weight exp(-beta H) of a distilled token, with the teacher's entropy H in
    nats."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        probability(self, "mix")
        require(
            0 <= self.ratio_clip < 1, "PolicyConfig.ratio_clip must be in [0, 1)", self.ratio_clip
        )
        require(
            0 <= self.entropy_beta < float("inf"),
            "PolicyConfig.entropy_beta must be at least 0 and finite",
            self.entropy_beta,
        )
        if self.mix_steps is not None:
            positive(self, "mix_steps")

    def mix_at(self, step: int) -> float:
        """The teacher's share in a step.

        Args:
            step: number of the step, from 0.

        >>> PolicyConfig(mix_steps=10).mix_at(5), PolicyConfig(mix_steps=None).mix_at(500)
        (0.25, 0.5)
        """
        if self.mix_steps is None:
            return self.mix
        return self.mix * max(0.0, 1 - step / self.mix_steps)
