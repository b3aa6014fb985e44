from dataclasses import dataclass
from typing import Literal

from pgpo_jax.training.config._rules import one_of_its_choices, positive, probability, require


@dataclass(frozen=True)
class RltfConfig:
    """The second turn of the objective rltf, and what is learnt from it.

    Added in version 0.2.0.
    """

    variant: Literal["sd", "fm"] = "sd"
    """`sd`: the second answer is learnt behind the first prompt; `fm`: the feedback is learnt, as a
    text behind the first answer."""
    coefficient: float = 0.1
    """What that part of the loss is multiplied by."""
    min_logprob: float | None = -5.0
    """`sd`: tokens of lower log-probability behind the first prompt are left out, nats; `None`:
    none is."""
    discount: float = 0.1
    """Share of the second turn's score in the return of the first turn."""
    early_termination: bool = True
    """A right first answer gets no second turn."""
    success_threshold: float = 0.5
    """An answer is right from this score on."""
    max_prompt: int = 4096
    """Longest prompt of a second turn, in tokens; a longer one is left out and counted."""

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
