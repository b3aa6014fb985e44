"""The tokens that end a response of a model folder."""

from pathlib import Path
from typing import Any

from pgpo_jax._json_files import read_object
from pgpo_jax.errors import PGPOValueError


def end_tokens(folder: Path, tokenizer: Any, vocabulary: int) -> tuple[int, ...]:
    """The end tokens that a folder names, without repetition.

    They are the end token of `tokenizer` and those of `generation_config.json`. A chat model may
    end a turn with more tokens than the tokenizer's own end token. If that file names none, those
    of `config.json` count, as in Hugging Face's `generate`. A null names none.

    Args:
        folder: a model folder.
        tokenizer: of that folder.
        vocabulary: number of token ids that the model has.

    Raises:
        ValueError: a file is not a JSON object, an end token is not in the vocabulary, or there is
            no end token.
    """
    named = _named(folder / "generation_config.json") or _named(folder / "config.json")
    own = {} if tokenizer.eos_token_id is None else {tokenizer.eos_token_id: "the tokenizer"}
    ends = own | {id: file for id, file in named.items() if id not in own}
    for id, where in ends.items():
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < vocabulary:
            raise PGPOValueError(
                f"an end token must be an id in [0, {vocabulary}) (the vocabulary of the model), "
                f"but {where} of {folder} names {id!r}"
            )
    if not ends:
        raise PGPOValueError(
            f"{folder}: neither the tokenizer nor generation_config.json nor config.json names an "
            "end token (eos_token_id)"
        )
    return tuple(ends)


def _named(path: Path) -> dict[Any, str]:
    """The end tokens that a file names, with the file's name."""
    if not path.is_file():
        return {}
    listed = read_object(path).get("eos_token_id")
    ends = listed if isinstance(listed, list) else [] if listed is None else [listed]
    return {end if isinstance(end, int | str) else repr(end): path.name for end in ends}
