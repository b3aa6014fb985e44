"""GGUF files that the library's own writer makes of the golden checkpoints."""

import json
from pathlib import Path

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.cli._main import main
from pgpo_jax.models import (
    RopeScaling,
    load_pretrained,
    load_tokenizer,
    make_mesh,
    render_chat,
)
from pgpo_jax.models._names import by_path, sources
from pgpo_jax.models.gguf import GGUFWeights, gguf_config, hugging_face_name, read_gguf

GOLDEN = Path(__file__).parent / "golden"
GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def gguf_name(name):
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, *middle, kind = name.split(".")
    return f"blk.{layer}.{IN_LAYER['.'.join(middle)]}.{kind}"


def permuted(weight, heads):
    """As llama.cpp's converter lays the rows of q and k of a Llama."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)


def tensors_of(model, permute):
    config, flat = model.config, by_path(nnx.split(model, nnx.Param)[1])
    found = {}
    for path, source in sources(config).items():
        value = np.asarray(flat[path].get_value())
        for layer, name in enumerate(source.names):
            one = value[layer] if source.stacked else value
            one = np.ascontiguousarray(one.T if source.transposed else one)
            if permute and name.endswith("q_proj.weight"):
                one = permuted(one, config.num_attention_heads)
            if permute and name.endswith("k_proj.weight"):
                one = permuted(one, config.num_key_value_heads)
            found[gguf_name(name)] = one
    return found


def tokens_of(size):
    """A vocabulary of bytes, two merges, and special tokens at its end."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [*letters, "Ġa", "12"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
    texts += [f"[PAD{n}]" for n in range(size - len(texts) - len(special))] + special
    types = [5 if text.startswith("[PAD") else 1 for text in texts]
    types[-4:] = [3, 3, 3, 4]
    return texts, types, ["Ġ a", "1 2"]


