"""How a teacher is prompted with what the grader and the peers of a response offer."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from pgpo_jax.tasks import Message, Question, select_solutions, strip_thinking, teacher_prompt
from pgpo_jax.training.config import TeacherConfig
from pgpo_jax.training.rollout._records import Rollout


class TeacherPrompts(NamedTuple):
    """The teacher's prompts by response, of those that have a teacher signal.

    Attributes:
        ids: token ids of the chat up to where the answer begins.
        texts: the last user message of that chat.
        overlong: the responses whose prompt was longer than `teacher.max_prompt`.
        fed: the responses whose teacher is shown the grader's words on them; `None`: none of them.
    """

    ids: dict[int, list[int]]
    texts: dict[int, str]
    overlong: Bool[np.ndarray, " N"]
    fed: Bool[np.ndarray, " N"] | None = None


def chosen_solutions(
    rollout: Rollout, settings: TeacherConfig
) -> tuple[Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """The peer whose response is shown as a solution, -1 for none; see `select_solutions`."""
    return select_solutions(
        rollout.scores,
        rollout.owners,
        threshold=settings.success_threshold,
        exclude_self=settings.exclude_self,
    )


def wrong_peers(rollout: Rollout, settings: TeacherConfig, most: int) -> list[list[int]]:
    """The wrong answers of peers that a teacher can be shown, by response.

    Args:
        rollout: the graded responses.
        settings: what is right, and whether a response is its own peer.
        most: peers of each response, the first ones of its group.

    Returns:
        Responses; none where no peer is wrong and has a text to show.
    """
    texts = rollout.responses.texts
    shown = np.array([bool((shown_solution(text, settings) or "").strip()) for text in texts], bool)
    wrong = (rollout.scores < settings.success_threshold) & shown & rollout.answered
    groups = [
        np.flatnonzero(wrong & (rollout.owners == owner)).tolist()
        for owner in range(len(rollout.questions))
    ]
    return [
        [peer for peer in groups[owner] if peer != row or not settings.exclude_self][:most]
        for row, owner in enumerate(rollout.owners.tolist())
    ]


def write_teacher_prompts(
    rollout: Rollout,
    chosen: Int[np.ndarray, " N"],
    settings: TeacherConfig,
    *,
    earlier: Mapping[int, str] = MappingProxyType({}),
) -> TeacherPrompts:
    """Writes and encodes the teacher's prompt of each response that has a teacher signal.

    Args:
        rollout: the graded responses.
        chosen: the response that is shown as a solution, by response; -1 for none.
        settings: what the teacher is shown.
        earlier: right responses of earlier steps, by the response that has no right peer.

    Returns:
        The prompts; prompts that are too long are left out and counted.
    """
    shown = {
        peer: shown_solution(rollout.responses.texts[peer], settings)
        for peer in set(chosen.tolist())
        if peer >= 0
    }

    fed = np.zeros(len(rollout.grades), bool)

    def chat(row: int, question: Question) -> Sequence[Message] | None:
        solution = shown.get(int(chosen[row]))
        if row in earlier:
            solution = shown_solution(earlier[row], settings)
        feedback = _feedback(rollout.grades[row].feedback, solution, settings)
        if solution is None and feedback is None:
            return None
        fed[row] = feedback is not None
        text = teacher_prompt(question, solution=solution, feedback=feedback)
        return question.messages_with(text)

    prompts = encoded_prompts(rollout, chat, settings)
    return prompts._replace(fed=fed & ~prompts.overlong)


def encoded_prompts(
    rollout: Rollout,
    chat: Callable[[int, Question], Sequence[Message] | None],
    settings: TeacherConfig,
) -> TeacherPrompts:
    """Encodes the teacher's prompt of each response that has a token.

    Args:
        rollout: the graded responses.
        chat: (response, its question) -> what the teacher reads; `None` for no teacher signal.
        settings: the longest prompt, and whether the teacher thinks.

    Returns:
        The prompts; prompts that are too long are left out and counted.
    """
    ids: dict[int, list[int]] = {}
    texts: dict[int, str] = {}
    overlong = np.zeros(len(rollout.grades), bool)
    # Most responses to a question are shown the same.
    known: dict[tuple[Message, ...], list[int]] = {}
    answered = rollout.answered
    for row, owner in enumerate(rollout.owners.tolist()):
        messages = chat(row, rollout.questions[owner]) if answered[row] else None
        if messages is None:
            continue
        key = tuple(messages)
        if key not in known:
            known[key] = rollout.policy.encode(messages, thinking=settings.thinking)
        if len(known[key]) > settings.max_prompt:
            overlong[row] = True
        else:
            ids[row], texts[row] = known[key], messages[-1].content
    return TeacherPrompts(ids, texts, overlong)


def shown_solution(text: str, settings: TeacherConfig) -> str | None:
    """What is shown of a response; `None` if it is nothing but thinking."""
    if not settings.strip_thinking:
        return text
    rest = strip_thinking(text)
    return rest if rest.strip() or rest == text else None


def _feedback(text: str, solution: str | None, settings: TeacherConfig) -> str | None:
    hidden = solution is not None and settings.feedback_only_without_solution
    return text if settings.feedback and text.strip() and not hidden else None
