import json
import os
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from pgpo_jax.models import (
    Qwen3Config,
    init_lora,
    load_pretrained,
    save_pretrained,
    with_lora,
)
from pgpo_jax.models._load import INDEX, WEIGHTS


@pytest.fixture
def folder(tiny_model, tmp_path):
    save_pretrained(tiny_model, tmp_path / "model")
    return tmp_path / "model"


def same(one, two):
    (a, b) = (nnx.split(model, nnx.Param)[1] for model in (one, two))
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        bool(jnp.array_equal(x, y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_round_trip_in_one_file_or_many(tiny_model, folder):
    assert same(load_pretrained(folder), tiny_model)
    assert {p.name for p in folder.iterdir()} == {"config.json", WEIGHTS}
    others = {"tokenizer.json", "model.safetensors.bak", "model-adapter.safetensors"}
    for name in others:
        (folder / name).write_text("{}")
    save_pretrained(tiny_model, folder, max_shard_bytes=4000)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert not (folder / WEIGHTS).exists()
    assert all(path.stat().st_size < 4000 + 2000 for path in shards)
    assert same(load_pretrained(folder), tiny_model)
    save_pretrained(tiny_model, folder)
    assert {p.name for p in folder.iterdir()} == {"config.json", WEIGHTS, *others}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_files_and_narrow_weights(tiny_model, tmp_path, dtype):
    save_pretrained(tiny_model, tmp_path, dtype=dtype)
    stored = load_file(tmp_path / WEIGHTS)
    assert {array.dtype for array in stored.values()} == {np.dtype(dtype)}
    wide = load_pretrained(tmp_path)
    assert wide.embedding.dtype == jnp.float32
    expected = tiny_model.embedding[...].astype(dtype).astype(jnp.float32)
    np.testing.assert_array_equal(wide.embedding[...], expected)
    narrow = load_pretrained(tmp_path, param_dtype=dtype)
    assert narrow.embedding.dtype == narrow.dtype == dtype


@pytest.mark.parametrize("held", [jnp.float32, jnp.bfloat16])
def test_a_weight_too_large_for_the_files_dtype_is_refused(build, tiny_config, tmp_path, held):
    model = build(tiny_config, param_dtype=held)
    save_pretrained(model, tmp_path)
    model.layers.up_proj[...] = model.layers.up_proj[...].at[1, 2, 3].set(1e5)
    with pytest.raises(ValueError, match=r"float16 cannot hold .* of model.layers.1.mlp.up_proj"):
        save_pretrained(model, tmp_path, dtype=jnp.float16)
    # What lay there before is whole.
    assert not same(load_pretrained(tmp_path, param_dtype=held), model)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", WEIGHTS}
    save_pretrained(model, tmp_path, dtype=jnp.bfloat16)


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def rename(old, new):
    def change(tensors):
        tensors[new] = tensors.pop(old)

    return change


def put(name, make):
    def change(tensors):
        tensors[name] = make(tensors.get(name))

    return change


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop(Q), rf"missing {Q} \(nearest: "),
        (
            rename(Q, "layers.1.self_attn.q_proj.weight"),
            rf"missing {Q} \(nearest: layers.1.self_attn.q_proj.weight\).*unexpected layers.1",
        ),
        (put(Q, lambda x: x.T[:5].copy()), rf"{Q} has shape \(5, 32\), config.json asks \(32, 16"),
        (put(Q, lambda x: x.astype(np.float64)), rf"{Q} has dtype F64, not one of"),
        (put("model.layers.9.bias", lambda _: np.zeros(3)), "unexpected model.layers.9.bias"),
        (put("lm_head.weight", lambda _: np.zeros((32, 16))), "lm_head.weight differs from"),
    ],
)
def test_tensors_that_do_not_fit(folder, change, match):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=match):
        load_pretrained(folder)


