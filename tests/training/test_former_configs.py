"""The `config.json` of run folders that former versions wrote."""

import json
from pathlib import Path

import pytest

from pgpo_jax.training import (
    RolloutConfig,
    TrainConfig,
    check_same_config,
    from_json,
    read_config,
)
from pgpo_jax.training.config._description import filled
from pgpo_jax.training.config._json import leaves

TESTS = Path(__file__).parents[1]
FOLDERS = {
    "pgpo": TESTS / "reports" / "data" / "pgpo",
    "sdpo": TESTS / "reports" / "data" / "sdpo",
    "grpo": TESTS / "training" / "data" / "grpo",
}
# What became of the fields of former versions.
RENAMED = {"loss.aggregation": "loss.reduction"}
REPLACED = {"method", "tensorboard"}
CONTROLS = {f"information.{x}" for x in ("rows", "replay", "flip", "half")} | {"teacher.misleading"}


def written(name):
    return json.loads((FOLDERS[name] / "config.json").read_text())


def fields(config):
    return dict(leaves(json.loads(json.dumps(config.to_json()))))


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("pgpo", {"objective": "sdpo", "information.alpha": 1.0}),
        ("sdpo", {"objective": "sdpo", "information.alpha": 0.0}),
        ("grpo", {"objective": "grpo", "trackers": ["tensorboard"]}),
    ],
)
def test_every_field_is_read(name, meaning):
    config = read_config(FOLDERS[name])
    assert config.label == name
    got = fields(config)
    told = {
        RENAMED.get(field, field): value
        for field, value in leaves(written(name))
        if field not in REPLACED | CONTROLS
    }
    told |= meaning
    assert {field: got[field] for field in told} == told
    # What the file lacks is today's default.
    default = fields(TrainConfig())
    assert {k: v for k, v in got.items() if k not in told} == {
        k: v for k, v in default.items() if k not in told
    }
    # Negative control: the file differs from the default in more than its method.
    assert sum(default[field] != value for field, value in told.items()) > 10
    # What is read is written in today's form.
    assert from_json(TrainConfig(), config.to_json()) == config


def test_the_tracker_that_was_switched_off_stays_off():
    assert from_json(TrainConfig(), written("grpo") | {"tensorboard": False}).trackers == ()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("information", "replay", [0.3, -0.2]),
        ("information", "rows", "failures"),
        ("information", "flip", True),
        ("information", "half", "other"),
        ("teacher", "misleading", 0.25),
    ],
)
def test_a_former_control_is_refused_by_name(tmp_path, section, name, value):
    values = written("grpo")
    assert name in values[section]
    values[section][name] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"^{section}\.{name} was .*part of the experiments"):
        read_config(tmp_path)


def test_a_run_that_was_described_by_its_parts_lacks_later_fields(tmp_path):
    """A former version had no `thinking`."""
    now = {"made_by": "Trainer", "seed": 0, "rollout": RolloutConfig(questions=4).__dict__}
    former = {name: value for name, value in now["rollout"].items() if name != "thinking"}
    before = now | {"rollout": former}
    check_same_config(filled(before), now, tmp_path)
    # Negative control: as it was, and with another value.
    with pytest.raises(ValueError, match=r"rollout\.thinking was None, now False"):
        check_same_config(before, now, tmp_path)
    with pytest.raises(ValueError, match=r"rollout\.questions was 5, now 4"):
        check_same_config(filled(before | {"rollout": former | {"questions": 5}}), now, tmp_path)


def test_a_field_that_never_was_is_refused_by_name():
    values = written("pgpo")
    values["loss"]["aggregated"] = "sequence_mean"
    with pytest.raises(ValueError, match=r"no field loss\.aggregated"):
        from_json(TrainConfig(), values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "one"}, r"^steps must be of int, got 'one'"),
        ({"steps": 1.5}, r"^steps must be of int, got 1.5"),
        ({"steps": True}, r"^steps must be of int, got True"),
        ({"steps": None}, r"^steps must not be null"),
        ({"rollout": 3}, r"^rollout must be an object of fields, got 3"),
        ({"selection": {"patience": []}}, r"^selection\.patience must be of int, got \(\)"),
        ({"optimizer": {"micro_batch": 1.5}}, r"^optimizer\.micro_batch must be of int, got 1.5"),
        ({"loss": {"k": "ten"}}, r"^loss\.k must be of int, got 'ten'"),
        ({"lora": {"targets": "q_proj"}}, r"^lora\.targets must be of tuple, got 'q_proj'"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        from_json(TrainConfig(), change)
    # What may be null, and whole numbers for others, are as they were.
    kept = from_json(TrainConfig(), {"loss": {"rollout_clip": None}, "optimizer": {"eps": 1e-7}})
    assert (kept.loss.rollout_clip, kept.optimizer.eps) == (None, 1e-7)
