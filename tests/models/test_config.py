import dataclasses
import json

import pytest

from pgpo_jax.models import Qwen3Config


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
    ("changes", "match"),
    [
        ({"model_type": "llama"}, "model_type must be 'qwen3', got 'llama'"),
        ({"model_type": "remove"}, "model_type must be 'qwen3', got None"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'.*got 'gelu'"),
        ({"attention_bias": True}, "attention_bias must be False.*got True"),
        ({"use_sliding_window": True}, "use_sliding_window must be False.*got True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"attention_dropout": 0.1}, "attention_dropout must be 0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "RoPE scaling 'linear'"),
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
