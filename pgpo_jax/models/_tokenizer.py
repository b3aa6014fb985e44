"""The tokenizer of a model folder, and chats in which text stays text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.models._load import find_folder

# Stand-ins for the contents while the template is rendered; no template writes them by itself.
_SYSTEM, _USER = "PGPOsystemCONTENT", "PGPOuserCONTENT"


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """Loads the tokenizer of a model folder. Code in the folder is never run; torch is not needed.

    Args:
        folder: a Hugging Face folder, or a Hub id to fetch.

    Returns:
        A `transformers` fast tokenizer.

    Raises:
        FileNotFoundError: no such folder, or no tokenizer in it.
        ValueError: its files cannot be read.
    """
    path = find_folder(folder)
    complete = (path / "tokenizer.json").is_file() or (
        (path / "vocab.json").is_file() and (path / "merges.txt").is_file()
    )
    if not complete:
        raise PGPOFileNotFoundError(
            f"No tokenizer in {path}: neither tokenizer.json nor vocab.json with merges.txt."
        )
    # It would tell, at import, that there is no PyTorch, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
    # The Rust side raises bare Exception on a malformed tokenizer.json.
    except Exception as error:
        raise PGPOValueError(f"The tokenizer in {path} cannot be read: {error}") from error
    if not tokenizer.is_fast:
        raise PGPOValueError(
            f"The tokenizer in {path} is not a fast one ({type(tokenizer).__name__})."
        )
    return tokenizer


def render_chat(tokenizer: Any, system: str | None, user: str) -> list[int]:
    """Token ids of a chat up to where the answer begins, by the folder's own template.

    The contents are inert: special tokens spelt out in them ("<|im_start|>", say) are encoded as
    the characters they are, so text can open no turn. The template is rendered around stand-ins
    and only its own special tokens are taken as such; everything between two of them, template
    and content alike, is encoded in one piece, which gives the ids of `apply_chat_template` for
    contents without special tokens. Lone surrogates, which no tokenizer can encode, become U+FFFD.

    Args:
        tokenizer: from `load_tokenizer`.
        system: the system message; None or "" for none.
        user: the user's message.

    Returns:
        Ids, ending with the generation prompt; thinking is switched off where a template asks.

    Raises:
        ValueError: the tokenizer has no chat template, or its template loses a message.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PGPOValueError(
            "The tokenizer has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); a chat cannot be rendered."
        )
    contents = {_USER: user}
    if system:
        contents[_SYSTEM] = system
    # Blanks around a stand-in show whether the template trims, and so must the content be.
    messages = [{"role": "user", "content": f" {_USER} "}]
    if system:
        messages.insert(0, {"role": "system", "content": f" {_SYSTEM} "})
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    for mark, content in contents.items():
        if mark not in text:
            role = "user" if mark == _USER else "system"
            raise PGPOValueError(f"The chat template leaves the {role} message out.")
        if f" {mark} " in text:
            text = text.replace(f" {mark} ", mark)
        else:
            contents[mark] = content.strip()

    special = {
        token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    cuts = [_SYSTEM, _USER, *sorted(special, key=len, reverse=True)]
    ids: list[int] = []
    pending = ""
    for piece in re.split(f"({'|'.join(map(re.escape, cuts))})", text):
        if piece in special:
            ids += encode(tokenizer, pending)
            ids.append(special[piece])
            pending = ""
        else:
            pending += contents.get(piece, piece)
    return ids + encode(tokenizer, pending)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of plain text: nothing added, no special token recognised.

    Args:
        tokenizer: from `load_tokenizer`.
        text: any string; lone surrogates become U+FFFD.

    Returns:
        Ids.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of a response, without special tokens.

    Args:
        tokenizer: from `load_tokenizer`.
        ids: token ids.

    Returns:
        The text, blanks as they are.
    """
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
