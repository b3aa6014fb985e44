"""Writes weights as a Hugging Face folder, with the tokenizer files of their source."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flax import nnx

from pgpo_jax.errors import PGPOError, PGPOFileExistsError
from pgpo_jax.models import load_tokenizer, merged, save_pretrained
from pgpo_jax.paths import local_path
from pgpo_jax.training.rollout._policy import Policy

# The files of tokenizers and of `generate`, in every layout of Hugging Face.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates",
)
_ENDINGS = "generation_config.json"


def export_model(
    policy: Policy, weights: Any, folder: str | Path, *, dtype: str = "float32"
) -> None:
    """Write weights as a Hugging Face folder, with the tokenizer of their policy.

    The files of the tokenizer and `generation_config.json` are copied byte for byte from the folder
    that the policy was loaded from. So any program that opens that folder opens this one. If the
    tokenizer has changed or its folder is gone, the installed version of transformers writes the
    tokenizer.

    Args:
        policy: structure and tokenizer.
        weights: parameters of the model, such as `Trainer.student(state)`. LoRA's additions are
            summed.
        folder: folder to write, which must be new or empty.
        dtype: dtype of the stored weights: float32, bfloat16 or float16.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: the dtype cannot hold a weight.

    Added in version 0.2.0.
    """
    folder = local_path(folder, "the folder of a model")
    check_new_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(policy)
    if source is not None and _same_tokenizer(policy.tokenizer, source):
        _copy(source, folder, _TOKENIZER_FILES)
    else:
        policy.tokenizer.save_pretrained(folder)
    if source is not None:
        _copy(source, folder, [_ENDINGS])
    save_pretrained(nnx.merge(policy.graphdef, merged(weights)), folder, dtype=dtype)


def _copy(source: Path, folder: Path, names: Iterable[str]) -> None:
    """The given files and folders that exist."""
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
        elif (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _source(policy: Policy) -> Path | None:
    """The folder that a policy was loaded from, if it still exists."""
    folder = Path(policy.folder)
    return folder if policy.folder and folder.is_dir() else None


def _same_tokenizer(tokenizer: Any, folder: Path) -> bool:
    """Whether a folder holds exactly this tokenizer."""
    try:
        return _traits(load_tokenizer(folder)) == _traits(tokenizer)
    except PGPOError:
        return False


def _traits(tokenizer: Any) -> tuple[Any, ...]:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two change with every call.
    parts = {name: part for name, part in parts.items() if name not in ("truncation", "padding")}
    return parts, tokenizer.chat_template, tokenizer.special_tokens_map


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that is not empty.

    Raises:
        FileExistsError: naming it.
    """
    if folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None) is not None):
        raise PGPOFileExistsError(f"{folder} exists and is not an empty folder")
