"""The data that the host and the objective exchange in one step."""

from collections.abc import Callable, Mapping, Sequence
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
        step: number of the step, from 0.
        seed: seed of the run.
        samples: number of responses to each question.
        total: number of responses of all processes.
        policy: policy that encodes prompts and has the mesh.
        questions: Q questions.
        prompts: token ids of the student's prompts, one per question.
        responses: N = Q * samples responses, those to one question together.
        grades: one grade per response.
        ask_teacher: function of one prompt per question and the longest answer in tokens. It
            returns the teacher's answers at this step. All processes call it together. `None`
            outside a run.
        answer: function of one prompt per response and the longest prompt in tokens. It returns the
            student's answers at this step. All processes call it together. `None` outside a run.
        regrade: function of the question of each response and the texts. It returns the grades.
            `None` outside a run.
        kinds: number of kinds of rows, with equally many rows of each: 1, or that of
            `Objective.extended`. The first kind are the sampled responses.
        memory: memory of the objective, which `prepare` changes in place; see
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
        """The index in `questions` of each response's question."""
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
        """The index of each response among those of all processes."""
        return process_local_rows(self.total, self.policy.mesh)


class Lesson(NamedTuple):
    """The part of a rollout that an objective uses, on the host.

    Attributes:
        kept: responses that are packed into the batch. All others only count in denominators.
        teacher_prompts: token ids of the teacher's prompt, by response; empty without a prompt.
        teacher_texts: last user message of that prompt, by response.
        trained: kept responses that count for the loss; `None` means all of them.
        measured: kept responses that count for the signal; `None` means those of the loss.
        columns: further numbers per response that the loss reads, as `Experience.columns`.
        facts: numbers per response for `Objective.row_metrics`, gathered over all processes.
        further_prompts: token ids of the teacher's further prompts, by response: one mapping for
            each of `Objective.further_prompts`, which holds all kept responses.

    Added in version 0.2.0.
    """

    kept: Bool[np.ndarray, " N"]
    teacher_prompts: Mapping[int, list[int]] = MappingProxyType({})
    teacher_texts: Mapping[int, str] = MappingProxyType({})
    trained: Bool[np.ndarray, " N"] | None = None
    measured: Bool[np.ndarray, " N"] | None = None
    columns: Mapping[str, Any] = MappingProxyType({})
    facts: Mapping[str, Any] = MappingProxyType({})
    further_prompts: Sequence[Mapping[int, list[int]]] = ()
