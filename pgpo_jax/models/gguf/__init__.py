"""GGUF files, the format of llama.cpp: model, tokenizer and chat template in one file."""

from pgpo_jax.models.gguf._config import gguf_config as gguf_config
from pgpo_jax.models.gguf._file import (
    GGUFFile as GGUFFile,
    is_gguf as is_gguf,
    read_gguf as read_gguf,
)
from pgpo_jax.models.gguf._tokenizer import gguf_tokenizer as gguf_tokenizer
from pgpo_jax.models.gguf._weights import (
    GGUFWeights as GGUFWeights,
    hugging_face_name as hugging_face_name,
)
