"""Which first answers have a second turn, and what each row is read behind (RLTF)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from pgpo_jax.tasks import critique_request, second_turn
from pgpo_jax.tasks.graders import FailedGrade
from pgpo_jax.training.config import RltfConfig
from pgpo_jax.training.objectives._rows_of_kinds import EXTRA, SECOND
from pgpo_jax.training.rollout._records import Rollout


class SecondTurns(NamedTuple):
    """The prompts of the first answers' second turns, where they have one."""

    prompts: dict[int, list[int]]
    silent: Bool[np.ndarray, " N"]
    overlong: Bool[np.ndarray, " N"]


def second_turns(rollout: Rollout, settings: RltfConfig) -> SecondTurns:
    """The second turn of each first answer that has one."""
    prompts: dict[int, list[int]] = {}
    silent, overlong = np.zeros((2, len(rollout.grades)), bool)
    for row, owner in enumerate(rollout.owners.tolist()):
        grade = rollout.grades[row]
        right = grade.score >= settings.success_threshold
        if not rollout.answered[row] or (right and settings.early_termination):
            continue
        # What a grader says of its own failure is no critique of the answer.
        if isinstance(grade, FailedGrade) or not grade.feedback.strip():
            silent[row] = True
            continue
        text = rollout.responses.texts[row]
        chat = second_turn(rollout.questions[owner], text, grade.feedback)
        encoded = rollout.policy.encode(chat)
        overlong[row] = len(encoded) > settings.max_prompt
        if not overlong[row]:
            prompts[row] = encoded
    return SecondTurns(prompts, silent, overlong)


def prompts_of_rows(
    rollout: Rollout, turns: SecondTurns, samples: int, settings: RltfConfig
) -> dict[int, list[int]]:
    """What each row is read behind."""
    prompts: dict[int, list[int]] = {}
    for row, owner in enumerate(rollout.owners.tolist()):
        if not rollout.answered[row]:
            continue
        kind, sample = divmod(row % rollout.samples, samples)
        prompts[row] = rollout.prompts[owner]
        if kind == SECOND:
            prompts[row] = turns.prompts[owner * samples + sample]
        elif kind == EXTRA and settings.variant == "fm":
            prompts[row] = feedback_prompt(rollout, owner * rollout.samples + sample)
    return prompts


def feedback_prompt(rollout: Rollout, row: int) -> list[int]:
    """What the words on a first answer are read behind."""
    question = rollout.questions[rollout.owners[row]]
    return rollout.policy.encode(critique_request(question, rollout.responses.texts[row]))
