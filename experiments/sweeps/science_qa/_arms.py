"""SDPO and a ladder of alphas, in every domain."""

from dataclasses import dataclass

from experiments.sweeps._command import SweepConfig
from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sweep import Arm, Finished
from pgpo_jax.errors import PGPOValueError

_DOMAINS = ("physics", "chemistry", "biology", "materials")


@dataclass(frozen=True, kw_only=True)
class Config(SweepConfig):
    """SDPO and a ladder of alphas in every domain."""

    tasks: tuple[str, ...] = tuple(f"synthetic:{domain}" for domain in _DOMAINS)
    """What to train on, a domain each."""
    alphas: tuple[float, ...] = (0.5, 1.0, 1.5, 3.0, 5.0)
    """Per nat."""
    paper_alpha: float = 1.5
    """Up to this one rho_max is 2, above it 4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alphas or min(self.alphas) <= 0:
            raise PGPOValueError(f"alphas must be positive, at least one, got {self.alphas}")
        if self.training.evaluation.questions == 1:
            raise PGPOValueError("evaluation.questions must be at least 2, for two halves, got 1")


_SAMPLED = {"temperature": 0.6, "top_p": 0.95, "samples": 16}
_FILES = tuple(f"data/sciknoweval/{domain}/train.json" for domain in _DOMAINS)
PRESETS = {
    "smoke": Config(
        preset="smoke",
        seeds=2,
        tasks=("synthetic:physics", "synthetic:biology"),
        alphas=(1.0, 5.0),
        training=TRAINING["smoke"],
    ),
    "cpu": Config(
        seeds=8,
        first_seed=3,
        training=changed(
            TRAINING["cpu"],
            steps=8,
            evaluation={**_SAMPLED, "every": 1, "questions": 64, "batch": 64},
        ),
    ),
    "gpu": Config(
        preset="gpu",
        seeds=8,
        tasks=_FILES,
        training=changed(TRAINING["gpu"], evaluation=_SAMPLED),
    ),
    "paper": Config(
        preset="paper", seeds=6, tasks=_FILES, alphas=(0.5, 1.0, 1.5), training=TRAINING["paper"]
    ),
}


def arms(config: Config) -> list[Arm]:
    """One arm per domain and method, called `domain-method`."""

    def arm(task: str, method: str, alpha: float) -> Arm:
        def build(seed: int, finished: Finished) -> ControlledConfig:
            return changed(
                config.training,
                task=task,
                seed=seed,
                information={
                    "alpha": alpha,
                    "rho_max": 2.0 if alpha <= config.paper_alpha else 4.0,
                },
            )

        return Arm(f"{domain_of(task)}-{method}", build)

    return [
        arm(task, method, alpha)
        for task in config.tasks
        for method, alpha in methods(config).items()
    ]


def methods(config: Config) -> dict[str, float]:
    """Alpha by method; SDPO is the same program with 0."""
    return {"sdpo": 0.0} | {f"pgpo {alpha:g}": alpha for alpha in config.alphas}


def domain_of(task: str) -> str:
    """`physics` of `synthetic:physics` and of `.../physics/train.json`."""
    return task.split(":")[-1].removesuffix("/train.json").split("/")[-1]
