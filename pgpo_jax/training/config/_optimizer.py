import dataclasses
from dataclasses import dataclass
from typing import Literal

from pgpo_jax.models import LORA_TARGETS
from pgpo_jax.training.config._rules import (
    finite,
    one_of_its_choices,
    positive,
    require,
)

# The fields that are AdamW's own arguments.
_ADAMW = ("b1", "b2", "eps", "weight_decay")


@dataclass(frozen=True)
class OptimizerConfig:
    """Any optax optimizer by name, with a linear warm-up from 0 and a schedule after it."""

    name: str = "adamw"
    """One of `pgpo_jax.training.OPTIMIZERS`: adamw, muon, lion, sgd, ..."""
    arguments: tuple[str, ...] = ()
    """Arguments of the optimizer as `key=value`, for example `momentum=0.9`. AdamW has its own
    fields: b1, b2, eps and weight_decay."""
    learning_rate: float = 1e-5
    warmup_steps: int = 10
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    """Largest global norm of the gradient; a larger gradient is scaled down to it."""
    micro_batch: int | None = None
    """Number of rows that go through the model at a time. Their gradients are added in float32 and
    give the step of the whole batch. `None` means all rows at once."""
    max_skipped: int = 10
    """Training stops after this many non-finite gradients in a row."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate after the warm-up. `cosine` reaches 0 one step after the last
    of `steps`. With `cosine` a resumed run cannot change `steps`."""
    plateau: bool = False
    """Multiply the rate by `plateau_factor` if the loss has not improved for `plateau_patience`
    steps. An improvement is a loss below the lowest so far by one part in 10,000
    (`optax.contrib.reduce_on_plateau`)."""
    plateau_factor: float = 0.5
    plateau_patience: int = 10

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        positive(self, "learning_rate", "eps", "clip_norm", "max_skipped", "plateau_patience")
        finite(self, "learning_rate", "eps", "weight_decay")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"OptimizerConfig.{name} must be in [0, 1)", value)
        require(
            self.weight_decay >= 0,
            "OptimizerConfig.weight_decay must be at least 0",
            self.weight_decay,
        )
        require(
            0 < self.plateau_factor < 1,
            "OptimizerConfig.plateau_factor must be in (0, 1)",
            self.plateau_factor,
        )
        if self.micro_batch is not None:
            positive(self, "micro_batch")
        require(
            self.name != "adamw" or not self.arguments,
            "OptimizerConfig.arguments must be empty with name 'adamw', whose arguments are the "
            "fields b1, b2, eps and weight_decay",
            self.arguments,
        )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(
                self.name == "adamw" or field.name not in _ADAMW or value == field.default,
                f"OptimizerConfig.{field.name} is of adamw alone: with name {self.name!r} give it "
                f"in arguments, as {field.name}=VALUE",
                value,
            )
        require(
            self.warmup_steps >= 0,
            "OptimizerConfig.warmup_steps must be at least 0",
            self.warmup_steps,
        )


@dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adapters (LoRA): the weights are frozen and low-rank factors are trained."""

    rank: int = 0
    """Rank of the factors. 0 trains all weights instead."""
    alpha: float = 32.0
    """The product of the factors is multiplied by alpha / rank."""
    targets: tuple[str, ...] = LORA_TARGETS
    """Kernels that have factors."""
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype of the frozen weights in memory."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        require(self.rank >= 0, "LoRAConfig.rank must be at least 1, or 0 for none", self.rank)
        positive(self, "alpha")
        finite(self, "alpha")
        require(
            bool(self.targets) and set(self.targets) <= set(LORA_TARGETS),
            f"LoRAConfig.targets must be some of {LORA_TARGETS}",
            self.targets,
        )

    @property
    def scale(self) -> float:
        """The factor of the product of the factors, alpha / rank."""
        return self.alpha / self.rank
