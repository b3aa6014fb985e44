"""Against Hugging Face's own models (tests/models/make_golden.py)."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.models import Qwen3, load_pretrained, sample

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def logits_error(model, golden):
    logits = nnx.jit(lambda m, t, k: m(t, k))(model, golden["tokens"], golden["mask"])
    return np.abs(np.asarray(logits) - golden["logits"])[golden["mask"]].max()


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize(
    "case",
    [
        case if case == "theta1e6_untied" else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
)
def test_logits_and_greedy_tokens_are_those_of_hugging_face(case):
    model = load_pretrained(GOLDEN / case)
    golden = np.load(GOLDEN / case / "golden.npz")
    assert logits_error(model, golden) <= 2e-5
    absent = (set(range(model.config.vocab_size)) - set(golden["greedy"].flat)).pop()
    out = sample(
        model,
        golden["tokens"],
        golden["mask"],
        jax.random.key(0),
        max_new_tokens=golden["greedy"].shape[1],
        temperature=0.0,
        eos_id=absent,
        pad_id=0,
    )
    np.testing.assert_array_equal(out.tokens, golden["greedy"])
    # The control: the prompt decides, so the check would notice another model.
    assert len(np.unique(golden["greedy"], axis=0)) == len(golden["greedy"])


def other_biases(model):
    model.layers.k_bias[...] = model.layers.k_bias[...] + 0.5
    return model


@pytest.mark.parametrize(
    ("case", "spoil"),
    [
        ("llama_tied", lambda model: with_config(model, rope_theta=1e6)),
        ("llama3_rope_untied", lambda model: with_config(model, rope_scaling=None)),
        # A bias of the keys turns with the position; without rotation the softmax would not see it.
        ("qwen2_biases", other_biases),
        ("mistral_wide_heads", lambda model: with_config(model, rms_norm_eps=1e-2)),
    ],
)
def test_the_logits_of_each_family_are_those_of_hugging_face(case, spoil):
    golden = np.load(GOLDEN / case / "golden.npz")
    model = load_pretrained(GOLDEN / case)
    assert logits_error(model, golden) <= 2e-5
    assert logits_error(spoil(model), golden) > 1e-3


def with_config(model, **changes):
    params = nnx.split(model, nnx.Param)[1]
    config = dataclasses.replace(model.config, **changes)
    other = nnx.eval_shape(lambda: Qwen3(config, rngs=nnx.Rngs(0)))
    return nnx.merge(nnx.split(other, nnx.Param)[0], params)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 1e5},
        pytest.param({"rms_norm_eps": 1e-2}, marks=pytest.mark.slow),
    ],
)
def test_a_wrong_constant_fails_the_golden_check(changes):
    case = "theta1e6_untied"
    model = load_pretrained(GOLDEN / case)
    golden = np.load(GOLDEN / case / "golden.npz")
    assert logits_error(with_config(model), golden) <= 2e-5
    assert logits_error(with_config(model, **changes), golden) > 1e-3


def test_a_wrong_theta_in_config_json_fails_too(tmp_path):
    for style, key in (("theta1e6_tied_mha", "rope_theta"), ("theta1e4_tied", "rope_parameters")):
        folder = tmp_path / style
        shutil.copytree(GOLDEN / style, folder)
        values = json.loads((folder / "config.json").read_text())
        if key == "rope_theta":
            values[key] = 5e3
        else:
            values[key]["rope_theta"] = 5e3
        (folder / "config.json").write_text(json.dumps(values))
        golden = np.load(folder / "golden.npz")
        assert logits_error(load_pretrained(folder), golden) > 1e-3


@pytest.mark.slow
@pytest.mark.optimized
def test_bfloat16_computes_close_to_float32_from_the_same_weights():
    case = GOLDEN / "theta1e6_untied"
    golden = np.load(case / "golden.npz")
    model = load_pretrained(case, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.split(model, nnx.Param)[1])} == {
        jnp.dtype("float32")
    }
    assert model.hidden_states(golden["tokens"], golden["mask"]).dtype == jnp.bfloat16
    error = logits_error(model, golden)
    assert 1e-4 < error < 0.3
