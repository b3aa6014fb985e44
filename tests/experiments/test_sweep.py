"""Sweeps: order, dependence, interruption, several processes, refusals."""

import dataclasses
import doctest
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.sweeps import TRAINING, Arm, Sweep, _former, _sweep, changed
from pgpo_jax.training import TrainConfig


@dataclass(frozen=True)
class Config:
    rate: float = 1e-3
    seeds: int = 2
    training: TrainConfig = TRAINING["smoke"]


def arms(config):
    def base(seed, finished):
        return changed(config.training, seed=seed)

    def follower(seed, finished):
        accuracy = finished("base", 1 - seed).accuracies()[-1][1].value
        return changed(
            config.training, seed=seed, optimizer={"learning_rate": config.rate * (1 + accuracy)}
        )

    return [
        Arm("base", base),
        Arm("follower", follower, lambda seed: [("base", 1 - seed)]),
    ]


def sweep(folder, config=None, **kw):
    config = config or Config()
    return Sweep(folder, arms, config, config.seeds, ("seeds",), **kw)


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training: writes what a run would, and keeps a list of what was run."""
    log = []

    def train(config, folder):
        log.append((Path(folder).parent.name, config.seed))
        write_run(config, Path(folder))

    monkeypatch.setattr(_sweep, "train", train)
    return log


def write_run(config, folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    accuracy = 0.5 + config.seed / 10
    metrics = {"step": 1, "eval/accuracy": accuracy, "eval/standard_error": 0.0}
    (folder / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    scores = {"step": 1, "scores": {"a": accuracy, "b": accuracy}}
    (folder / "evaluations.jsonl").write_text(json.dumps(scores) + "\n")


def test_runs_wait_for_what_they_need_and_keep_the_order_of_seeds(tmp_path, trained):
    done = sweep(tmp_path)
    done.run()
    assert trained == [("base", 0), ("base", 1), ("follower", 0), ("follower", 1)]
    assert done.complete_seeds() == [0, 1]
    config = json.loads((done.run_folder("follower", 0) / "config.json").read_text())
    assert config["optimizer"]["learning_rate"] == pytest.approx(1.6e-3)


def test_an_interrupted_sweep_repeats_nothing_that_is_finished(tmp_path, trained, monkeypatch):
    faithful = _sweep.train

    def killed(config, folder):
        if len(trained) == 2:
            Path(folder).mkdir(parents=True)
            (Path(folder) / "metrics.jsonl").write_text("half a li")
            raise KeyboardInterrupt
        faithful(config, folder)

    monkeypatch.setattr(_sweep, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path).run()
    assert sweep(tmp_path).complete_seeds() == []
    monkeypatch.setattr(_sweep, "train", faithful)
    sweep(tmp_path).run()
    assert trained == [("base", 0), ("base", 1), ("follower", 0), ("follower", 1)]
    assert sweep(tmp_path).complete_seeds() == [0, 1]


def test_fresh_seeds_of_the_same_sweep(tmp_path, trained):
    sweep(tmp_path).run()
    trained.clear()
    fresh = sweep(tmp_path, Config(seeds=2), first_seed=1)
    assert fresh.complete_seeds() == [1]
    with pytest.raises(ValueError, match="first seed must be at least 0, got -1"):
        sweep(tmp_path, first_seed=-1)
    solo = Sweep(tmp_path, lambda config: arms(config)[:1], Config(), 2, ("seeds",), 1)
    solo.run()
    assert trained == [("base", 2)]
    assert solo.complete_seeds() == [1, 2]


def test_a_run_that_diverges_is_a_finding(tmp_path, trained, monkeypatch):
    faithful = _sweep.train

    def diverging(config, folder):
        faithful(config, folder)
        if config.seed == 1:
            raise FloatingPointError("the gradient was not finite")

    monkeypatch.setattr(_sweep, "train", diverging)
    sweep(tmp_path).run()
    done = json.loads((sweep(tmp_path).run_folder("base", 1) / "done.json").read_text())
    assert done["failure"] == "the gradient was not finite"


def test_another_configuration_is_refused_by_name(tmp_path, trained):
    sweep(tmp_path).run()
    with pytest.raises(ValueError, match=r"another configuration: rate was 0.001, now 0.002"):
        sweep(tmp_path, Config(rate=2e-3)).run()
    # More seeds are the same sweep, longer.
    trained.clear()
    sweep(tmp_path, Config(seeds=2)).run()
    assert trained == []


def test_a_field_that_came_later_has_its_default(tmp_path, trained):
    sweep(tmp_path).run()
    path = tmp_path / "config.json"
    kept = json.loads(path.read_text())
    del kept["rate"], kept["training"]["loss"]["weight"]
    path.write_text(json.dumps(kept))
    trained.clear()
    sweep(tmp_path).run()
    assert trained == []
    path.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"another configuration: rate was 0.001, now 0.002"):
        sweep(tmp_path, Config(rate=2e-3)).run()
    loss = dataclasses.replace(Config().training.loss, weight="position")
    other = Config(training=dataclasses.replace(Config().training, loss=loss))
    with pytest.raises(ValueError, match=r"training.loss.weight was 'none', now 'position'"):
        sweep(tmp_path, other).run()


def test_examples():
    results = doctest.testmod(_former)
    assert results.attempted > 0
    assert results.failed == 0


def test_bad_sweeps_are_refused(tmp_path, trained):
    with pytest.raises(ValueError, match="at least 1 seed, got 0"):
        sweep(tmp_path, Config(seeds=0))
    alone = Sweep(tmp_path, lambda config: arms(config)[1:], Config(), 2)
    with pytest.raises(ValueError, match=r"follower at seed 0 needs \('base', 1\), which no one"):
        alone.run()
    with pytest.raises(ValueError, match=r"jobs must be in \[1, 512\], got 0"):
        sweep(tmp_path).run(jobs=0)
    with pytest.raises(ValueError, match="arms of different names"):
        Sweep(tmp_path, lambda config: arms(config) * 2, Config(), 2)
    # None of them took the folder, so that the request as it was meant can have it.
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_is_refused_costs_no_run(tmp_path, trained):
    def second_is_bad(config):
        return [
            arms(config)[0],
            Arm("bad", lambda seed, finished: changed(config.training, steps=0)),
        ]

    with pytest.raises(ValueError, match="steps must be positive, got 0"):
        Sweep(tmp_path, second_is_bad, Config(), 2).run()
    assert trained == []
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_seed_that_is_needed_is_made(tmp_path, trained):
    short = sweep(tmp_path, Config(seeds=1))
    short.run()
    assert trained == [("base", 0), ("base", 1), ("follower", 0)]
    # It is no seed of this sweep.
    assert short.complete_seeds() == [0]


CHILD = """
    import sys, time
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from experiments.sweeps import _sweep
    from tests.experiments.test_sweep import sweep, write_run
    def train(config, folder):
        with open({log!r}, "a") as log:
            log.write(f"{{Path(folder).parent.name}} {{config.seed}}\\n")
        time.sleep(0.2)
        write_run(config, Path(folder))
    _sweep.train = train
    sweep(Path({folder!r})).run()
"""


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path):
    root = str(Path(__file__).resolve().parents[2])
    code = textwrap.dedent(CHILD).format(
        root=root, folder=str(tmp_path / "sweep"), log=str(tmp_path / "log")
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert sorted((tmp_path / "log").read_text().split("\n")[:-1]) == [
        "base 0",
        "base 1",
        "follower 0",
        "follower 1",
    ]
