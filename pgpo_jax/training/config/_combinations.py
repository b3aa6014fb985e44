from typing import TYPE_CHECKING

from pgpo_jax.errors import PGPOValueError

if TYPE_CHECKING:
    from pgpo_jax.training.config._train_config import TrainConfig

# What tells the step's multiplier from the mean of the weights, with the value that does nothing.
_OF_THE_STEP = {
    "rows": "all",
    "decay": 0.0,
    "delay": 0,
    "target_rho": None,
    "replay": (),
    "flip": False,
    "half": "none",
}


def check_combinations(config: "TrainConfig") -> None:
    """Refuses settings that are sound alone and contradict each other.

    Raises:
        ValueError: naming the rule and the value.
    """
    signal, settings = config.information, config.optimizer
    rules = (
        (
            not signal.replay or len(signal.replay) >= config.steps,
            f"information.replay must hold a value for each step, that is {config.steps} values",
            len(signal.replay),
        ),
        (
            config.method == "pgpo"
            or not (signal.replay or signal.flip or signal.target_rho is not None),
            "method must be 'pgpo' with information.replay, flip or target_rho: without the "
            "multiplier they do nothing",
            config.method,
        ),
        (
            config.method == "pgpo" or config.loss.modulation == "none",
            f"method must be 'pgpo' with loss.modulation '{config.loss.modulation}'",
            config.method,
        ),
        *(
            (
                config.loss.modulation == "none" or value == default,
                f"information.{name} must be {default!r} with loss.modulation: it acts on the "
                "multiplier of the step, which is then 1",
                value,
            )
            for name, default in _OF_THE_STEP.items()
            for value in (getattr(signal, name),)
        ),
        (
            signal.half == "none" or config.rollout.questions > 1,
            "rollout.questions must be at least 2 with information.half",
            config.rollout.questions,
        ),
        (
            signal.target_rho is None or 1 < signal.target_rho < signal.rho_max,
            f"information.target_rho must be above 1 and below rho_max = {signal.rho_max}",
            signal.target_rho,
        ),
        (
            signal.target_rho is None or signal.alpha > 0,
            "information.alpha must be positive with target_rho, which starts from it",
            signal.alpha,
        ),
        (
            signal.target_rho is None or not signal.flip or signal.estimator not in ("kl", "js"),
            f"information.flip must be False with target_rho and estimator '{signal.estimator}', "
            "which is never negative: no alpha takes the mean of rho above 1",
            signal.flip,
        ),
        (
            config.method != "grpo" or config.teacher.kind == "live",
            "teacher.kind must be 'live' with method 'grpo', which has no teacher to keep",
            config.teacher.kind,
        ),
        (
            config.method != "grpo" or not (config.teacher.misleading or config.teacher.feedback),
            "teacher.misleading and feedback must be 0 and False with method 'grpo', which shows "
            "nothing to a teacher",
            (config.teacher.misleading, config.teacher.feedback),
        ),
        (
            config.method != "grpo" or not settings.plateau,
            "optimizer.plateau must be False with method 'grpo': advantages have the mean 0, and "
            "so has the loss, whatever is learnt",
            settings.plateau,
        ),
        (
            config.loss.support != "sampled" or not settings.plateau,
            "optimizer.plateau must be False with loss.support 'sampled', whose value is no "
            "divergence: it may be negative and need not fall",
            settings.plateau,
        ),
        (
            config.method != "grpo" or config.rollout.samples > 1,
            "rollout.samples must be at least 2 with method 'grpo': one response has no advantage",
            config.rollout.samples,
        ),
        (
            config.method != "grpo" or (signal.half, signal.rows) == ("none", "all"),
            "information.half and rows must be 'none' and 'all' with method 'grpo', which "
            "measures no information",
            (signal.half, signal.rows),
        ),
        (
            settings.schedule == "constant" or settings.warmup_steps < config.steps,
            f"optimizer.warmup_steps must be below steps = {config.steps} with schedule 'cosine'",
            settings.warmup_steps,
        ),
    )
    for holds, rule, value in rules:
        if not holds:
            raise PGPOValueError(f"{rule}, got {value!r}")
