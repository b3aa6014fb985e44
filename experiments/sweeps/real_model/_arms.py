"""SDPO, PGPO, a brake and a constant, on a pretrained model."""

from dataclasses import dataclass

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._dose import DoseConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sweep import Arm
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training import PRESETS as RUNS

PAIRS = (("pgpo", "sdpo"), ("pgpo", "constant"), ("brake", "sdpo"))
LETTER_ONLY = "Answer with the letter of the right option only."


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """Trains a pretrained model with and without the multiplier, and with two controls of it."""

    brake_alpha: float = 30.0
    """Per nat, of the arm `brake`, whose rho_max is 1: it can only take shorter steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.brake_alpha < float("inf"):
            raise PGPOValueError(f"brake_alpha must be positive and finite, got {self.brake_alpha}")


# Widths that fit the questions: with a letter for a solution a prompt is some 16 tokens longer.
_SMOLLM2 = changed(
    ControlledConfig.of(RUNS["paper-qwen3-8b"]),
    model="models/smollm2-135m-letters",
    task="data/sciknoweval/chemistry/train.json",
    columns={"system_prompt": LETTER_ONLY},
    grader={"name": "option"},
    steps=8,
    dtype="float32",
    remat=False,
    keep_checkpoints=0,
    trackers=(),
    texts={"rows": 2, "evaluation": 64},
    rollout={
        "questions": 2,
        "samples": 8,
        "max_prompt": 112,
        "max_response": 2,
        "smallest_bucket": 128,
        "row_buckets": 1,
        "share_prompts": True,
    },
    teacher={"max_prompt": 128},
    optimizer={"learning_rate": 2e-5, "warmup_steps": 2},
    evaluation={"every": 8, "samples": 8, "temperature": 1.0, "top_p": 1.0, "batch": 32},
)
PRESETS = {
    "smoke": Config(
        preset="smoke",
        seeds=2,
        training=changed(TRAINING["smoke"], grader={"name": "option"}, texts={"evaluation": 8}),
    ),
    "cpu": Config(seeds=3, first_seed=3, margin=0.03, alpha=1.5, rho_max=4.0, training=_SMOLLM2),
}


def arms(config: Config) -> list[Arm]:
    """The four arms; `constant` waits for `pgpo`."""

    def base(seed: int) -> ControlledConfig:
        return config.sdpo(seed)

    def brake(seed: int) -> ControlledConfig:
        return config.with_signal(base(seed), alpha=config.brake_alpha, rho_max=1.0)

    return [
        Arm("sdpo", lambda seed, finished: base(seed)),
        Arm("pgpo", lambda seed, finished: config.with_signal(base(seed))),
        Arm("brake", lambda seed, finished: brake(seed)),
        config.matched("constant", "pgpo", base),
    ]
