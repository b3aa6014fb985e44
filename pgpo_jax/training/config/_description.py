"""What `config.json` holds of a run that was made from parts in Python."""

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
    """The parts in words and plain values.

    Args:
        model: the name of the policy.
        task: named by its class.
        objective: described by its `repr`.
        rollout: settings, as are the next two.
        evaluation: of the held-out questions.
        lora: of the factors.
        seed: of the run.
        micro_batch: rows at a time.
        teacher: the name of another model that is the teacher.

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
        values: as a former version described them.
    """
    sections = {"rollout": RolloutConfig(), "evaluation": EvaluationConfig(), "lora": LoRAConfig()}
    held = {name: values[name] for name in sections if isinstance(values.get(name), dict)}
    return values | {name: sections[name].__dict__ | value for name, value in held.items()}
