"""Checks of a trainer's parts before any work: that they fit and that the weights still exist."""

from typing import Any

import jax

from pgpo_jax.errors import PGPORuntimeError, PGPOValueError
from pgpo_jax.training.config import RolloutConfig
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.rollout._engine import RolloutEngine, Sampler, check_engine
from pgpo_jax.training.rollout._policy import LoadedPolicy, Policy
from pgpo_jax.training.rollout._teacher_model import check_teacher_policy


def checked_teacher(
    teacher: LoadedPolicy | None, objective: Objective, policy: Policy
) -> Policy | None:
    """The other model that is the teacher, checked against the objective and the student."""
    settings = objective.teacher_settings
    wanted = settings is not None and settings.kind == "external"
    if wanted is (teacher is None):
        raise PGPOValueError(
            "another model and an objective whose teacher.kind is 'external' belong together; got "
            + ("such an objective without a model" if wanted else "a model without such a teacher")
        )
    if teacher is None:
        return None
    check_alive(teacher.params, "the weights of the teacher were given to an earlier trainer")
    check_teacher_policy(policy, teacher.policy)
    return teacher.policy


def new_memory(objective: Objective) -> dict[str, Any] | None:
    """The memory of the objective, checked to be in one process."""
    memory = objective.new_memory()
    if memory is not None and jax.process_count() > 1:
        raise PGPOValueError(
            f"the run must have 1 process with objective {type(objective).__name__}, which "
            f"remembers the answers to each question, got {jax.process_count()}"
        )
    return memory


def chosen_engine(engine: RolloutEngine | None, rollout: RolloutConfig) -> RolloutEngine:
    """The given engine, which decides itself how much it decodes at a time."""
    if engine is None:
        return Sampler(rollout.max_num_seqs)
    own = engine == Sampler(rollout.max_num_seqs)
    if rollout.max_num_seqs is not None and not own:
        raise PGPOValueError(
            "rollout.max_num_seqs must be None where an engine is given, "
            f"got {rollout.max_num_seqs} and {engine!r:.60}"
        )
    return check_engine(engine)


def check_alive(weights: Any, what: str) -> None:
    """Refuse arrays whose memory training has taken."""
    if any(isinstance(x, jax.Array) and x.is_deleted() for x in jax.tree.leaves(weights)):
        raise PGPORuntimeError(
            f"{what}, which took their memory: load the policy anew and make another Trainer"
        )
