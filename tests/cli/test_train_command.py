import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pgpo_jax.cli import _train, main
from pgpo_jax.training import PRESETS, TrainConfig, from_json, model_folder

DATA = Path(__file__).parents[1] / "reports" / "data"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Replaces training by a recorded run, in an empty folder; what was to be trained."""
    seen = []

    def train(config, folder, *, resume=False):
        seen.append((config, folder, resume))
        if not resume:
            shutil.copytree(DATA / ("sdpo" if config.label == "grpo" else config.label), folder)
            (folder / "config.json").write_text(json.dumps(config.to_json()))

    monkeypatch.setattr(_train, "train", train)
    monkeypatch.chdir(tmp_path)
    return seen


def trained(asked, *arguments: str) -> TrainConfig:
    assert main(["train", *arguments]) == 0
    return asked[-1][0]


def test_without_options_the_tiny_preset_runs(asked, capsys):
    assert trained(asked) == PRESETS["tiny"]
    assert asked == [(PRESETS["tiny"], Path("runs/train"), False)]
    assert Path("runs/train/report.html").is_file()
    assert "preset tiny -> runs/train" in capsys.readouterr().out


def test_the_preset_suits_model_and_task(asked):
    on_file = trained(
        asked, "--model", model_folder("tiny"), "--task", "x/train.json", "--output", "a"
    )
    assert on_file.rollout.max_prompt == 2048
    assert on_file.dtype == "float32"
    assert trained(asked, "--model", "Qwen/Qwen3-8B", "--output", "b").rollout.questions == 32
    paper = trained(asked, "--preset", "paper-qwen3-8b", "--output", "c")
    assert paper == PRESETS["paper-qwen3-8b"]


def test_every_field_can_be_changed(asked):
    config = trained(
        asked,
        *("--objective", "grpo", "--steps", "3", "--seed", "5", "--teacher.no-exclude-self"),
        *("--rollout.max-prompt", "99", "--teacher.max-prompt=100", "--loss.rollout_clip", "None"),
        *("--information.estimator", "kl", "--optimizer.learning-rate", "1e-3"),
        *(
            "--grader",
            "numeric",
            "--grader.relative-tolerance",
            "0.01",
            "--columns.question",
            "ask",
        ),
        *("--optimizer.name", "sgd", "--optimizer.arguments", "momentum=0.9", "--trackers"),
        *("--evaluation.questions", "7", "--mesh.data", "2", "--eval-task", "synthetic:physics"),
    )
    assert (config.objective, config.steps, config.seed) == ("grpo", 3, 5)
    assert config.grader.name == "numeric"
    assert config.grader.relative_tolerance == 0.01
    assert config.columns.question == "ask"
    assert (config.optimizer.name, config.optimizer.arguments) == ("sgd", ("momentum=0.9",))
    assert config.trackers == ()
    assert (config.rollout.max_prompt, config.teacher.max_prompt) == (99, 100)
    assert config.loss.rollout_clip is None
    assert not config.teacher.exclude_self
    assert config.information.estimator == "kl"
    assert config.optimizer.learning_rate == 1e-3
    assert (config.evaluation.questions, config.mesh.data) == (7, 2)
    assert config.rollout.questions == PRESETS["tiny"].rollout.questions


def test_the_multiplier_of_the_brake(asked, capsys):
    config = trained(asked, "--information-preset", "brake", "--output", "a")
    assert (config.information.alpha, config.information.rho_max) == (30.0, 1.0)
    assert "preset tiny with the multiplier brake -> a" in capsys.readouterr().out
    # Flags of the section come after it, and nothing else changes.
    flags = ["--information-preset=brake", "--information.alpha", "9", "--output", "b"]
    changed = trained(asked, *flags)
    assert (changed.information.alpha, changed.information.rho_max) == (9.0, 1.0)
    rest = dataclasses.replace(changed, information=PRESETS["tiny"].information)
    assert rest == PRESETS["tiny"]
    # The objective is that of the flag, and not of the preset.
    taught = ["--preset", "sft", "--objective", "sdpo", "--rollout.samples", "2"]
    other = trained(asked, *taught, "--information-preset", "brake", "--output", "c")
    assert (other.objective, other.alpha) == ("sdpo", 30.0)
    # A run goes on with it.
    again = trained(asked, "--information-preset", "brake", "--output", "a", "--resume")
    assert again == config


def test_resume_alone_continues_as_configured(asked):
    before = trained(asked, "--output", "run", "--seed", "9", "--loss.k", "7")
    after = trained(asked, "--output", "run", "--resume", "--steps", "60")
    assert asked[-1][2]
    assert after.steps == 60
    assert (after.seed, after.loss.k) == (9, 7)
    assert before != PRESETS["tiny"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--preset", "huge"), "'huge'"),
        (
            ("--information-preset", "break"),
            "information-preset must be one of brake, budget, got 'break'",
        ),
        (
            ("--objective", "grpo", "--information-preset", "brake"),
            "objective must have a multiplier with information-preset 'brake', got 'grpo'",
        ),
        (
            ("--objective", "rltf", "--information-preset", "brake"),
            "objective must have a multiplier with information-preset 'brake', got 'rltf'",
        ),
        (
            ("--objective", "dpo"),
            "objective must be one of sdpo, grpo, sft, opd, reopold, opsd, sdft, rlsd, rlcsd, "
            "srpo, opcd, drift, rltf or FILE.py:NAME, got 'dpo'",
        ),
        (("--steps", "0"), "TrainConfig.steps must be positive, got 0"),
        (("--resume", "--output", "absent"), "nothing to resume: there is no run in absent"),
    ],
)
def test_bad_requests_are_one_line(asked, capsys, arguments, named):
    assert main(["train", *arguments]) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count("\n") == 1
    assert not asked


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rollout.top-p", "2"), "RolloutConfig.top_p must be in (0, 1], got 2.0"),
        (("--method", "sdpo"), "--method"),
        (("--rollout.maximum", "2"), "--rollout.maximum"),
    ],
)
def test_bad_options_are_one_line(asked, capsys, arguments, named):
    assert main(["train", *arguments]) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count("\n") == 1
    assert not asked


def test_help_shows_the_defaults_of_the_preset(asked, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = {}
    for preset in ("tiny", "paper-qwen3-8b"):
        with pytest.raises(SystemExit) as end:
            main(["train", "--preset", preset, "--help"])
        assert end.value.code == 0
        shown[preset] = capsys.readouterr().out
    assert "--rollout.max-response" in shown["tiny"]
    assert "(default: 8192)" in shown["paper-qwen3-8b"]
    assert "(default: 8192)" not in shown["tiny"]


def test_a_configuration_survives_its_file():
    for config in PRESETS.values():
        assert from_json(TrainConfig(), json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match=r"no field loss\.kk"):
        from_json(TrainConfig(), {"loss": {"kk": 1}})
