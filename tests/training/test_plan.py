"""What a run will need is told from shapes: against published sizes, and against real arrays."""

import dataclasses
import importlib
import json
import types

import jax
import numpy as np
import pytest
import tyro
from flax import nnx

from pgpo_jax.cli import _plan as command
from pgpo_jax.cli._train import TrainCommand
from pgpo_jax.models import QWEN3_SHAPES, Qwen3, _generate, abstract_params, sample, shardings
from pgpo_jax.training import (
    PRESETS,
    MeshConfig,
    RolloutConfig,
    make_mesh,
    make_trainer,
    shard_rows,
    with_published,
)
from pgpo_jax.training.memory import _abstract, _estimate as _plan, _search as _fit
from pgpo_jax.training.memory._abstract import abstract_experience, abstract_state
from pgpo_jax.training.memory._estimate import (
    memory_plan,
    parse_bytes,
    sampling_plan,
)
from tests.training.conftest import SMALL_QWEN3, config_state, fresh, replaced

PAPER = PRESETS["paper-qwen3-8b"]
# Numbers of parameters as the published checkpoints have them.
PARAMETERS = {
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-8B": 8_190_735_360,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_named_shapes_have_the_published_size(name):
    leaves = jax.tree.leaves(abstract_params(QWEN3_SHAPES[name]))
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[name]


def test_bytes_of_the_papers_run():
    count = PARAMETERS["Qwen3-8B"]
    shape = QWEN3_SHAPES["Qwen3-8B"]
    one = memory_plan(PAPER, shape, compiled=False)
    assert one.resident["trained weights"] == one.resident["teacher"] == 4 * count
    assert 0 <= one.resident["optimizer moments"] - 8 * count < 100
    assert one.update == {"gradients": 4 * count}
    # 36 layers x 8 heads x 128 x (key, value) x 2 bytes a token; a prompt's kept once.
    tokens = 32 * 2048 + 256 * 8192
    assert one.rollout["key-value cache"] == 36 * 8 * 128 * 2 * 2 * tokens
    assert one.rollout["sampler's weights"] == 2 * count
    # The held-out questions are answered 16 times, 32 questions at once: more than in a step.
    assert one.evaluation["key-value cache"] == 36 * 8 * 128 * 2 * 2 * (32 * 2048 + 512 * 8192)
    assert one.peak == sum(one.resident.values()) + sum(one.evaluation.values())
    eight = memory_plan(replaced(PAPER, mesh={"fsdp": 8}), shape, compiled=False)
    # The gains of the norms are held whole.
    assert count / 2 < eight.resident["trained weights"] < count / 2 + 4e6
    assert eight.rollout["key-value cache"] * 8 == one.rollout["key-value cache"]
    # They are gathered for decoding: the whole is held.
    assert eight.rollout["sampler's weights"] == 2 * count
    cut = memory_plan(replaced(PAPER, mesh={"fsdp": 2, "tensor": 4}), shape, compiled=False)
    assert 0.5 * count < cut.rollout["sampler's weights"] < 0.5 * count + 8e6
    thin = memory_plan(replaced(PAPER, lora={"rank": 16}), shape, compiled=False)
    assert thin.resident["frozen weights"] == 2 * count
    factors = (
        36
        * 16
        * sum([4096 + 4096, 2 * (4096 + 1024), 4096 + 4096, 2 * (4096 + 12288), 12288 + 4096])
    )
    assert thin.resident["trained weights"] == 4 * factors
    kernels = count - 2 * 151_936 * 4096 - 4096 - 36 * (2 * 4096 + 2 * 128)
    assert thin.resident["teacher"] == 4 * kernels


@pytest.mark.parametrize("lora", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_planned_state_is_the_real_one(small_model, small_config, lora):
    config = replaced(small_config, mesh=MeshConfig(fsdp=4, tensor=2), lora={"rank": lora})
    mesh = make_mesh(config.mesh)
    params = jax.tree.map(lambda x: x.astype(config.param_dtype), small_model[1])
    placed = jax.device_put(fresh(params), shardings(params, mesh))
    real = config_state(placed, config, mesh=mesh)
    planned = abstract_state(config, SMALL_QWEN3, mesh)
    assert jax.tree.structure(planned) == jax.tree.structure(real)
    for a, b in zip(jax.tree.leaves(planned), jax.tree.leaves(real), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(real))
    told = sum(memory_plan(config, SMALL_QWEN3, compiled=False).resident.values())
    assert told <= held < told + 100  # the counters


@pytest.mark.slow
def test_the_compiled_step_tells_its_work_space(small_config):
    config = replaced(
        small_config,
        loss={"support": "full"},
        rollout={"max_prompt": 32, "max_response": 32},
        teacher={"max_prompt": 32},
        remat=True,
    )
    whole = memory_plan(config, SMALL_QWEN3)
    parts = memory_plan(replaced(config, optimizer={"micro_batch": 1}), SMALL_QWEN3)
    name = "activations and work space"
    assert parts.update[name] < whole.update[name] / 2
    assert whole.peak == sum(whole.resident.values()) + max(
        sum(part.values()) for part in (whole.update, whole.rollout, whole.evaluation)
    )


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 4, 2)])
def test_the_sampler_gathers_as_much_as_is_told(sizes, monkeypatch):
    shape = dataclasses.replace(
        SMALL_QWEN3, hidden_size=128, intermediate_size=512, num_hidden_layers=4
    )
    mesh = make_mesh(MeshConfig(*sizes))
    graphdef, params = nnx.split(Qwen3(shape, rngs=nnx.Rngs(0), mesh=mesh), nnx.Param)
    if mesh is not None:
        params = jax.device_put(params, shardings(params, mesh))
    decode = _generate.decode

    class Told(Exception):
        pass

    def tell(*arguments):
        held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(arguments[5]))
        memory = decode.lower(*arguments).compile().memory_analysis()
        raise Told(held + memory.temp_size_in_bytes)

    monkeypatch.setattr(_generate, "decode", tell)
    prompts = shard_rows(np.ones((8, 4), np.int32), mesh)
    with pytest.raises(Told) as told:
        sample(
            nnx.merge(graphdef, params),
            prompts,
            prompts,
            jax.random.key(0),
            max_new_tokens=8,
            eos_id=0,
            pad_id=0,
        )
    config = replaced(PAPER, mesh=MeshConfig(*sizes), dtype="float32")
    planned = memory_plan(config, shape, compiled=False).rollout["sampler's weights"]
    assert planned < told.value.args[0] < 1.1 * planned


