import json

import jax
import pytest
from flax import nnx

from pgpo_jax.models import Qwen3, Qwen3Config

# The shape of Qwen's own template, without its tools.
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)


@pytest.fixture(scope="session")
def tiny_config():
    return Qwen3Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rope_theta=1e4,
        tie_word_embeddings=True,
        initializer_range=0.5,
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_config):
    """Two layers, with weights large enough that attention and positions matter."""
    return Qwen3(tiny_config, rngs=nnx.Rngs(0))


@pytest.fixture(scope="session")
def prompts(tiny_config):
    """Four prompts of lengths 6, 3, 6, 1, padded on the left to 6, and their mask."""
    tokens = jax.random.randint(jax.random.key(1), (4, 6), 1, tiny_config.vocab_size)
    lengths = jax.numpy.array([6, 3, 6, 1])
    return tokens, jax.numpy.arange(6)[None] >= 6 - lengths[:, None]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """A byte-level BPE tokenizer with a chat template like Qwen's, and no model."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what is the answer to the question\n\n"] * 8, trainer)
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
