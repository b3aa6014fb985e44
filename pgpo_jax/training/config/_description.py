"""The contents of `config.json` for a run that was made from parts in Python."""

from typing import Any

from pgpo_jax.training.config._optimizer import LoRAConfig
from pgpo_jax.training.config._rollout import EvaluationConfig, RolloutConfig


def describe(
    *,
    model: str,
    task: Any,
    objective: Any,
    rollout: RolloutConfig,
    evaluation: EvaluationConfig,
    lora: LoRAConfig,
    seed: int,
    micro_batch: int | None,
    teacher: str | None = None,
) -> dict[str, Any]:
    """Describe the parts in words and plain values.

    Args:
        model: name of the policy.
        task: task, described by its class.
        objective: objective, described by its `repr`.
        rollout: settings of the rollout.
        evaluation: settings of the held-out questions.
        lora: settings of the factors.
        seed: seed of the run.
        micro_batch: number of rows at a time.
        teacher: name of another model that is the teacher.

    Returns:
        The description.
    """
    return {
        "made_by": "Trainer",
        "model": model,
        **({} if teacher is None else {"teacher_model": teacher}),
        "task": type(task).__name__,
        "objective": repr(objective),
        "optimizer": "given in Python",
        "rollout": rollout.__dict__,
        "evaluation": evaluation.__dict__,
        "lora": lora.__dict__,
        "seed": seed,
        "micro_batch": micro_batch,
    }


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """The description of a run's parts, with the defaults of fields that it lacks.

    Args:
        values: description by a former version.
    """
    sections = {"rollout": RolloutConfig(), "evaluation": EvaluationConfig(), "lora": LoRAConfig()}
    held = {name: values[name] for name in sections if isinstance(values.get(name), dict)}
    return values | {name: sections[name].__dict__ | value for name, value in held.items()}