@pytest.mark.slow
def test_what_has_to_change():
    shape = QWEN3_SHAPES["Qwen3-8B"]
    smaller = _fit.changes_to_fit(PAPER, shape, 141 * 10**9)
    assert smaller is not None
    assert _fit.changed_flags(PAPER, smaller) == (
        "--lora.rank 16 --rollout.micro-batch 4 --evaluation.batch 2"
    )
    assert memory_plan(smaller, shape, compiled=False).peak <= 141 * 10**9
    assert _fit.changes_to_fit(PAPER, shape, 1410 * 10**9) == PAPER
    assert _fit.changes_to_fit(PAPER, shape, 10**9) is None
    wide = replaced(PAPER, mesh={"fsdp": 32})
    whole, *steps = _fit.smaller_steps(wide, shape)
    assert whole == wide
    assert [(s.mesh.fsdp, s.mesh.tensor) for s in steps] == [(32, 1), (16, 2), (8, 4), (4, 8)]
    assert _fit.changed_flags(wide, steps[0]) == "--attention chunked --optimizer.micro-batch 32"
    # A mesh leaves the step as it is, LoRA does not.
    narrow = replaced(PAPER, mesh={"fsdp": 32, "tensor": 2})
    trade = _fit.changes_to_fit(narrow, shape, 16 * 10**9)
    assert trade is not None
    assert (
        _fit.changed_flags(narrow, trade) == "--evaluation.batch 16 --mesh.fsdp 16 --mesh.tensor 4"
    )
    # A run without held-out questions has no such need.
    silent = replaced(PAPER, task="physics.json")
    assert memory_plan(silent, shape, compiled=False).evaluation == {}
    without = _fit.changes_to_fit(silent, shape, 141 * 10**9)
    assert without is not None
    assert _fit.changed_flags(silent, without) == "--lora.rank 16 --rollout.micro-batch 4"
    # An odd vocabulary is not cut.
    odd = dataclasses.replace(shape, vocab_size=151_937)
    assert [s.mesh.tensor for s in _fit.smaller_steps(wide, odd)] == [1, 1]
    # One device is not cut further.
    assert [s.optimizer.micro_batch for s in _fit.smaller_steps(PAPER, shape)] == [None, 1]
    # The flags are those of `pgpo train`.
    argv = ["--preset", "paper-qwen3-8b", *_fit.changed_flags(PAPER, smaller).split()]
    parsed = tyro.cli(TrainCommand, args=argv, default=TrainCommand(PAPER))
    assert parsed.config == smaller


def test_a_run_that_cannot_fit_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(_fit, "device_memory", lambda: 10**7)

    def load(*_args, **_kw):
        raise AssertionError("loaded")

    monkeypatch.setattr("pgpo_jax.training.config._train_config.load_policy", load)
    with pytest.raises(ValueError, match=r"at least .* GB of each device, which has 0.01 GB: .*"):
        make_trainer(PRESETS["tiny"])
    # With more memory it gets as far as loading.
    monkeypatch.setattr(_fit, "device_memory", lambda: 10**10)
    with pytest.raises(AssertionError, match="loaded"):
        make_trainer(PRESETS["tiny"])


