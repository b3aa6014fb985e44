"""What passes between host and objective in one step."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training.devices._mesh import process_local_rows
from pgpo_jax.training.rollout._policy import Policy, Responses


class Rollout(NamedTuple):
    """The graded responses of one step; each process has those of its own questions.

    Attributes:
        step: counted from 0.
        seed: of the run.
        samples: responses to each question.
        total: responses of all processes.
        policy: encodes prompts; has the mesh.
        questions: Q of them.
        prompts: token ids of the student's prompts, one per question.
        responses: N = Q * samples of them, those to one question together.
        grades: one per response.
        ask_teacher: (prompts, one per question; longest answer in tokens) -> what the teacher of
            this step answers. All processes call it together. `None` outside a run.
        answer: (prompts, one per response; longest prompt in tokens) -> what the student of this
            step answers to each. All processes call it together. `None` outside a run.
        regrade: (question of each response, texts) -> grades. `None` outside a run.
        kinds: of rows to each question, as many of each: 1, or those of `Objective.extended`. The
            first kind are the sampled responses.
        memory: what the objective remembers, which `prepare` changes in place; see
            `Objective.new_memory`.

    Added in version 0.2.0.
    """

    step: int
    seed: int
    samples: int
    total: int
    policy: Policy
    questions: list[Question]
    prompts: list[list[int]]
    responses: Responses
    grades: list[Grade]
    ask_teacher: Callable[[list[list[int]], int], list[str]] | None = None
    memory: dict[str, Any] | None = None
    answer: Callable[[list[list[int]], int], Responses] | None = None
    regrade: Callable[[list[Question], list[str]], list[Grade]] | None = None
    kinds: int = 1

    @property
    def sampled(self) -> Bool[np.ndarray, " N"]:
        """The rows of the first kind."""
        return np.arange(len(self.owners)) % self.samples < self.samples // self.kinds

    @property
    def owners(self) -> Int[np.ndarray, " N"]:
        """The place of each response's question among `questions`."""
        return np.repeat(np.arange(len(self.questions)), self.samples)

    @property
    def scores(self) -> Float[np.ndarray, " N"]:
        """The scores of the grades."""
        return np.array([grade.score for grade in self.grades], np.float64)

    @property
    def answered(self) -> Bool[np.ndarray, " N"]:
        """The responses that have a token."""
        return np.asarray(self.responses.mask.any(1))

    @property
    def places(self) -> Int[np.ndarray, " N"]:
        """The place of each response among those of all processes."""
        return process_local_rows(self.total, self.policy.mesh)


class Lesson(NamedTuple):
    """What an objective takes from a rollout, before anything is on the device.

    Attributes:
        kept: the responses that are packed into the batch; all others only count in denominators.
        teacher_prompts: token ids of the teacher's prompt, by response; empty where there is none.
        teacher_texts: the last user message of that prompt, by response.
        trained: the kept responses that enter the loss; `None`: all of them.
        measured: the kept responses that the signal is measured on; `None`: those in the loss.
        columns: further numbers per response that the loss reads, as `Experience.columns`.
        facts: numbers per response for `Objective.row_metrics`, gathered over all processes.

    Added in version 0.2.0.
    """

    kept: Bool[np.ndarray, " N"]
    teacher_prompts: Mapping[int, list[int]] = MappingProxyType({})
    teacher_texts: Mapping[int, str] = MappingProxyType({})
    trained: Bool[np.ndarray, " N"] | None = None
    measured: Bool[np.ndarray, " N"] | None = None
    columns: Mapping[str, Any] = MappingProxyType({})
    facts: Mapping[str, Any] = MappingProxyType({})
