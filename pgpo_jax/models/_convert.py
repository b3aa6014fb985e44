"""Converts a GGUF file to a Hugging Face folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from pgpo_jax.errors import PGPOFileExistsError
from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._load import load_pretrained
from pgpo_jax.models._save import save_pretrained
from pgpo_jax.models.gguf import gguf_tokenizer, read_gguf


def convert_gguf(
    file: str | os.PathLike[str], folder: str | os.PathLike[str], *, dtype: str = "float32"
) -> DecoderConfig:
    """Write the model, tokenizer and chat template of a GGUF file as a Hugging Face folder.

    The weights are dequantised. This does not undo the rounding of quantisation. float32 holds the
    dequantised numbers exactly.

    Args:
        file: the GGUF file.
        folder: a folder that is new or empty. It is written completely or not at all.
        dtype: dtype of the stored weights: float32, bfloat16 or float16.

    Returns:
        The shape of the model.

    Raises:
        FileExistsError: the folder is not empty.
        FileNotFoundError, ImportError, ValueError: as `load_pretrained`, and a tokenizer that is
            not byte-level BPE of a known kind.

    Added in version 0.2.0.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PGPOFileExistsError(f"{folder} exists and is not an empty folder")
    # The tokenizer comes first, because it is refused more often than the weights.
    tokenizer = gguf_tokenizer(read_gguf(file))
    model = load_pretrained(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = work / "model"
        tokenizer.save_pretrained(made)
        save_pretrained(model, made, dtype=dtype)
        ends = model.config.to_dict()["eos_token_id"]
        endings = {
            "bos_token_id": model.config.bos_token_id,
            "eos_token_id": ends,
            "pad_token_id": model.config.pad_token_id,
        }
        (made / "generation_config.json").write_text(json.dumps(endings, indent=2) + "\n")
        os.replace(made, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return model.config