@pytest.mark.parametrize("name", ["eval", "sample"])
def test_sampling_that_cannot_fit_is_refused_before_anything_is_loaded(name, monkeypatch):
    module = importlib.import_module(f"pgpo_jax.cli._{name}")
    argv = ["--questions", "1", "--samples", "3", "--max-prompt", "1024", "--max-response", "1024"]

    def load(*_args, **_kw):
        raise AssertionError("loaded")

    monkeypatch.setattr(module, "load_policy", load)
    # Weights and the sampler's copy of them are 6 MB, keys and values of a token 1 KB a layer.
    monkeypatch.setattr(_fit, "device_memory", lambda: 8 * 10**6)
    with pytest.raises(ValueError, match=r"which has 0.01 GB: weights always .* key-value cache"):
        module.main(argv)
    # A single answer of a short length needs less.
    short = [*argv[:3], "1", "--max-prompt", "64", "--max-response", "16"]
    with pytest.raises(AssertionError, match="loaded"):
        module.main(short + (["--batch", "1"] if name == "eval" else []))


def test_what_sampling_holds():
    shape, mesh = QWEN3_SHAPES["Qwen3-8B"], MeshConfig()
    rollout = RolloutConfig(questions=2, samples=4, max_prompt=100, max_response=1000)
    plan = sampling_plan(shape, mesh, "bfloat16", rollout)
    weights = 2 * PARAMETERS["Qwen3-8B"]
    assert plan.resident == {"weights": weights}
    assert plan.rollout["sampler's weights"] == weights
    # 36 layers, 8 heads of 128, keys and values of two bytes; a prompt once for its four responses.
    assert plan.rollout["key-value cache"] == 36 * 8 * 128 * 2 * 2 * 2 * (100 + 4 * 1000)
    # Prompts of all questions, and the responses that are decoded at a time.
    for number, lanes in ((3, 3), (8, 8), (100, 8)):
        fewer = sampling_plan(
            shape, mesh, "bfloat16", dataclasses.replace(rollout, max_num_seqs=number)
        )
        tokens = 2 * 100 + lanes * 1000
        assert fewer.rollout["key-value cache"] == 36 * 8 * 128 * 2 * 2 * tokens
    eight = sampling_plan(shape, MeshConfig(fsdp=4, tensor=2), "bfloat16", rollout)
    assert weights / 8 <= eight.resident["weights"] < weights / 8 + 4e6
    with pytest.raises(ValueError, match="divi"):
        sampling_plan(shape, MeshConfig(tensor=16), "bfloat16", rollout)


@pytest.mark.parametrize("variant", ["sd", "fm"])
def test_second_turns_are_counted(variant):
    """A prompt per response, of its own length; and three kinds of rows in the update."""
    shape = QWEN3_SHAPES["Qwen3-8B"]
    config = replaced(with_published(PAPER, "rltf"), rltf={"variant": variant, "max_prompt": 9000})
    plan = memory_plan(config, shape, compiled=False)
    per_token = 36 * 8 * 128 * 2 * 2
    assert plan.second_turn["key-value cache"] == per_token * 256 * (9000 + 8192)
    assert plan.peak == sum(plan.resident.values()) + sum(plan.second_turn.values())
    fewer = replaced(config, rollout={"micro_batch": 4})
    asked = memory_plan(fewer, shape, compiled=False).second_turn
    assert asked["key-value cache"] == per_token * 32 * (9000 + 8192)
    # The control: an objective that does not ask again plans none.
    assert memory_plan(PAPER, shape, compiled=False).second_turn == {}
    shared = replaced(config, rollout={"share_prompts": True})
    batch = abstract_experience(shared, None)
    # 32 first prompts and 256 second ones, and with `fm` 256 more; the next rungs of the ladder.
    assert batch.teacher_prompt.shape == ({"sd": 512, "fm": 768}[variant], 9000)
    assert abstract_experience(replaced(PAPER, rollout={"share_prompts": True}), None)[2].shape == (
        64,
        10240,
    )


