"""What is wrong is told on one line with exit code 2, whatever raised it."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import pgpo_jax as pgpo
from pgpo_jax.cli import main
from pgpo_jax.errors import PGPOTypeError
from pgpo_jax.models import Qwen3, Qwen3Config, sample
from pgpo_jax.reports import read_run
from pgpo_jax.reports._run_summary import summary
from pgpo_jax.training.rollout._policy import TINY

RUN = Path(__file__).parents[1] / "reports" / "data" / "pgpo"
SHAPE = Qwen3Config(
    vocab_size=8,
    hidden_size=4,
    intermediate_size=4,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=4,
)
CONFIG = json.loads((RUN / "config.json").read_text())


@pytest.fixture
def said(capsys):
    """Runs a command that fails, and gives its one line."""

    def said(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert re.fullmatch(r"pgpo: error: [^\n]+\n", err), err
        assert not out
        return err

    return said


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder)
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must hold a JSON object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"steps": ' + "9" * 5000 + "}", "is not JSON"),
        (json.dumps(CONFIG | {"loss": None}), "loss must be an object of fields, got None"),
        (json.dumps({"method": "sdpo", "information": None}), "information must be an object"),
        (json.dumps(CONFIG | {"steps": "3"}), "steps must be of int, got '3'"),
        (json.dumps(CONFIG | {"seed": 10**400}), "seed must be finite, got 1000"),
        (json.dumps({"optimizer": {"learning_rate": 10**400}}), "learning_rate must be finite"),
        (json.dumps({"optimizer": {"learning_rate": float("nan")}}), "learning_rate must be"),
        (json.dumps({"trackers": [1, {}]}), "each of trackers must be of str, got 1"),
    ],
)
def test_a_damaged_configuration(run, said, text, message):
    (run / "config.json").write_text(text)
    assert message in said("train", "--resume", "--output", run)
    assert message in said("export", run, "--output", run / "out")


def test_a_byte_order_mark_is_no_damage(run, capsys):
    for name in ("config.json", "metrics.jsonl"):
        (run / name).write_text("\ufeff" + (run / name).read_text(), encoding="utf-8")
    assert main(["report", str(run), "--output", str(run / "r.html")]) == 0


@pytest.mark.parametrize("value", ["null", "1e308", "9" * 400, "Infinity", '"x"', "[]", "true"])
def test_a_report_of_any_numbers(run, value, capsys):
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(re.sub(r"\b0\.\d+", value, text))
    assert main(["report", str(RUN), str(run), "--output", str(run / "r.html")]) == 0
    assert "report: " in capsys.readouterr().out


@pytest.mark.parametrize("step", ["-1", "true", "1.5", "9" * 400, str(2**53), "null"])
def test_metrics_without_a_step(run, said, step):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f'{{"step": {step}}}\n')
    assert "must be an object with a step" in said("report", run, "--output", run / "r.html")


def test_no_difference_beside_an_evaluation_without_scores(run):
    # A crash came between the two files.
    lines = (run / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (run / "evaluations.jsonl").write_text("".join(lines[:-1]))
    record = read_run(run)
    row = summary([record])[1][0]
    assert row[2] is not None
    assert row[3] is None
    # The control: with all scores there is one.
    assert summary([read_run(RUN)])[1][0][3] is not None
    # Of no other step, though there are scores of earlier ones.
    assert len(record.scores) > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("eval", "--bogus", "3"), "Unrecognized options: --bogus, 3"),
        (("eval", "--questions", "x"), "Error parsing --questions: invalid literal"),
        (("sample", "--dtype", "float64"), "invalid choice 'float64' for argument '--dtype'"),
        (("export", "stray"), "--output"),
        (("inspect",), "Missing from pgpo inspect: PATH"),
        (("train", "--steps"), "Missing value for argument '--steps'"),
        (("plan", "--mesh.data", "1.5"), "Error parsing --mesh.data"),
        (("demo", "--bogus"), "--bogus"),
        (("convert", "a.gguf", "b", "--bogus"), "--bogus"),
        (("eval", "--seed", "4294967296"), "--seed must be in [0, 2**32), got 4294967296"),
        (("sample", "--seed", "-1"), "--seed must be in [0, 2**32), got -1"),
        (("plan", "--device-memory", "80"), "must be like 80GB or 16GiB, got '80'"),
        (("eval", "--model", "a\0b"), "no argument may hold a NUL"),
        (("report", "a\0b"), "no argument may hold a NUL"),
    ],
)
def test_wrong_flags_are_one_line(said, flags, message):
    assert message in said(*flags)


def test_help_is_whole(capsys):
    with pytest.raises(SystemExit) as end:
        main(["eval", "--help"])
    assert end.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 40


@pytest.fixture
def model(tmp_path):
    """A copy of the shipped model with other fields in a file, or without the file."""

    def model(name, fields):
        shutil.copytree(TINY, tmp_path / "model")
        path = tmp_path / "model" / name
        if fields is None:
            path.unlink()
        else:
            path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return tmp_path / "model"

    return model


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% if %}", "Expected an expression"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        ([{"name": "tool_use", "template": "x"}], "no default specified"),
        (7, "compile"),
    ],
)
def test_templates_that_fail(model, said, template, message):
    folder = model("tokenizer_config.json", {"chat_template": template})
    line = said("sample", "--model", folder, "--samples", "1")
    assert "The chat template refuses a chat of system, user" in line
    assert message in line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights are not read"),
        ({"rope_theta": 10**400, "rope_parameters": None}, "rope_theta must be finite"),
        ({"layer_types": 3}, "layer_types"),
        ({"layer_types": [{}]}, "layer_types"),
    ],
)
def test_models_that_are_not_read(model, said, fields, message):
    folder = model("config.json", fields)
    assert message in said("plan", "--model", folder)
    assert message in said("sample", "--model", folder, "--samples", "1")


def test_an_adapter_is_called_one(model, said):
    folder = model("config.json", None)
    (folder / "adapter_config.json").write_text("{}")
    assert "a PEFT adapter without its model" in said("sample", "--model", folder)


def test_a_name_does_not_reach_the_terminal_as_it_is(tmp_path, capsys):
    folder = tmp_path / "red\x1b[31m"
    shutil.copytree(RUN, folder)
    assert main(["report", str(folder), "--output", str(folder / "r.html")]) == 0
    assert main(["export", str(folder), "--output", str(tmp_path / "o")]) == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert shown.out.count("red\\x1b[31m") >= 2


@pytest.mark.slow
def test_a_reader_that_goes_is_no_error(run):
    command = [sys.executable, "-m", "pgpo_jax", "report", str(run), "--output", str(run / "r")]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


def test_parameters_of_python_floats():
    tx = pgpo.pgpo(optax.sgd(0.1))
    params = {"a": 1.0}
    updates, _ = tx.update({"a": 2.0}, tx.init(params), params, information=0.0)
    assert float(updates["a"]) == pytest.approx(-0.2)


def test_a_key_of_the_old_kind_is_named():
    prompt = jnp.ones((1, 2), jnp.int32)
    ends = {"max_new_tokens": 1, "eos_id": 0, "pad_id": 0}

    model = Qwen3(SHAPE, rngs=nnx.Rngs(0))
    # Past the check of types that the suite makes, as users are.
    bare = inspect.unwrap(sample)
    with pytest.raises(PGPOTypeError, match=r"key must be a key of jax\.random\.key, got Array"):
        bare(model, prompt, prompt, jax.random.PRNGKey(0), **ends)
