"""The benchmarks for GPUs and TPUs run on any machine, and count what the compiler counts."""

import json
import re

import jax
import pytest
from flax import nnx

from benchmarks import gpu, tpu
from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step
from benchmarks._device import chip_of, parse
from benchmarks._device_work import configuration, decode_bytes
from pgpo_jax.models import Qwen3, Qwen3Config
from pgpo_jax.training.target import CHIPS, step_flops

SMOKE = (
    *("--shape", "smoke", "--rows", "2", "--prompt", "4", "--teacher-prompt", "6"),
    *("--response", "4", "--batch", "2", "--new", "3", "--rounds", "1", "--lora-rank", "2"),
)


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "flags", "rows"),
    [
        (gpu, [*SMOKE, "--peak-flops", "1e3", "--bandwidth", "1e3"], 2),
        (tpu, ["--dry-run"], 2),
    ],
)
def test_it_runs_from_end_to_end(module, flags, rows, tmp_path, capsys):
    file = tmp_path / "device.json"
    module.main([*flags, "--json", str(file)])
    record = json.loads(file.read_text())
    pgpo, sdpo, decoded = record["rows"]
    assert (pgpo["step"], sdpo["step"], decoded["batch"]) == ("pgpo", "sdpo", rows)
    devices = record["mesh"]["fsdp"] * record["mesh"]["tensor"]
    speed = pgpo["tflop"] * 1e12 / pgpo["seconds"] / devices
    assert pgpo["mfu"] == pytest.approx(speed / record["peak_flops"])
    seconds = decoded["ms_per_step"] / 1e3
    roofline = decoded["gb_per_step"] * 1e9 / record["bandwidth"]
    assert decoded["of_roofline"] == pytest.approx(roofline / seconds)
    step, peak, token = record["measured_beside_estimated"]
    assert step["quantity"] == "step, s"
    assert step["ratio"] == pytest.approx(pgpo["seconds"] / step["estimated"])
    # A CPU does not say what it holds; the compiler does say what it will.
    assert peak["measured"] is None
    assert peak["estimated"] > 0
    assert token["estimated"] == pytest.approx(1e3 * roofline)
    assert record["command"].startswith(f"python -m {module.__name__} --")
    assert record["machine"]["jax"] == jax.__version__
    assert re.search(r"pgpo/sdpo: time \d", capsys.readouterr().out)


@pytest.mark.parametrize(("module", "name"), [(gpu, "NVIDIA GPU"), (tpu, "TPU")])
def test_without_such_a_device(module, name):
    rule = f"needs a device of the kind {name}, and JAX found 'cpu': .* try it with --dry-run"
    with pytest.raises(ValueError, match=rule):
        module.main(list(SMOKE))


def test_an_unknown_device_is_asked_about():
    with pytest.raises(ValueError, match="pass --peak-flops and --bandwidth for 'cpu'"):
        gpu.main(list(SMOKE))


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match="The mesh has 128 devices, but there are 8"):
        tpu.main(["--dry-run", "--fsdp", "128"])


class Device:
    platform = "tpu"

    def __init__(self, kind):
        self.device_kind = kind


@pytest.mark.parametrize(
    ("kind", "chip"), [("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v6 lite", "v6e")]
)
def test_chips_by_the_names_of_libtpu(kind, chip, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device(kind)])
    args = parse(tpu.TPU, [])
    assert (args.fsdp, args.attention) == (1, "chunked")
    assert chip_of(tpu.TPU, args) == CHIPS[chip]
    monkeypatch.setattr(jax, "devices", lambda: [Device("TPU v9")])
    with pytest.raises(ValueError, match=r"peaks of a device must be known: .* for 'TPU v9'"):
        chip_of(tpu.TPU, args)


def test_bytes_of_a_decoding_step():
    shape = Qwen3Config(
        vocab_size=100,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        tie_word_embeddings=True,
    )
    # Kernels: 3 layers of 8 x (4 x 4 + 2 x 4) and 3 x 8 x 16; the head; two rows of 10 tokens.
    kernels, head, cache = 3 * (8 * 24 + 3 * 8 * 16), 800, 2 * 10 * 2 * 3 * 4
    whole = decode_bytes(shape, rows=2, prompt=6, generated=4)
    assert whole == 2 * (kernels + head + cache)
    assert decode_bytes(shape, rows=2, prompt=6, generated=4, tensor=2) == whole / 2


def test_the_formula_counts_what_the_compiler_counts():
    """At one layer and one chunk, where the compiler's count of a loop's body is the whole loop."""
    shape = Qwen3Config(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=True,
    )
    lengths = {"rows": 4, "prompt": 9, "teacher_prompt": 17, "response": 16}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in lengths.items()]
    args = parse(gpu.GPU, flags)
    config = configuration(args)
    graphdef, params = nnx.split(
        nnx.eval_shape(lambda: Qwen3(shape, rngs=nnx.Rngs(0), dtype=jax.numpy.bfloat16)), nnx.Param
    )
    state = jax.eval_shape(lambda params: first_state(params, config), params)
    lowered = jitted_step(graphdef, config).lower(state, random_batch(shape.vocab_size, **lengths))
    counted = lowered.cost_analysis()["flops"]
    formula = step_flops(shape, **lengths)
    # Sorting out the likeliest words, softmax and optimizer are not products.
    assert 0.75 < formula / counted < 1.0
