"""The real signal, and twelve replacements of it."""

from dataclasses import dataclass

import numpy as np

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._dose import DoseConfig, dose_presets
from experiments.sweeps._seed_means import mean_of
from experiments.sweeps._sweep import Arm, Finished
from pgpo_jax.reports import RunRecord

GIVEN = {
    "real": "this step's I",
    "sdpo": "nothing: ρ = 1",
    "constant": "the mean ρ of the same seed's real run, at every step",
    "shuffled": "the I of the same seed's real run, in random order",
    "random": "independent draws, with replacement, from the I of the same seed's real run",
    "other_seed": "the I of another seed's real run, in order: the trend without this feedback",
    "mirrored": "twice the mean I minus I, of the real run: small where the information is large",
    "learning_rate": "nothing; the learning rate is multiplied by the real run's mean ρ",
    "flipped": "minus this step's I: a mean ρ below 1",
    "delayed": "the I of the step before",
    "floor": "this step's I, with ρ at least 1",
    "half_same": "gradient from one half of the questions, I from the same half",
    "half_other": "gradient from one half of the questions, I from the other half",
}
MATCHED = ("constant", "shuffled", "random", "other_seed", "mirrored")
OTHERS = ("sdpo", "learning_rate", "flipped", "delayed", "floor")
PAIRS = (
    *(("real", name) for name in (*MATCHED, *OTHERS)),
    ("half_same", "half_other"),
    ("constant", "learning_rate"),
)


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """Trains with the real signal and with twelve replacements of it, and compares."""


PRESETS = dose_presets(Config)


def arms(config: Config) -> list[Arm]:
    """The thirteen arms; those that replay a real run wait for it."""

    def measured(name: str, **information: object) -> Arm:
        return Arm(
            name, lambda seed, finished: config.with_signal(config.sdpo(seed), **information)
        )

    def given(name: str, **control: object) -> Arm:
        return Arm(name, lambda seed, finished: config.with_control(config.sdpo(seed), **control))

    def longer_steps(seed: int, finished: Finished) -> ControlledConfig:
        rho = mean_of(finished("real", seed), "pgpo/rho")
        rate = config.training.optimizer.learning_rate * rho
        return config.sdpo(seed, optimizer={"learning_rate": rate})

    def replayed(name: str) -> Arm:
        def donor(seed: int) -> int:
            if name != "other_seed":
                return seed
            # Whatever the seeds of this sweep, so that a run does not depend on them.
            return seed - 1 if seed else 1

        def build(seed: int, finished: Finished) -> ControlledConfig:
            values = replacement(name, finished("real", donor(seed)), config, seed)
            return config.with_control(config.sdpo(seed), replay=values)

        return Arm(name, build, lambda seed: [("real", donor(seed))])

    return [
        measured("real"),
        Arm("sdpo", lambda seed, finished: config.sdpo(seed)),
        *(replayed(name) for name in MATCHED),
        Arm("learning_rate", longer_steps, lambda seed: [("real", seed)]),
        given("flipped", flip=True),
        measured("delayed", delay=1),
        measured("floor", rho_min=1.0),
        given("half_same", half="same"),
        given("half_other", half="other"),
    ]


def replacement(name: str, real: RunRecord, config: Config, seed: int) -> tuple[float, ...]:
    """What a matched control gives the multiplier at each step, in nats."""
    # A signal that was not finite had rho = 1, as 0 has.
    measured = np.nan_to_num(real.series("pgpo/information")[1], nan=0.0)
    rng = np.random.default_rng([seed, len(measured)])
    if name == "constant":
        return config.constant(real)
    if name == "shuffled":
        values = rng.permutation(measured)
    elif name == "random":
        values = rng.choice(measured, len(measured))
    elif name == "mirrored":
        values = 2 * measured.mean() - measured
    else:
        values = measured
    return tuple(float(value) for value in values)