def test_explanations_are_counted():
    """A prompt per question, of the teacher's length, and one answer to each."""
    shape = QWEN3_SHAPES["Qwen3-8B"]
    plain = with_published(PAPER, "opsd")
    explained = {"reason_first": True, "max_rationale": 4096, "max_prompt": 9000}
    config = replaced(plain, teacher=explained)
    plan = memory_plan(config, shape, compiled=False)
    per_token = 36 * 8 * 128 * 2 * 2
    assert plan.explanation["key-value cache"] == per_token * 32 * (9000 + 4096)
    assert ["key-value cache", "explanation"] in [row[:2] for row in plan.rows()]
    fewer = memory_plan(replaced(config, rollout={"micro_batch": 8}), shape, compiled=False)
    assert fewer.explanation["key-value cache"] == per_token * 8 * (9000 + 4096)
    # The control: a teacher that does not explain plans none.
    assert memory_plan(plain, shape, compiled=False).explanation == {}


def test_a_server_samples_elsewhere():
    shape = QWEN3_SHAPES["Qwen3-8B"]
    plan = memory_plan(PAPER, shape, compiled=False)
    away = replaced(PAPER, engine={"name": "vllm", "folder": "/shared/weights"})
    assert plan.rollout
    assert memory_plan(away, shape, compiled=False) == plan._replace(rollout={}, evaluation={})


def test_where_a_shape_is_from(tmp_path):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(SMALL_QWEN3.to_dict()))
    assert command.model_shape(str(file)) == SMALL_QWEN3
    assert command.model_shape("Qwen/Qwen3-8B") == QWEN3_SHAPES["Qwen3-8B"]
    assert command.model_shape("tiny").vocab_size == 576
    with pytest.raises(FileNotFoundError, match="'Qwen3-9B' is no folder, no config"):
        command.model_shape("Qwen3-9B")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_plan, "step_workspace", lambda *_: 10**6)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALL_QWEN3.to_dict()))
    flags = ["--model", str(file), "--rollout.questions", "2", "--rollout.samples", "2"]
    flags += ["--rollout.row-buckets", "1", "--rollout.max-response", "16", "--loss.k", "4"]
    flags += ["--rollout.max-prompt", "16", "--teacher.max-prompt", "16"]
    command.main([*flags, "--device-memory", "1GB"])
    out = capsys.readouterr().out
    assert "activations and work space" in out
    assert out.rstrip().endswith("GB to spare")
    calls = []
    done = types.SimpleNamespace(returncode=3)
    monkeypatch.setattr(
        command.subprocess, "run", lambda args, env, check: calls.append((args, env)) or done
    )
    with pytest.raises(SystemExit, match="3"):
        command.main(
            [*flags, "--mesh.tensor", "2", "--mesh.fsdp", "1", "--mesh.data", "1"] * 1
            + ["--rollout.questions", "16", "--mesh.data", "8"]
        )
    assert calls[0][1]["JAX_NUM_CPU_DEVICES"] == "16"


@pytest.mark.parametrize("text", ["80 TB", "80", "GB", "-3GB", "inf GB", "8O GB"])
def test_memory_sizes(text):
    assert parse_bytes("0.5GiB") == 2**29
    with pytest.raises(ValueError, match="a memory size must be like 80GB or 16GiB, got"):
        parse_bytes(text)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_compilers_options_are_those_of_the_meshs_devices(small_config, monkeypatch, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(_plan, "target_platform", lambda mesh: platform)
    asked = []
    figures = types.SimpleNamespace(
        output_size_in_bytes=5, alias_size_in_bytes=3, temp_size_in_bytes=7
    )

    class Program:
        def compile(self, compiler_options):
            asked.append(compiler_options)
            return types.SimpleNamespace(memory_analysis=lambda: figures)

    step = types.SimpleNamespace(lower=lambda *_: Program())
    monkeypatch.setattr(_plan, "abstract_step", lambda *_: (step, None, None))
    assert _plan.step_workspace(small_config, SMALL_QWEN3, None) == 9
    assert [options is None for options in asked] == [platform != "cpu"]


@pytest.mark.parametrize(("platform", "used"), [("gpu", "cudnn"), ("tpu", "chunked")])
def test_flash_attention_is_planned_for_gpus(small_config, monkeypatch, platform, used):
    monkeypatch.setattr(_abstract, "target_platform", lambda mesh: platform)
    asked = []
    real = _abstract.Decoder
    monkeypatch.setattr(
        _abstract, "Decoder", lambda *a, **kw: asked.append(kw["attention"]) or real(*a, **kw)
    )
    config = replaced(small_config, dtype="bfloat16", attention="cudnn")
    _abstract.abstract_step(config, SMALL_QWEN3, None)
    assert asked == [used]


def test_the_largest_step_of_the_tiny_preset_is_small():
    batch = abstract_experience(PRESETS["tiny"], None)
    assert batch.teacher_prompt.shape[1] == 192
    # What it is for: the shipped model's longest teacher prompt, in either case one rung of 96.
    assert PRESETS["tiny"].rollout.smallest_bucket * 2 == 192
