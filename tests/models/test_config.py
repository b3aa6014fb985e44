import dataclasses
import json

import pytest

from pgpo_jax.models import DecoderConfig, Qwen3Config, RopeScaling

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_round_trip(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, eos_token_id=(3, 4), pad_token_id=0)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert Qwen3Config.from_folder(tmp_path) == config


def as_file(config, **changes):
    values = config.to_dict() | changes
    return {key: value for key, value in values.items() if value != "remove"}


def test_both_styles_of_rope(tiny_config):
    four = as_file(tiny_config, rope_parameters="remove", rope_scaling=None)
    five = as_file(tiny_config, rope_theta="remove")
    assert Qwen3Config.from_dict(four) == Qwen3Config.from_dict(five) == tiny_config


@pytest.mark.parametrize(
    ("model_type", "architecture", "qk_norm", "qkv_bias"),
    [
        ("qwen3", "Qwen3ForCausalLM", True, False),
        ("qwen2", "Qwen2ForCausalLM", False, True),
        ("llama", "LlamaForCausalLM", False, False),
        ("mistral", "MistralForCausalLM", False, False),
    ],
)
def test_each_family_is_written_as_its_own_and_read_again(
    tiny_config, model_type, architecture, qk_norm, qkv_bias
):
    config = dataclasses.replace(
        tiny_config, model_type=model_type, rope_scaling=RopeScaling(factor=8.0)
    )
    values = json.loads(json.dumps(config.to_dict()))
    assert (values["model_type"], values["architectures"]) == (model_type, [architecture])
    assert values["rope_scaling"] == LLAMA3
    assert values["rope_parameters"] == LLAMA3 | {"rope_theta": 10000.0}
    assert DecoderConfig.from_dict(values) == config
    assert (config.qk_norm, config.qkv_bias) == (qk_norm, qkv_bias)
    # Either style alone says the same.
    for key in ("rope_scaling", "rope_parameters"):
        assert DecoderConfig.from_dict(values | {key: None}) == config
    assert "rope_scaling" not in tiny_config.to_dict()


def test_a_llama_file_may_leave_head_size_and_base_to_the_family(tiny_config):
    values = dataclasses.replace(tiny_config, model_type="llama").to_dict()
    for key in ("head_dim", "rope_theta", "rope_parameters"):
        del values[key]
    config = DecoderConfig.from_dict(values)
    assert (config.head_dim, config.rope_theta) == (16 // 4, 1e4)
    # Qwen3's heads do not depend on its width, and its file must say the base.
    values = tiny_config.to_dict()
    del values["head_dim"]
    assert DecoderConfig.from_dict(values).head_dim == 128


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gemma"}, "model_type must be one of 'qwen3', .*'mistral', got 'gemma'"),
        ({"model_type": "remove"}, "model_type must be one of .*, got None"),
        ({"model_type": ["llama"]}, r"model_type must be one of .*, got \['llama'\]"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "a mixture of experts.*num_local_exp"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias must be False.*got True"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias must be False.*True"),
        ({"model_type": "mistral", "sliding_window": 64}, "sliding_window must be None.*got 64"),
        ({"model_type": "mistral"}, "sliding_window must be None.*got 4096 .the default where"),
        ({"model_type": "llama", "head_dim": None, "hidden_size": 18}, "without head_dim.*18 and"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'.*got 'gelu'"),
        ({"attention_bias": True}, "attention_bias must be False.*got True"),
        ({"use_sliding_window": True}, "use_sliding_window must be False.*got True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"attention_dropout": 0.1}, "attention_dropout must be 0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "RoPE scaling 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "lacks low_freq_factor, high"),
        ({"rope_scaling": LLAMA3 | {"factor": 0.5}}, "factor must be at least 1, got 0.5"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1}}, "high_freq_factor must be above"),
        ({"rope_scaling": LLAMA3}, "rope_parameters and rope_scaling must say the same"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "RoPE scaling 'yarn'"),
        ({"rope_theta": 5.0}, "rope_theta is 5.0 but rope_parameters says 10000.0"),
        ({"rope_theta": "remove", "rope_parameters": "remove"}, "neither rope_theta nor"),
        ({"rope_theta": "1e4", "rope_parameters": "remove"}, "rope_theta must be a number"),
        ({"hidden_size": "remove", "hidden_sizes": 3}, "hidden_size is absent; nearest.*sizes"),
    ],
)
def test_files_that_describe_another_model(tiny_config, changes, match):
    with pytest.raises(ValueError, match=match):
        Qwen3Config.from_dict(as_file(tiny_config, **changes))


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size must be at least 1, got 0"),
        ({"num_key_value_heads": 3}, ValueError, "multiple of num_key_value_heads, got 4 and 3"),
        ({"head_dim": 7}, ValueError, "head_dim must be even.*got 7"),
        ({"rope_theta": float("nan")}, ValueError, "rope_theta must be positive"),
        ({"model_type": "gpt2"}, ValueError, "model_type must be one of .*got 'gpt2'"),
        ({"rope_scaling": LLAMA3}, TypeError, "rope_scaling"),
        ({"hidden_size": True}, TypeError, "hidden_size must be an int, got True"),
    ],
)
def test_impossible_shapes(tiny_config, changes, error, match):
    with pytest.raises(error, match=match):
        dataclasses.replace(tiny_config, **changes)


def test_no_file_or_no_json(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No config\.json"):
        Qwen3Config.from_folder(tmp_path)
    for text, match in (("{", "is not JSON"), ("[1]", "must hold a JSON object, got \\[1\\]")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=match):
            Qwen3Config.from_folder(tmp_path)
