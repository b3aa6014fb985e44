from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pgpo_jax.flags import parse
from pgpo_jax.models import convert_gguf
from pgpo_jax.paths import with_local_paths


@dataclass(frozen=True)
class ConvertCommand:
    """Converts a GGUF file to a Hugging Face folder, with its tokenizer and chat template.

    The weights are dequantised. The model families are those of `pgpo train --model`. The tokenizer
    must be byte-level BPE. The command needs the extra `gguf`.
    """

    file: tyro.conf.Positional[Path]
    """The GGUF file."""
    output: tyro.conf.Positional[Path]
    """The folder to write, which must be new or empty."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the stored weights. float32 holds the dequantised numbers exactly."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo convert`.

    Raises:
        FileNotFoundError: if there is no such file.
        FileExistsError: if the output holds something.
        ImportError: without the extra `gguf`.
        ValueError: if the file is torn or holds what is not supported.
    """
    command = with_local_paths(parse(ConvertCommand, "pgpo convert", argv))
    config = convert_gguf(command.file, command.output, dtype=command.dtype)
    print(
        f"{config.model_type}, {config.num_hidden_layers} layers, width {config.hidden_size}, "
        f"vocabulary {config.vocab_size}, {command.dtype} -> {command.output}"
    )
