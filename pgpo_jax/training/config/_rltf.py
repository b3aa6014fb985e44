from dataclasses import dataclass
from typing import Literal

from pgpo_jax.training.config._rules import one_of_its_choices, positive, probability, require


@dataclass(frozen=True)
class RltfConfig:
    """Settings of the second turn of the objective rltf and of its loss.

    Added in version 0.2.0.
    """

    variant: Literal["sd", "fm"] = "sd"
    """With `sd` the model learns the second answer as a response to the first prompt. With `fm` it
    learns the feedback as a text after the first answer."""
    coefficient: float = 0.1
    """Factor of that part of the loss."""
    min_logprob: float | None = -5.0
    """`sd`: smallest log-probability of a token after the first prompt, in nats. Less likely tokens
    are left out. `None` leaves out none."""
    discount: float = 0.1
    """Share of the second turn's score in the return of the first turn."""
    early_termination: bool = True
    """Give no second turn to right first answers."""
    success_threshold: float = 0.5
    """Lowest score of a right answer."""
    max_prompt: int = 4096
    """Longest prompt of a second turn, in tokens. Longer ones are left out and counted."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        probability(self, "discount")
        positive(self, "max_prompt")
        require(
            0 <= self.coefficient < float("inf"),
            "RltfConfig.coefficient must be at least 0 and finite",
            self.coefficient,
        )
        require(
            self.min_logprob is None or self.min_logprob < 0,
            "RltfConfig.min_logprob must be below 0 or None",
            self.min_logprob,
        )
        require(
            self.variant == "sd" or self.min_logprob in (None, -5.0),
            "RltfConfig.min_logprob must be left at -5 or None with variant 'fm', which leaves no "
            "token out",
            self.min_logprob,
        )
