"""The tokenizer of a model folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pgpo_jax._json_files import read_object
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.models._load import find_folder
from pgpo_jax.models.gguf import gguf_tokenizer, is_gguf, read_gguf


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """Load the tokenizer of a model folder. Code in the folder is never run.

    Args:
        folder: a Hugging Face folder, a Hub id to fetch, or a `.gguf` file.

    Returns:
        A `transformers` fast tokenizer.

    Raises:
        FileNotFoundError: no such folder, or no tokenizer in it.
        ValueError: its files cannot be read.
    """
    # At import it warns that PyTorch is missing, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if is_gguf(folder):
        return gguf_tokenizer(read_gguf(folder))
    path = find_folder(folder)
    complete = (path / "tokenizer.json").is_file() or (
        (path / "vocab.json").is_file() and (path / "merges.txt").is_file()
    )
    if not complete:
        raise PGPOFileNotFoundError(
            f"No tokenizer in {path}: neither tokenizer.json nor vocab.json with merges.txt."
        )
    try:
        tokenizer = _maker(path).from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
        # Some settings are checked in use only.
        if tokenizer.is_fast:
            decode(tokenizer, encode(tokenizer, "a b"))
    # The Rust side raises bare Exception on a malformed tokenizer.json.
    except Exception as error:
        raise PGPOValueError(f"The tokenizer in {path} cannot be used: {error}") from error
    if not tokenizer.is_fast:
        raise PGPOValueError(
            f"The tokenizer in {path} is not a fast one ({type(tokenizer).__name__})."
        )
    return tokenizer


# Here `AutoTokenizer` makes a plain tokenizer of tokenizer.json, too. But it first imports the list
# of all models, which takes half a second.
_PLAIN = ("PreTrainedTokenizerFast", "TokenizersBackend")
_PLAIN_MODELS = ("llama", "qwen3")


def _maker(folder: Path) -> Any:
    """The class that makes the tokenizer of a folder."""
    import transformers

    settings, model = (_fields(folder / f"{name}.json") for name in ("tokenizer_config", "config"))
    plain = (
        settings.get("tokenizer_class") in _PLAIN
        and "auto_map" not in settings
        and model.get("model_type") in _PLAIN_MODELS
        and (folder / "tokenizer.json").is_file()
    )
    return transformers.PreTrainedTokenizerFast if plain else transformers.AutoTokenizer


def _fields(file: Path) -> dict[str, Any]:
    """What a JSON file says; nothing if it cannot be read, which its reader tells better."""
    try:
        return read_object(file)
    except (OSError, ValueError):
        return {}


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of plain text; no token is added and no special token is recognised.

    Args:
        tokenizer: from `load_tokenizer`.
        text: any string. Lone surrogates become U+FFFD.

    Returns:
        Ids.
    """
    return tokenizer.encode(encodable(text), add_special_tokens=False, split_special_tokens=True)


def decode(tokenizer: Any, ids: Sequence[int], *, ends: Collection[int] = ()) -> str:
    """Text of a response, without the special tokens that end or pad it.

    Every other token is text, even if it is special. `<answer>` and `<think>` are special tokens of
    some models, and a grader must see them.

    Args:
        tokenizer: from `load_tokenizer`.
        ids: token ids.
        ends: tokens that end a response, in addition to the tokenizer's own. An end token that is
            not special is text.

    Returns:
        The text with its white space.
    """
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    silent = {tokenizer.eos_token_id, tokenizer.pad_token_id} | (special & set(ends))
    kept = [id for id in ids if id not in silent]
    return tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def encodable(text: str) -> str:
    """The same text with U+FFFD for every lone surrogate, because no tokenizer can encode one."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
