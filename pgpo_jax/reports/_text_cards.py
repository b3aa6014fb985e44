"""Kept texts as HTML: a question, the response by tokens, and what the teacher was shown."""

import math

from pgpo_jax._printable import printable_line
from pgpo_jax.reports._cells import table_html
from pgpo_jax.reports._highlights import (
    LEAST,
    LEVELS,
    level,
    level_name,
    most_informative,
    teacher_parts,
)
from pgpo_jax.reports._kept_row import KeptText
from pgpo_jax.reports._safe import safe
from pgpo_jax.tasks import Question

_CHARACTERS = 6000
_TOKENS = 600
_TABLE_ROWS = 5
_TOKEN_WIDTH = 40


def text_card(kept: KeptText) -> str:
    """A kept response next to the teacher's prompt."""
    left = _turns(kept.question) + f"<h4>Response</h4>\n{_response(kept)}\n" + _feedback(kept)
    right = f"<h4>What the teacher was shown</h4>\n{_teacher(kept)}\n{_token_table(kept)}"
    return _card(f"Step {kept.step}, {_name(kept.question)}", _verdict(kept), left, right)


def answers_card(before: KeptText, after: KeptText) -> str:
    """Two answers to one held-out question, of two evaluations."""
    question = before.question
    facts = [_kind(question), f"right answer {printable_line(question.answer)}"]
    sides = [
        f"<h4>Step {kept.step}</h4>\n{_response(kept)}\n"
        f'<p class="caption">{safe(_graded(kept))}</p>{_feedback(kept)}'
        for kept in (before, after)
    ]
    return _card(_name(question), facts, *sides, above=_turns(question))


def token_legend() -> str:
    """The legend of the markings of tokens."""
    numbers = [*range(-len(LEVELS), 0), *range(1, len(LEVELS) + 1)]
    items = "".join(
        f'<li><span class="{_token_class(n)}">token</span> {safe(level_name(n))}</li>'
        for n in numbers
    )
    return f'<ul class="legend tokens">{items}</ul>'


def _card(title: str, facts: list[str], left: str, right: str, *, above: str = "") -> str:
    line = " · ".join(fact for fact in facts if fact)
    return (
        f'<article class="kept"><h3>{safe(title)}</h3>\n<p class="caption">{safe(line)}</p>\n'
        f'{above}<div class="pair"><div>{left}</div>\n<div>{right}</div></div></article>'
    )


def _name(question: Question) -> str:
    return f"question {printable_line(question.id)}"


def _kind(question: Question) -> str:
    return printable_line(", ".join(part for part in (question.domain, question.kind) if part))


def _verdict(kept: KeptText) -> list[str]:
    right = f"right answer {printable_line(kept.question.answer)}"
    return [_kind(kept.question), right, _graded(kept)]


def _graded(kept: KeptText) -> str:
    predicted = printable_line(kept.grade.prediction)[:_TOKEN_WIDTH] or "nothing"
    return f"predicted {predicted} · score {kept.grade.score:g}"


def _feedback(kept: KeptText) -> str:
    feedback = kept.grade.feedback
    return f"<h4>Feedback of the grader</h4>\n{_said([(feedback, False)])}\n" if feedback else ""


def _turns(question: Question) -> str:
    return "".join(
        f"<h4>{safe(turn.role.capitalize())}</h4>\n{_said([(turn.content, False)])}\n"
        for turn in question.messages
    )


def _teacher(kept: KeptText) -> str:
    if kept.teacher_prompt is None:
        return '<p class="caption">Nothing: this response has no teacher prompt.</p>'
    return _said(teacher_parts(kept))


def _said(parts: list[tuple[str, bool]]) -> str:
    """Texts in a row, each marked or not, up to a length."""
    room, shown = _CHARACTERS, []
    for text, marked in parts:
        piece = safe(text[:room])
        shown.append(f"<mark>{piece}</mark>" if marked else piece)
        room -= min(room, len(text))
    total = sum(len(text) for text, _ in parts)
    return _pre("".join(shown), total - _CHARACTERS, "characters")


def _response(kept: KeptText) -> str:
    if not kept.tokens:
        return _said([(kept.response, False)])
    spans, room = [], _CHARACTERS
    for place, token in enumerate(kept.tokens[:_TOKENS]):
        room -= len(token)
        if room < 0:
            break
        spans.append(_token(kept, place))
    return _pre("".join(spans), len(kept.tokens) - len(spans), "tokens")


def _pre(body: str, left: int, unit: str) -> str:
    # Browsers drop a line break after <pre>. This extra one is dropped, so that no other is.
    shown = f'<pre class="said">\n{body}</pre>'
    if left <= 0:
        return shown
    return f'{shown}<p class="caption">{left} further {unit} are not shown here.</p>'


def _token(kept: KeptText, place: int) -> str:
    # A line break has no colour of its own: a sign stands before it.
    text = safe(kept.tokens[place].replace("\n", "↵\n"))
    known = [
        f"{label} {_nats(kept.numbers[name][place])}"
        for name, label in _LABELS.items()
        if name in kept.numbers
    ]
    if not known:
        return text
    value = kept.numbers.get("information", (math.nan,) * len(kept.tokens))[place]
    number = level(value)
    marking = f' class="{_token_class(number)}"' if number else ""
    return f'<span{marking} title="{safe(", ".join(known))} (nats)">{text}</span>'


_LABELS = {
    "information": "I",
    "divergence": "divergence",
    "student_entropy": "student entropy",
    "teacher_entropy": "teacher entropy",
}


def _token_class(number: int) -> str:
    return f"{'up' if number > 0 else 'down'}-{abs(number)}"


def _token_table(kept: KeptText) -> str:
    if "information" not in kept.numbers:
        why = "this objective measures none" if kept.numbers else "the response did not train"
        note = f"No token has an information: {why}."
        return f'<p class="caption">{note}</p>'
    places = most_informative(kept, _TABLE_ROWS)
    if not places:
        return f'<p class="caption">No token has |I| of at least {LEAST:g} nats.</p>'
    names = [name for name in _COLUMNS if name in kept.numbers]
    rows = [
        [_quoted(kept.tokens[place]), place + 1, *(kept.numbers[name][place] for name in names)]
        for place in places
    ]
    return table_html(
        ["token", "#", *(_COLUMNS[name] for name in names)],
        rows,
        caption="Tokens of the response with the largest |I|; #: place, D: divergence, H: entropy; "
        "in nats",
        digits=3,
        stacks=False,
    )


_COLUMNS = {
    "information": "I",
    "divergence": "D",
    "student_entropy": "H student",
    "teacher_entropy": "H teacher",
}


def _quoted(token: str) -> str:
    text = printable_line(token)
    return f"“{text[:_TOKEN_WIDTH]}”" + ("…" if len(text) > _TOKEN_WIDTH else "")


def _nats(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".replace("-", "−")
