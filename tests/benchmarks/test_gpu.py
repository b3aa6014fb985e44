"""The benchmark for a GPU runs on any machine, and counts what the compiler counts."""

import json
import re

import jax
import pytest
from flax import nnx

from benchmarks import gpu
from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step
from pgpo_jax.models import Qwen3, Qwen3Config

SMOKE = (
    *("--shape", "smoke", "--rows", "2", "--prompt", "4", "--teacher-prompt", "6"),
    *("--response", "4", "--batch", "2", "--new", "3", "--rounds", "1", "--lora-rank", "2"),
)


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.slow
def test_it_runs_from_end_to_end(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    gpu.main([*SMOKE, "--peak-flops", "1e3", "--bandwidth", "1e3", "--json", str(file)])
    record = json.loads(file.read_text())
    pgpo, sdpo, decoded = record["rows"]
    assert (pgpo["step"], sdpo["step"], decoded["batch"]) == ("pgpo", "sdpo", 2)
    assert pgpo["mfu"] == pytest.approx(1e9 * pgpo["tflop"] / pgpo["seconds"])
    seconds = decoded["ms_per_step"] / 1e3
    assert decoded["of_roofline"] == pytest.approx(decoded["gb_per_step"] * 1e6 / seconds)
    assert record["command"].startswith("python -m benchmarks.gpu --shape smoke")
    assert record["machine"]["jax"] == jax.__version__
    assert re.search(r"pgpo/sdpo: time \d", capsys.readouterr().out)


def test_an_unknown_device_is_asked_about():
    with pytest.raises(ValueError, match="pass --peak-flops and --bandwidth for 'cpu'"):
        gpu.main(list(SMOKE))


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
    args = gpu.parse(flags)
    config = gpu.configuration(args)
    graphdef, params = nnx.split(
        nnx.eval_shape(lambda: Qwen3(shape, rngs=nnx.Rngs(0), dtype=jax.numpy.bfloat16)), nnx.Param
    )
    state = jax.eval_shape(lambda params: first_state(params, config), params)
    lowered = jitted_step(graphdef, config).lower(state, random_batch(shape.vocab_size, **lengths))
    counted = lowered.cost_analysis()["flops"]
    formula = gpu.step_flops(shape, **lengths)
    # Sorting out the likeliest words, softmax and optimizer are not products.
    assert 0.75 < formula / counted < 1.0
