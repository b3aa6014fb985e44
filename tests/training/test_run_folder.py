"""A run folder belongs to one configuration and one process."""

import dataclasses
import json

import pytest

from pgpo_jax.training import (
    PRESETS,
    JSONLinesTracker,
    RolloutConfig,
    TrainConfig,
    from_json,
    read_jsonl,
)
from pgpo_jax.training.run._run_folder import open_run_folder, write_config

TINY = PRESETS["tiny"]


def opened(folder, config, *, resume):
    return open_run_folder(folder, config.to_json(), steps=config.steps, resume=resume)


def test_a_folder_is_claimed_once(tmp_path):
    folder = tmp_path / "run"
    with opened(folder, TINY, resume=False):
        assert json.loads((folder / "config.json").read_text())["optimizer"]["eps"] == 1e-8
    with pytest.raises(FileExistsError, match="holds a run already"):
        opened(folder, TINY, resume=False).__enter__()
    longer = dataclasses.replace(TINY, steps=99)
    with opened(folder, longer, resume=True):
        # Not before the checkpoint has been seen to fit.
        assert from_json(TrainConfig(), json.loads((folder / "config.json").read_text())) == TINY
        write_config(folder, json.loads(json.dumps(longer.to_json())))
    # Continued once more, by its file alone, the run is still the longer one.
    assert from_json(TrainConfig(), json.loads((folder / "config.json").read_text())) == longer


def test_fewer_steps_than_were_made_are_refused_and_the_folder_is_left_as_it_is(tmp_path):
    with opened(tmp_path, TINY, resume=False):
        (tmp_path / "metrics.jsonl").write_text('{"step": 6}\n{"step": 7}\n')
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(ValueError, match=r"steps must be at least the 7 that the run in .*, got 6"):
        opened(tmp_path, dataclasses.replace(TINY, steps=6), resume=True).__enter__()
    assert (tmp_path / "config.json").read_text() == before
    with opened(tmp_path, dataclasses.replace(TINY, steps=7), resume=True):
        pass


def test_a_rate_that_falls_to_the_last_step_fixes_the_steps(tmp_path):
    falling = dataclasses.replace(
        TINY, optimizer=dataclasses.replace(TINY.optimizer, schedule="cosine")
    )
    with opened(tmp_path, falling, resume=False):
        pass
    with pytest.raises(ValueError, match=r"steps was 40, now 99"):
        opened(tmp_path, dataclasses.replace(falling, steps=99), resume=True).__enter__()


def test_another_configuration_is_refused_by_field_and_values(tmp_path):
    with opened(tmp_path, TINY, resume=False):
        pass
    other = dataclasses.replace(TINY, rollout=dataclasses.replace(TINY.rollout, top_p=0.5))
    with pytest.raises(ValueError, match=r"rollout.top_p was 1.0, now 0.5"):
        opened(tmp_path, other, resume=True).__enter__()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        opened(tmp_path / "none", TINY, resume=True).__enter__()
    assert not (tmp_path / "none").exists()


def test_a_second_process_is_refused(tmp_path):
    with (
        opened(tmp_path, TINY, resume=False),
        pytest.raises(RuntimeError, match="in use by another process"),
    ):
        opened(tmp_path, TINY, resume=True).__enter__()


def test_resuming_drops_later_and_torn_lines(tmp_path):
    tracker = JSONLinesTracker(tmp_path)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": step / 3, "bad": float("nan")})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    tracker = JSONLinesTracker(tmp_path, last_step=2)
    tracker.log(3, {"loss": 9.0})
    tracker.close()
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert [row["loss"] for row in rows] == [1 / 3, 2 / 3, 9.0]
    assert rows[0]["bad"] is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("line", ["{torn", "[1]", '{"loss": 1.0}'])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 "):
        read_jsonl(path)
    # The last line alone may be cut off, as a crash leaves it.
    path.write_text(f'{{"step": 1}}\n{line}')
    assert read_jsonl(path) == [{"step": 1}]


def test_buckets_and_padding():
    from pgpo_jax.training.rollout._buckets import bucket, pad

    with pytest.raises(ValueError, match=r"\[0, 64\], got 65"):
        bucket(65, smallest=8, largest=64)
    tokens, mask = pad([[1, 2], [3]], count=3, width=3, fill=9, side="left")
    assert tokens.tolist() == [[9, 1, 2], [9, 9, 3], [9, 9, 9]]
    assert mask.sum(1).tolist() == [2, 1, 0]
    assert RolloutConfig().rows == 256
