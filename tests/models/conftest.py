import json

import jax.numpy as jnp
import numpy as np
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
    )


@pytest.fixture(scope="session")
def build():
    """Makes a random model without compiling anything, as `Qwen3(config, rngs=...)` would.

    Weights are large enough that attention and positions matter, and gains differ from 1.
    """

    def build(config, **kw):
        model = nnx.eval_shape(lambda: Qwen3(config, rngs=nnx.Rngs(0), **kw))
        graphdef, abstract = nnx.split(model, nnx.Param)
        rng = np.random.default_rng(0)
        filled = [
            (
                path,
                leaf.replace(
                    jnp.asarray(
                        ("norm" in path[-1]) + 0.3 * rng.standard_normal(leaf.shape), leaf.dtype
                    )
                ),
            )
            for path, leaf in nnx.to_flat_state(abstract)
        ]
        return nnx.merge(graphdef, nnx.from_flat_state(filled))

    return build


@pytest.fixture(scope="session")
def tiny_model(build, tiny_config):
    return build(tiny_config)


@pytest.fixture(scope="session")
def prompts(tiny_config):
    """Four prompts of lengths 6, 3, 6, 1, padded on the left to 6, and their mask."""
    tokens = np.random.default_rng(1).integers(1, tiny_config.vocab_size, (4, 6), dtype=np.int32)
    lengths = np.array([6, 3, 6, 1])
    return jnp.asarray(tokens), jnp.asarray(np.arange(6)[None] >= 6 - lengths[:, None])


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
