"""Renders chats by a folder's own template; special tokens in a message stay plain text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.models._tokenizer import encodable, encode

# A stand-in for content number N while the template is rendered. No template writes it itself.
_STAND_IN = "PGPOcontent{}END"
_END_OF_THINKING = "</think>"
_THINKING = {"<think>", _END_OF_THINKING}


class _Turn(NamedTuple):
    role: str
    content: str


def render_chat(tokenizer: Any, system: str | None, user: str) -> list[int]:
    """Token ids of a question up to where the answer begins, without thinking.

    Args:
        tokenizer: from `load_tokenizer`.
        system: system message; None or "" for none.
        user: message of the user.

    Returns:
        Ids, ending with the generation prompt. Thinking is off if the template has that choice.

    Raises:
        ValueError: see `render_messages`.
    """
    turns = [_Turn("system", system)] if system else []
    return render_messages(tokenizer, [*turns, _Turn("user", user)])


def render_messages(
    tokenizer: Any, messages: Sequence[Any], *, thinking: bool = False
) -> list[int]:
    """Token ids of a chat up to where the next answer begins, by the folder's own template.

    Special tokens in the contents have no effect. A content with "<|im_start|>" is encoded as these
    characters, so it cannot open a turn. The template is rendered around stand-ins, and only the
    special tokens of the template itself are encoded as such. The text between two of them,
    template and content alike, is encoded in one piece. For contents without special tokens this
    gives the ids of `apply_chat_template`.

    An added token that the template writes counts as special even if the folder does not mark it
    so, such as `<tool_call>` of Qwen3 and the turns of DeepSeek. In an assistant's turn, `<think>`
    and `</think>` stay the tokens that the model wrote. Any other added token is one token in
    contents, too. Lone surrogates become U+FFFD.

    The template is then rendered once more with the contents themselves. It may strip white space
    from their ends, and the thinking ("... </think>") from an assistant's. Any other difference is
    an error.

    Args:
        tokenizer: from `load_tokenizer`.
        messages: the turns, at least one: objects with `role` and `content` (such as
            `pgpo_jax.tasks.Message`), or mappings with these keys. Both are strings.
        thinking: value of `enable_thinking` for the template. A template without this option
            renders the same for both.

    Returns:
        Ids, ending with the generation prompt.

    Raises:
        TypeError: a message without a role and a content that are strings.
        ValueError: there is no message or no chat template, or the template refuses the chat. Or it
            leaves a message out, or writes other text because of a content.

    Added in version 0.2.0.
    """
    turns = [_turn(message, number) for number, message in enumerate(messages)]
    if not turns:
        raise PGPOValueError("messages must hold at least one message, got none.")
    if not getattr(tokenizer, "chat_template", None):
        raise PGPOValueError(
            "The tokenizer has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); a chat cannot be rendered."
        )
    stand_ins = [
        turn._replace(content=_STAND_IN.format(number)) for number, turn in enumerate(turns)
    ]
    names = [turn.content for turn in stand_ins]
    pieces = re.split(f"({'|'.join(names)})", _by_template(tokenizer, stand_ins, thinking))
    literals, order = pieces[::2], [names.index(piece) for piece in pieces[1::2]]
    for number, turn in enumerate(turns):
        if number not in order:
            raise PGPOValueError(
                f"The chat template leaves the {turn.role} message out, or rewrites it "
                f"(message {number + 1} of {len(turns)})."
            )

    def contents(turns: Sequence[_Turn]) -> list[str] | None:
        text = _by_template(tokenizer, turns, thinking)
        return _as_rendered(literals, [turns[number] for number in order], text)

    found = contents(turns)
    if found is None:
        for number, turn in enumerate(turns):
            if contents([*stand_ins[:number], turn, *stand_ins[number + 1 :]]) is None:
                raise PGPOValueError(
                    f"The chat template changes the content of this {turn.role} message, or writes "
                    "something else around it because of its content: "
                    f"{_shortened(turn.content)!r}."
                )
        raise PGPOValueError(
            "The chat template writes something else around the messages of this chat because of "
            f"several contents: {[_shortened(turn.content) for turn in turns]}."
        )
    controls = _controls(tokenizer, literals)
    parts = [
        _inert(text, controls - _THINKING if turns[number].role == "assistant" else controls)
        for number, text in zip(order, found, strict=True)
    ]
    return _encode_pieces(tokenizer, literals, parts)


def _controls(tokenizer: Any, literals: Sequence[str]) -> set[str]:
    """The added tokens that the template writes and that the folder does not mark as special."""
    source = tokenizer.chat_template
    texts = [*literals, *(source.values() if isinstance(source, dict) else [source])]
    ordinary = (t.content for t in tokenizer.added_tokens_decoder.values() if not t.special)
    return {token for token in ordinary if any(token in text for text in texts)}


def _inert(content: str, controls: Collection[str]) -> list[str]:
    """A content in parts, none of which holds one of these tokens.

    Each token is split after its first character, and every part is encoded on its own."""
    tokens = sorted((x for x in controls if len(x) > 1), key=len, reverse=True)
    if not tokens:
        return [content]
    pattern = re.compile("|".join(map(re.escape, tokens)))
    parts, start = [], 0
    match = pattern.search(content)
    while match:
        parts.append(content[start : match.start() + 1])
        start = match.start() + 1
        match = pattern.search(content, start)
    return [*parts, content[start:]]


def _turn(message: Any, number: int) -> _Turn:
    def text(name: str) -> str:
        is_mapping = isinstance(message, Mapping)
        value = message.get(name) if is_mapping else getattr(message, name, None)
        if not isinstance(value, str):
            raise PGPOTypeError(
                f"messages[{number}] must have a {name} that is a string, got {value!r}."
            )
        return value

    return _Turn(text("role"), encodable(text("content")))


def _by_template(tokenizer: Any, turns: Sequence[_Turn], thinking: bool) -> str:
    try:
        return tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
    # A template is a program of the folder and may raise any error.
    except Exception as error:
        raise PGPOValueError(
            f"The chat template refuses a chat of {', '.join(turn.role for turn in turns)}: {error}"
        ) from error


def _as_rendered(literals: Sequence[str], turns: Sequence[_Turn], text: str) -> list[str] | None:
    """The contents in a text of literal, content, literal ...; None for any other text."""
    if not text.startswith(literals[0]):
        return None
    found, place = [], len(literals[0])
    for turn, literal in zip(turns, literals[1:], strict=True):
        for content in _forms(turn):
            if text.startswith(content + literal, place):
                found.append(content)
                place += len(content) + len(literal)
                break
        else:
            return None
    return found if place == len(text) else None


def _forms(turn: _Turn) -> Iterator[str]:
    """The forms that a template may give a content: whole, stripped, or without the thinking."""
    for content in (turn.content, turn.content.rpartition(_END_OF_THINKING)[2]):
        yield content
        yield content.strip()
        yield content.lstrip("\n")
        yield content.rstrip()
        yield content.lstrip()
        if turn.role != "assistant" or not turn.content.rpartition(_END_OF_THINKING)[2].strip():
            return


def _shortened(content: str) -> str:
    return content if len(content) <= 60 else content[:57] + "..."


def _encode_pieces(
    tokenizer: Any, literals: Sequence[str], contents: Sequence[Sequence[str]]
) -> list[int]:
    """Ids of literal, content, literal ... Special tokens are recognised in literals only.

    A content is given in parts; no token spans two of them.
    """
    special = {
        token.content: (id, token)
        for id, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    cuts = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")
    ids: list[int] = []
    pending, cut_left = "", False

    def flush(cut_right: bool) -> None:
        # Such a token absorbs the white space beside it.
        text = pending.lstrip() if cut_left else pending
        ids.extend(encode(tokenizer, text.rstrip() if cut_right else text))

    for literal, parts in zip(literals, [*contents, [""]], strict=True):
        start = 0
        for match in cuts.finditer(literal):
            pending += literal[start : match.start()]
            id, token = special[match[0]]
            flush(token.lstrip)
            ids.append(id)
            pending, cut_left, start = "", token.rstrip, match.end()
        pending += literal[start:] + parts[0]
        for part in parts[1:]:
            flush(False)
            pending, cut_left = part, False
    flush(False)
    return ids
