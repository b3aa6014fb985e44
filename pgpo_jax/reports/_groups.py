"""Accuracy by kind of question."""

from collections.abc import Mapping
from typing import NamedTuple

from pgpo_jax.reports._interval import Interval, difference_interval, mean_interval
from pgpo_jax.tasks import Question

Scores = Mapping[str, float | int]


class Group(NamedTuple):
    """Questions of one kind, with their accuracy at two evaluations.

    Attributes:
        name: the kind, or the domain of questions without a kind.
        questions: number of questions.
        before, after: share of right answers.
        difference: after - before, paired by question.
    """

    name: str
    questions: int
    before: Interval
    after: Interval
    difference: Interval


def by_kind(questions: Mapping[str, Question], before: Scores, after: Scores) -> list[Group]:
    """Accuracy by kind of question at two evaluations, of the questions that both scored.

    A question without a kind counts for its domain.

    Args:
        questions: questions by id.
        before, after: score by question id.

    Returns:
        The groups by name; empty if there are fewer than two.
    """
    members: dict[str, list[str]] = {}
    for name, question in questions.items():
        if name in before and name in after:
            members.setdefault(question.kind or question.domain, []).append(name)
    if len(members) < 2:
        return []
    return [
        Group(
            group,
            len(names),
            mean_interval([before[name] for name in names]),
            mean_interval([after[name] for name in names]),
            difference_interval(
                {name: after[name] for name in names}, {name: before[name] for name in names}
            ),
        )
        for group, names in sorted(members.items())
    ]