def write(path, model, *, permute=None, change=lambda keys, tensors: None, quantise=None):
    """Writes a model as GGUF; `change` may spoil keys and tensors before."""
    config = model.config
    name = {"mistral": "llama"}.get(config.model_type, config.model_type)
    tensors = tensors_of(model, name == "llama" if permute is None else permute)
    texts, types, merges = tokens_of(config.vocab_size if config.vocab_size > 280 else 300)
    keys = {
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.head_count_kv": config.num_key_value_heads,
        f"{name}.attention.key_length": config.head_dim,
        f"{name}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{name}.rope.freq_base": config.rope_theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": len(texts) - 3,
        "tokenizer.ggml.eos_token_id": len(texts) - 2,
        "tokenizer.ggml.padding_token_id": len(texts) - 4,
        "tokenizer.chat_template": TEMPLATE,
    }
    if config.rope_scaling is not None:
        plain = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
        scaled = np.asarray(config.rope_scaling.scaled(jnp.asarray(plain, jnp.float32)))
        tensors["rope_freqs.weight"] = (plain / scaled).astype(np.float32)
    change(keys, tensors)
    writer = gguf.GGUFWriter(path, keys.pop("general.architecture", name))
    for key, value in keys.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for tensor_name, value in tensors.items():
        if quantise is not None and value.ndim == 2 and value.shape[1] % 32 == 0:
            data = gguf.quants.quantize(value, quantise)
            writer.add_tensor(tensor_name, data, raw_dtype=quantise)
        else:
            writer.add_tensor(tensor_name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def llama():
    return load_pretrained(GOLDEN / "llama_tied")


@pytest.fixture(scope="module")
def chatty(build, tiny_config):
    """A Llama with room for a whole tokenizer."""
    import dataclasses

    return build(
        dataclasses.replace(
            tiny_config, model_type="llama", vocab_size=300, hidden_size=32, num_hidden_layers=1
        )
    )


def differing(one, two):
    (a, b) = (by_path(nnx.split(model, nnx.Param)[1]) for model in (one, two))
    assert a.keys() == b.keys()
    return [
        ".".join(path) for path in a if not np.array_equal(a[path].get_value(), b[path].get_value())
    ]


@pytest.mark.parametrize(
    "case", ["llama_tied", "mistral_wide_heads", "qwen2_biases", "theta1e6_untied"]
)
def test_the_weights_are_those_of_the_checkpoint(case, tmp_path):
    model = load_pretrained(GOLDEN / case)
    read = load_pretrained(write(tmp_path / "model.gguf", model))
    assert differing(read, model) == []
    same = ("head_dim", "rope_theta", "rms_norm_eps", "tie_word_embeddings", "vocab_size")
    for field in (*same, "num_key_value_heads", "max_position_embeddings"):
        assert getattr(read.config, field) == getattr(model.config, field)
    # The control: rows of q and k in the other order are another model.
    other = case not in ("llama_tied", "mistral_wide_heads")
    read = load_pretrained(write(tmp_path / "other.gguf", model, permute=other))
    assert differing(read, model) == ["layers.k_proj", "layers.q_proj"]


def test_each_device_reads_its_own_part(llama, tmp_path):
    path = write(tmp_path / "model.gguf", llama)
    spread = load_pretrained(path, mesh=make_mesh(data=2, fsdp=2, tensor=2))
    assert differing(spread, llama) == []
    assert spread.layers.q_proj[...].addressable_shards[0].data.size * 4 == 2 * 32 * 32


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16"])
def test_quantised_weights_are_what_the_library_makes_of_them(llama, tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    read = load_pretrained(write(tmp_path / "model.gguf", llama, quantise=kind))
    table = np.asarray(llama.embedding[...])
    expected = gguf.quants.dequantize(gguf.quants.quantize(table, kind), kind)
    np.testing.assert_array_equal(read.embedding[...], expected)
    assert not np.array_equal(expected, table)
    # Permuted rows, too: they are quantised one by one.
    kernel = np.asarray(llama.layers.q_proj[...])[1].T
    expected = gguf.quants.dequantize(gguf.quants.quantize(kernel, kind), kind)
    np.testing.assert_array_equal(np.asarray(read.layers.q_proj[...])[1].T, expected)


def test_the_scaling_of_llama3_is_found_in_its_divisors(build, tiny_config, tmp_path):
    import dataclasses

    scaling = RopeScaling(factor=32.0)
    config = dataclasses.replace(
        tiny_config, model_type="llama", rope_scaling=scaling, head_dim=16, rope_theta=5e5
    )
    model = build(config)
    path = write(tmp_path / "model.gguf", model)
    assert gguf_config(read_gguf(path)).rope_scaling == scaling

    def other(keys, tensors):
        tensors["rope_freqs.weight"] = tensors["rope_freqs.weight"] ** 0.9

    with pytest.raises(ValueError, match=r"rope_freqs.weight is no RoPE scaling of Llama 3's"):
        load_pretrained(write(tmp_path / "other.gguf", model, change=other))


def test_the_tokenizer_cuts_digits_and_knows_its_special_tokens(chatty, tmp_path):
    def change(keys, tensors):
        tensors["token_embd.weight"] = tensors["token_embd.weight"][:300]

    path = write(tmp_path / "model.gguf", chatty, change=change)
    tokenizer = load_tokenizer(path)
    texts = tokens_of(300)[0]

    def pieces(text):
        return tokenizer.convert_ids_to_tokens(tokenizer.encode(text, add_special_tokens=False))

    assert pieces("x a12") == ["x", "Ġa", "1", "2"]
    assert pieces("<|im_end|><think>") == ["<|im_end|>", "<think>"]
    assert tokenizer.eos_token_id == texts.index("<|im_end|>")
    assert tokenizer.decode([texts.index("<think>"), tokenizer.eos_token_id], True) == "<think>"
    assert texts.index("[PAD0]") not in tokenizer.get_vocab().values()
    ids = render_chat(tokenizer, "s", "u")
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
    )

    # The control: GPT-2's way leaves digits together.
    def gpt2(keys, tensors):
        keys["tokenizer.ggml.pre"] = "gpt-2"
        keys["tokenizer.ggml.add_bos_token"] = True

    tokenizer = load_tokenizer(write(tmp_path / "gpt2.gguf", chatty, change=gpt2))
    assert pieces("x a12") == ["x", "Ġa", "12"]
    assert tokenizer.encode("x")[0] == tokenizer.bos_token_id


def test_convert_writes_a_whole_folder_or_none(chatty, tmp_path, capsys):
    path = write(tmp_path / "model.gguf", chatty)
    folder = tmp_path / "models" / "chatty"
    assert main(["convert", str(path), str(folder)]) == 0
    said = f"llama, 1 layers, width 32, vocabulary 300, float32 -> {folder}"
    assert said in capsys.readouterr().out
    assert differing(load_pretrained(folder), chatty) == []
    one, two = load_tokenizer(path), load_tokenizer(folder)
    text = "a12  345 é\n<|im_end|> <think>x"
    assert one.encode(text) == two.encode(text)
    assert render_chat(one, "s", "u") == render_chat(two, "s", "u")
    assert (one.eos_token_id, one.pad_token_id) == (two.eos_token_id, two.pad_token_id)
    endings = json.loads((folder / "generation_config.json").read_text())
    assert endings["eos_token_id"] == one.eos_token_id
    assert main(["convert", str(path), str(folder)]) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err
    # A file that is refused leaves nothing behind.
    (tmp_path / "torn.gguf").write_bytes(path.read_bytes()[:-100])
    assert main(["convert", str(tmp_path / "torn.gguf"), str(tmp_path / "models" / "torn")]) == 2
    assert "torn or not a GGUF file" in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["chatty"]
    assert main(["sample", "--model", str(path)]) == 2
    assert f"make a folder of it with `pgpo convert {path} FOLDER`" in capsys.readouterr().err


def key(name, value):
    def change(keys, tensors):
        keys[name] = value

    return change


def without(name):
    def change(keys, tensors):
        del (keys if name in keys else tensors)[name]

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (key("general.architecture", "gemma2"), "must be one of llama, qwen2, qwen3, got 'gemma2'"),
        (key("general.type", "adapter"), "general.type must be 'model', got 'adapter'"),
        (key("split.count", 3), "one of 3 parts"),
        (key("llama.expert_count", 8), "mixture of experts.*llama.expert_count = 8"),
        (key("llama.attention.sliding_window", 64), "sliding windows are not.*sliding_window = 64"),
        (key("llama.rope.scaling.type", "yarn"), "rope.scaling.type must be 'none', got 'yarn'"),
        (key("llama.logit_scale", 2.0), "scale is not implemented, got llama.logit_scale = 2.0"),
        (key("llama.rope.dimension_count", 4), "must be the width of a head, 8, got 4"),
        (key("llama.block_count", "two"), "llama.block_count must be a .*int.*got 'two'"),
        (without("llama.embedding_length"), "the metadata lacks llama.embedding_length"),
        (without("token_embd.weight"), "missing token_embd.weight"),
        (
            without("blk.1.attn_q.weight"),
            r"missing model.layers.1.self_attn.q_proj.weight \(nearest",
        ),
        (
            lambda keys, tensors: tensors.update({"blk.0.ssm.weight": np.zeros(3, np.float32)}),
            "unexpected blk.0.ssm.weight",
        ),
    ],
)
def test_files_that_hold_something_else(llama, tmp_path, change, match):
    with pytest.raises(ValueError, match=match):
        load_pretrained(write(tmp_path / "model.gguf", llama, change=change))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (key("tokenizer.ggml.model", "llama"), r"must be 'gpt2' \(byte-level BPE\), got 'llama'"),
        (key("tokenizer.ggml.pre", "tekken"), "pre must be one of gpt-2, smollm.*got 'tekken'"),
        (key("tokenizer.ggml.tokens", ["a", "a"]), r"got 2 \(1 different\)"),
        (key("tokenizer.ggml.merges", ["ab"]), "must hold pairs of tokens, got 'ab'"),
        (key("tokenizer.ggml.merges", ["no such"]), "merges do not fit the tokens"),
        (key("tokenizer.ggml.eos_token_id", 4000), "eos_token_id must be below 300, got 4000"),
        (without("tokenizer.ggml.model"), "the metadata lacks tokenizer.ggml.model"),
    ],
)
def test_tokenizers_that_are_refused(chatty, tmp_path, change, match):
    with pytest.raises(ValueError, match=match):
        load_tokenizer(write(tmp_path / "model.gguf", chatty, change=change))


