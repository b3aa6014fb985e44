"""The tokenizer and the chat template that a GGUF file holds."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models.gguf._file import GGUFFile


class _Type(enum.IntEnum):
    """The values of `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class _Kind(NamedTuple):
    """The splitting of text into pieces before these become tokens.

    Attributes:
        cut: regular expression of the pieces; None for that of GPT-2.
        single_digits: whether each digit is a piece of its own.
        compose: whether text is normalised to NFC first.
        whole_words: whether a piece that is a token stays one token, without merges.
    """

    cut: str | None = None
    single_digits: bool = False
    compose: bool = False
    whole_words: bool = False


_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# Splitting by `tokenizer.ggml.pre`, as in the tokenizer.json of the models' authors.
_KINDS = {
    "gpt-2": _Kind(),
    "smollm": _Kind(single_digits=True),
    "llama-bpe": _Kind(_LLAMA3, whole_words=True),
    "qwen2": _Kind(_QWEN2, compose=True),
}


def gguf_tokenizer(file: GGUFFile) -> Any:
    """The tokenizer with its special tokens and its chat template.

    Args:
        file: from `read_gguf`.

    Returns:
        A `transformers` fast tokenizer, the same as `load_tokenizer` of a folder.

    Raises:
        ValueError: the kind of tokenizer or of pieces is not implemented, or the lists are
            inconsistent.

    Added in version 0.2.0.
    """
    from transformers import PreTrainedTokenizerFast

    texts, types = _tokens(file)
    named = {
        f"{ours}_token": texts[number]
        for ours, theirs in (
            ("bos", "bos"),
            ("eos", "eos"),
            ("unk", "unknown"),
            ("pad", "padding"),
        )
        if (number := _token_id(file, theirs, len(texts))) is not None
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=_fast(file, texts, types),
        chat_template=file.value("tokenizer.chat_template", str, None),
        clean_up_tokenization_spaces=False,
        model_max_length=file.own("context_length", int),
        **named,
    )


def _tokens(file: GGUFFile) -> tuple[list[str], list[int]]:
    model = file.value("tokenizer.ggml.model", str)
    if model != "gpt2":
        raise PGPOValueError(
            f"{file.path}: tokenizer.ggml.model must be 'gpt2' (byte-level BPE), got {model!r}; "
            "take the tokenizer of the model's Hugging Face folder."
        )
    texts = file.value("tokenizer.ggml.tokens", list)
    types = file.value("tokenizer.ggml.token_type", list, [_Type.NORMAL] * len(texts))
    rows = file.tensors["token_embd.weight"].shape[-1] if "token_embd.weight" in file.tensors else 0
    if not len(texts) == len(types) == len(set(texts)) or (rows and len(texts) != rows):
        raise PGPOValueError(
            f"{file.path}: tokenizer.ggml.tokens must hold as many different tokens as "
            f"token_type and the embedding, got {len(texts)} ({len(set(texts))} different), "
            f"{len(types)} and {rows}."
        )
    return texts, types


def _token_id(file: GGUFFile, name: str, size: int) -> int | None:
    number = file.value(f"tokenizer.ggml.{name}_token_id", int, None)
    if number is not None and not 0 <= number < size:
        raise PGPOValueError(
            f"{file.path}: tokenizer.ggml.{name}_token_id must be below {size}, got {number}."
        )
    return number


def _fast(file: GGUFFile, texts: list[str], types: list[int]) -> Any:
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    name = file.value("tokenizer.ggml.pre", str)
    kind = _KINDS.get(name)
    if kind is None:
        raise PGPOValueError(
            f"{file.path}: tokenizer.ggml.pre must be one of {', '.join(_KINDS)}, got {name!r}; "
            "take the tokenizer of the model's Hugging Face folder."
        )
    vocabulary = {
        text: number
        for number, (text, type_) in enumerate(zip(texts, types, strict=True))
        if type_ != _Type.UNUSED
    }
    merges = [_pair(file, merge) for merge in file.value("tokenizer.ggml.merges", list)]
    try:
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=kind.whole_words)
    # The Rust code raises a bare Exception for a merge without a token.
    except Exception as error:
        raise PGPOValueError(
            f"{file.path}: tokenizer.ggml.merges do not fit the tokens: {error}."
        ) from error
    tokenizer = Tokenizer(model)
    if kind.compose:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = []
    if kind.single_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if kind.cut is not None:
        steps.append(pre_tokenizers.Split(Regex(kind.cut), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind.cut is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    added = {_Type.CONTROL: True, _Type.USER_DEFINED: False}
    tokenizer.add_tokens(
        [
            AddedToken(text, special=added[_Type(type_)], normalized=False)
            for text, type_ in zip(texts, types, strict=True)
            if type_ in added
        ]
    )
    if file.value("tokenizer.ggml.add_bos_token", bool, False):
        first = _token_id(file, "bos", len(texts))
        if first is None:
            raise PGPOValueError(
                f"{file.path}: tokenizer.ggml.add_bos_token is set without a bos_token_id."
            )
        bos = texts[first]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"],
            pair=[bos, "$A", f"{bos}:1", "$B:1"],
            special_tokens=[(bos, first)],
        )
    return tokenizer


def _pair(file: GGUFFile, merge: Any) -> tuple[str, str]:
    left, space, right = str(merge).partition(" ")
    if not (left and space and right):
        raise PGPOValueError(
            f"{file.path}: tokenizer.ggml.merges must hold pairs of tokens, got {merge!r}."
        )
    return left, right
