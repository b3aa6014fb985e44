"""Right responses to each question, kept for steps in which nobody finds one (DRIFT)."""

import math

from pgpo_jax.training.config import DriftConfig
from pgpo_jax.training.objectives._pass_rates import forget

# By question: [score, step, text] of each response.
Buffer = dict[str, list[list]]


def kept_success(buffer: Buffer, question: str, own: str, *, newest_first: bool) -> str | None:
    """A kept response to a question that is not the text of the response that is taught.

    Args:
        buffer: of `keep_successes`.
        question: its name.
        own: the text of the response that is taught.
        newest_first: the newest one, instead of that of the best score.

    Returns:
        The text; `None` if there is none. Of equals the newer one.

    >>> buffer = {"q": [[1.0, 3, "B"], [0.9, 5, "It is B."]]}
    >>> kept_success(buffer, "q", "A", newest_first=False)
    'B'
    >>> kept_success(buffer, "q", "B", newest_first=False)
    'It is B.'
    """
    entries = [entry for entry in buffer.get(question, []) if entry[2] != own]
    if not entries:
        return None
    # The last of equals is the newest.
    return max(
        enumerate(entries),
        key=lambda item: (0 if newest_first else item[1][0], item[1][1], item[0]),
    )[1][2]


def keep_successes(
    buffer: Buffer, question: str, found: list[tuple[float, str]], step: int, settings: DriftConfig
) -> None:
    """Adds right responses, in place: no two equal texts, and of too many the best are kept.

    Args:
        buffer: by question.
        question: its name.
        found: score and text of each right response of the step.
        step: counted from 0.
        settings: how many responses, and of how many questions.
    """
    if not found:
        return
    entries = {text: [score, at, text] for score, at, text in buffer.get(question, [])}
    for score, text in found:
        best = max(score, entries.pop(text, [-math.inf])[0])
        entries[text] = [best, step, text]
    ordered = list(entries.values())
    ranked = sorted(
        range(len(ordered)),
        key=lambda i: (
            (ordered[i][1], i) if settings.newest_first else (ordered[i][0], ordered[i][1], i)
        ),
    )
    chosen = set(ranked[-settings.kept :])
    buffer[question] = [entry for i, entry in enumerate(ordered) if i in chosen]
    if len(buffer) > settings.questions:
        newest = {name: max(entry[1] for entry in held) for name, held in buffer.items()}
        forget(buffer, newest, settings.questions)