def test_torn_files_and_files_that_are_none(llama, tmp_path):
    path = write(tmp_path / "model.gguf", llama)
    whole = path.read_bytes()
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 64):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="torn or not a GGUF file"):
            load_pretrained(path)
    path.write_bytes(b"GARB" + whole[4:])
    with pytest.raises(ValueError, match=r"torn or not a GGUF file.*magic"):
        load_pretrained(path)
    with pytest.raises(FileNotFoundError, match="No GGUF file"):
        load_pretrained(tmp_path / "absent.gguf")
    path.write_bytes(whole)
    assert differing(load_pretrained(path), llama) == []


def test_a_quantisation_that_is_not_known(llama, tmp_path, monkeypatch):
    path = write(tmp_path / "model.gguf", llama)
    whole = path.read_bytes()
    # The type of a tensor stands between its shape and its offset.
    place = whole.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    path.write_bytes(whole[:place] + (250).to_bytes(4, "little") + whole[place + 4 :])
    with pytest.raises(ValueError, match=r"quantisation that the library gguf does not know.*250"):
        load_pretrained(path)
    path.write_bytes(whole)

    def refuse(data, kind):
        raise NotImplementedError(f"Dequantization for {kind.name} is not yet implemented")

    monkeypatch.setattr(gguf.quants, "dequantize", refuse)
    with pytest.raises(ValueError, match=r"is quantised as F32, which the library gguf cannot"):
        load_pretrained(path)


def test_names_and_reading_by_parts(llama, tmp_path):
    assert hugging_face_name("output.weight") == "lm_head.weight"
    file = read_gguf(write(tmp_path / "model.gguf", llama))
    part = GGUFWeights(file, llama.config).get_slice("model.layers.0.self_attn.k_proj.weight")
    whole = np.asarray(llama.layers.k_proj[...])[0].T
    np.testing.assert_array_equal(part[2:9, 5:7], whole[2:9, 5:7])
    np.testing.assert_array_equal(part[3:], whole[3:])


def test_without_the_library_the_extra_is_named(llama, tmp_path, monkeypatch):
    import importlib.util

    path = write(tmp_path / "model.gguf", llama)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name)
    )
    with pytest.raises(ImportError, match=r"pip install 'pgpo-jax\[gguf\]'"):
        load_pretrained(path)
