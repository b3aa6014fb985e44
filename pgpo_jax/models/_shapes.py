"""Shapes of published models, copied from their config.json so that nothing is fetched."""

from __future__ import annotations

from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._rope import RopeScaling


def _shape(
    width: int, mlp: int, layers: int, heads: int, *, tied: bool, vocabulary: int = 151_936
) -> DecoderConfig:
    return DecoderConfig(
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


QWEN3_SHAPES: dict[str, DecoderConfig] = {
    "Qwen3-0.6B": _shape(1024, 3072, 28, 16, tied=True),
    "Qwen3-1.7B": _shape(2048, 6144, 28, 16, tied=True),
    "Qwen3-8B": _shape(4096, 12_288, 36, 32, tied=False),
}
"""Shapes by the name under which Qwen publishes them (https://huggingface.co/Qwen)."""

PUBLISHED_SHAPES: dict[str, DecoderConfig] = QWEN3_SHAPES | {
    "SmolLM2-135M": DecoderConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        rope_theta=1e5,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        model_type="llama",
    ),
    "Llama-3.2-1B": DecoderConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        rope_theta=5e5,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        max_position_embeddings=131_072,
        bos_token_id=128_000,
        eos_token_id=128_001,
        model_type="llama",
        rope_scaling=RopeScaling(factor=32.0),
    ),
}
"""Shapes by the name under which they are published (https://huggingface.co).

Added in version 0.2.0.
"""