def test_a_tied_head_may_be_repeated(tiny_model, folder):
    rewrite(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    assert same(load_pretrained(folder), tiny_model)


def test_truncated_or_absent_files(tiny_model, folder, tmp_path):
    whole = (folder / WEIGHTS).read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors is truncated or not"):
            load_pretrained(folder)
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"holds pytorch_model\.bin.*Pickled"):
        load_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="No model folder"):
        load_pretrained(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(FileNotFoundError, match=r"No config\.json"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.norm.weight", Q])
def test_weights_that_are_not_finite_are_named(tiny_model, folder, name, value):
    tensors = load_file(folder / WEIGHTS)
    tensors[name].flat[-1] = value
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=rf"^{re.escape(name)} in .* has NaN or infinity"):
        load_pretrained(folder)
    # Negative control: the largest number there is loads, unless a narrower type cannot hold it.
    tensors[name].flat[-1] = np.finfo(np.float32).max
    save_file(tensors, folder / WEIGHTS)
    load_pretrained(folder)
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=rf"^{re.escape(name)} .* read as float16"),
    ):
        load_pretrained(folder, param_dtype=jnp.float16)


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("../x.safetensors", "outside the folder"),
        ("/etc/x.safetensors", "outside the folder"),
        ("a\\..\\..\\x.safetensors", "outside the folder"),
        ("C:\\x.safetensors", "outside the folder"),
        ("weights.bin", "not a .safetensors file"),
        (7, "not an index of safetensors"),
    ],
)
def test_an_index_that_points_elsewhere(tiny_model, folder, file, match):
    save_pretrained(tiny_model, folder, max_shard_bytes=4000)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][Q] = file
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=match):
        load_pretrained(folder)


def test_an_index_that_is_wrong(tiny_model, folder):
    save_pretrained(tiny_model, folder, max_shard_bytes=4000)
    text = (folder / INDEX).read_text()
    index = json.loads(text)
    index["weight_map"]["more"] = index["weight_map"][Q]
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"its files lack: more \(model-"):
        load_pretrained(folder)
    (folder / INDEX).write_text("[")
    with pytest.raises(ValueError, match="not an index"):
        load_pretrained(folder)
    (folder / INDEX).write_text(text)
    (folder / index["weight_map"][Q]).unlink()
    with pytest.raises(FileNotFoundError, match=r"lists model-.*which is not in"):
        load_pretrained(folder)


def test_a_tensor_that_is_in_two_files(tiny_model, folder):
    save_pretrained(tiny_model, folder, max_shard_bytes=4000)
    files = json.loads((folder / INDEX).read_text())["weight_map"]
    last = max(files.values())
    assert files[Q] != last
    save_file(load_file(folder / last) | {Q: np.zeros((32, 16), np.float32)}, folder / last)
    with pytest.raises(ValueError, match=rf"two files: {Q} \({files[Q]}, {last}\)"):
        load_pretrained(folder)


@pytest.mark.parametrize("max_shard_bytes", [4000, 10**9])
def test_a_save_that_fails_leaves_the_old_model(
    build, tiny_model, tiny_config, folder, monkeypatch, max_shard_bytes
):
    import pgpo_jax.models._save as module

    real, calls = save_file, []

    def full(tensors, path, **kw):
        calls.append(path)
        if len(calls) == 1 and max_shard_bytes == 4000:
            return real(tensors, path, **kw)
        path.write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    graphdef, params = nnx.split(tiny_model, nnx.Param)
    other = nnx.merge(graphdef, jax.tree.map(lambda x: x + 1, params))
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(other, folder, max_shard_bytes=max_shard_bytes)
    assert sorted(os.listdir(folder)) == ["config.json", WEIGHTS]
    assert same(load_pretrained(folder), tiny_model)


def test_bad_save_settings(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"dtype must be one of.*got int8"):
        save_pretrained(tiny_model, tmp_path, dtype=jnp.int8)
    with pytest.raises(ValueError, match="max_shard_bytes must be at least 1, got 0"):
        save_pretrained(tiny_model, tmp_path, max_shard_bytes=0)
    graphdef, params = nnx.split(tiny_model, nnx.Param)
    factors = init_lora(params, 2, ["up_proj"], key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"layers\.up_proj is a kernel with something added"):
        save_pretrained(nnx.merge(graphdef, with_lora(params, factors, 1.0)), tmp_path)


def test_a_hub_id_offline_says_what_was_tried(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(name, **kw):
        assert name == "Qwen/Qwen3-0.6B"
        raise LocalEntryNotFoundError("Cannot reach the Hub.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"No folder .Qwen/Qwen3-0\.6B. here, and fetching"):
        load_pretrained("Qwen/Qwen3-0.6B")


def test_a_hub_id_is_fetched(monkeypatch, tiny_model, folder, tmp_path):
    import huggingface_hub

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **kw: str(folder))
    assert same(load_pretrained("owner/model"), tiny_model)


def test_config_says_the_stored_dtype(tiny_model, tiny_config, tmp_path):
    save_pretrained(tiny_model, tmp_path, dtype=ml_dtypes.bfloat16)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert Qwen3Config.from_folder(tmp_path) == tiny_config
