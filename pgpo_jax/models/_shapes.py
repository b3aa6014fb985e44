"""Shapes of published Qwen3 models: the numbers of their config.json, so nothing is fetched."""

from __future__ import annotations

from pgpo_jax.models._config import Qwen3Config


def _shape(
    width: int, mlp: int, layers: int, heads: int, *, tied: bool, vocabulary: int = 151_936
) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=tied,
        max_position_embeddings=40_960,
        bos_token_id=151_643,
        eos_token_id=151_645,
    )


QWEN3_SHAPES: dict[str, Qwen3Config] = {
    "Qwen3-0.6B": _shape(1024, 3072, 28, 16, tied=True),
    "Qwen3-1.7B": _shape(2048, 6144, 28, 16, tied=True),
    "Qwen3-8B": _shape(4096, 12_288, 36, 32, tied=False),
}
"""By the name under which Qwen publishes them (https://huggingface.co/Qwen)."""
