"""A run whose information is replaced, as a configuration."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, get_args

import optax

from experiments.sweeps._controlled_objective import ControlledSDPO, Half, Rows
from experiments.sweeps._replay import FollowSteps, controlled
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training import SDPO, Objective, RolloutEngine, TrainConfig

Rule = tuple[bool, str, object]


@dataclass(frozen=True)
class ControlConfig:
    """What is replaced of the information; the defaults replace nothing."""

    replay: tuple[float, ...] = ()
    """Nats per step that the multiplier is given instead of the measured I, which is still
    logged. Empty: the measured one."""
    flip: bool = False
    """The multiplier is given -I."""
    half: Half = "none"
    """The gradient comes from questions 0, 2, 4, ... of the step alone, and I from those (`same`)
    or from the others (`other`), whose noise is independent. The loss is then divided by the
    number of sequences of questions 0, 2, 4, ..., and I by that of the sequences it is from."""
    rows: Rows = "all"
    """Which sequences with a teacher signal I is measured on: all, or those graded below
    `teacher.success_threshold` (I = 0 if there are none). The loss takes all of them."""
    misleading: float = 0.0
    """Chance that a shown solution is replaced by a *wrong* answer of the same group, passed off as
    correct. Which ones is a function of (seed, step), and those of a smaller chance are among those
    of a larger one. Where the group has no wrong answer the right one stays, and is counted."""

    def __post_init__(self) -> None:
        for name, choices in (("half", get_args(Half)), ("rows", get_args(Rows))):
            value = getattr(self, name)
            _require((value in choices, f"control.{name} must be one of {choices}", value))
        _require(
            (
                all(map(math.isfinite, self.replay)),
                "control.replay must be finite",
                self.replay,
            ),
            (
                not (self.replay and self.flip),
                "control.flip must be False with a replay, which may hold -I itself",
                self.flip,
            ),
            (0 <= self.misleading <= 1, "control.misleading must be in [0, 1]", self.misleading),
        )


@dataclass(frozen=True)
class ControlledConfig(TrainConfig):
    """A `TrainConfig` with the section `control`.

    `pgpo_jax.training.train` runs it as any other. Runs that differ in the control alone share a
    compiled step; those with a `half` have one of their own.
    """

    control: ControlConfig = field(default_factory=ControlConfig)
    """What is replaced of the information."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(*self._rules_of_the_step(), *self._rules_of_the_objective())

    @classmethod
    def of(cls, config: TrainConfig) -> "ControlledConfig":
        """A configuration with nothing replaced."""
        return cls(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})

    def make_objective(self) -> Objective:
        """The objective with its controls; one that is not SDPO has none."""
        plain = super().make_objective()
        # Of another objective that inherits from it nothing else would be left.
        if type(plain) is not SDPO:
            return plain
        return ControlledSDPO(
            plain.teacher,
            plain.loss,
            plain.information,
            samples=self.rollout.samples,
            half=self.control.half,
            rows=self.control.rows,
            misleading=self.control.misleading,
        )

    def make_optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer with its control."""
        return controlled(
            super().make_optimizer(),
            replay=self.control.replay,
            flip=self.control.flip,
            steps=self.steps,
        )

    def trainer_settings(self, engine: RolloutEngine | None = None) -> dict[str, Any]:
        """With the callback that the replay needs."""
        settings = super().trainer_settings(engine)
        return {**settings, "callbacks": (*settings.get("callbacks", ()), FollowSteps())}

    def _rules_of_the_step(self) -> tuple[Rule, ...]:
        control, signal = self.control, self.information
        given = bool(control.replay or control.flip)
        weighed = self.loss.modulation != "none"
        idle = ControlConfig()
        return (
            (
                not control.replay or len(control.replay) >= self.steps,
                f"control.replay must hold a value for each step, that is {self.steps} values",
                len(control.replay),
            ),
            *(
                (
                    not weighed or getattr(control, name) == getattr(idle, name),
                    f"control.{name} must be {getattr(idle, name)!r} with loss.modulation: it acts "
                    "on the multiplier of the step, which is then 1",
                    getattr(control, name),
                )
                for name in ("replay", "flip", "half", "rows")
            ),
            (
                not given or self.objective != "grpo",
                "objective must not be 'grpo' with control.replay or flip: without the multiplier "
                "they do nothing",
                self.objective,
            ),
            (
                not given or signal.alpha > 0 or signal.budget is not None,
                "information.alpha must be positive with control.replay or flip: without the "
                "multiplier they do nothing",
                signal.alpha,
            ),
            (
                signal.target_rho is None
                or not control.flip
                or signal.estimator not in ("kl", "js"),
                f"control.flip must be False with target_rho and estimator '{signal.estimator}', "
                "which is never negative: no alpha takes the mean of rho above 1",
                control.flip,
            ),
        )

    def _rules_of_the_objective(self) -> tuple[Rule, ...]:
        control = self.control
        replaced = (control.half, control.rows, control.misleading)
        return (
            (
                replaced == ("none", "all", 0.0) or self.objective == "sdpo",
                "objective must be 'sdpo' with control.half, rows or misleading, which are parts "
                "of it",
                self.objective,
            ),
            (
                control.half == "none" or self.rollout.questions > 1,
                "rollout.questions must be at least 2 with control.half",
                self.rollout.questions,
            ),
            (
                control.rows == "all" or self.information.estimator != "outcome_contrast",
                "control.rows must be 'all' with estimator 'outcome_contrast', which needs both "
                "right and wrong responses",
                control.rows,
            ),
        )


def _require(*rules: Rule) -> None:
    for holds, rule, value in rules:
        if not holds:
            raise PGPOValueError(f"{rule}, got {value!r}")
