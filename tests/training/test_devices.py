"""Meshes and processes: what is held where, what moves between them, and who writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from pgpo_jax.cli import main
from pgpo_jax.models import shardings
from pgpo_jax.training import (
    PRESETS,
    Checkpoints,
    DistributedConfig,
    MeshConfig,
    connect,
    fetch_rows,
    load_policy,
    make_mesh,
    process_local_rows,
    read_jsonl,
    shard_rows,
    train,
)
from pgpo_jax.training.memory._search import changed_flags
from tests.training.conftest import REMATERIALISED, config_state, replaced


def placed_state(model, config, sizes, *, scale=1.0):
    """A state on a mesh (all sizes 1: on one device); moments that are not zero."""
    mesh = make_mesh(MeshConfig(*sizes))
    params = jax.tree.map(lambda x: x * scale, model[1])
    if mesh is not None:
        params = jax.device_put(params, shardings(params, mesh))
    state = config_state(params, config, mesh=mesh)
    moments = jax.tree.map(lambda x: x + jnp.asarray(scale, x.dtype), state.opt_state)
    return state._replace(opt_state=moments, step=state.step + 3)


@pytest.mark.slow
def test_checkpoints_move_between_meshes(small_model, small_config, tmp_path):
    places = [(1, 4, 2), (1, 1, 1), (8, 1, 1), (1, 4, 2)]
    original = placed_state(small_model, small_config, places[0], scale=1.5)
    state = original
    for i, sizes in enumerate(places[1:]):
        with Checkpoints(tmp_path / str(i)) as checkpoints:
            checkpoints.save(state)
            template = placed_state(small_model, small_config, sizes)
            state = checkpoints.restore(template)
        for saved, read, wanted in zip(
            *map(jax.tree.leaves, (original, state, template)), strict=True
        ):
            assert read.sharding == wanted.sharding
            assert read.dtype == saved.dtype
            np.testing.assert_array_equal(read, saved)
    # Negative control: what was there before reading is something else.
    assert not np.array_equal(template.params["embedding"][...], state.params["embedding"][...])


@pytest.mark.slow
def test_another_model_is_refused_on_any_mesh(small_model, small_config, tmp_path):
    state = placed_state(small_model, small_config, (1, 4, 2))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        wider = jax.tree.map(lambda x: x, state.params)
        wider["embedding"] = wider["embedding"].replace(jnp.zeros((64, 16)))
        difference = r"checkpoint 3 .*: params/embedding/value is \(\(32, 16\).*\(64, 16\)"
        with pytest.raises(ValueError, match=difference):
            checkpoints.restore(state._replace(params=wider))


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 1, 8), (8, 1, 1)])
def test_rows_go_out_and_come_back(sizes):
    mesh = make_mesh(MeshConfig(*sizes))
    rows = np.arange(48).reshape(16, 3)
    spread = shard_rows({"rows": rows}, mesh)["rows"]
    assert spread.sharding.spec == P(("data", "fsdp"))
    np.testing.assert_array_equal(spread, rows)
    np.testing.assert_array_equal(fetch_rows(spread), rows)
    np.testing.assert_array_equal(process_local_rows(16, mesh), np.arange(16))


def test_rows_that_cannot_be_spread():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    for attempt in (
        lambda: process_local_rows(6, mesh),
        lambda: shard_rows(np.zeros((6, 2)), mesh),
    ):
        with pytest.raises(ValueError, match=r"6 rows cannot be spread over data \* fsdp = 4"):
            attempt()


@pytest.mark.skipif(
    tuple(map(int, jax.__version__.split(".")[:2])) >= (0, 12),
    reason="the XLA of jax 0.12 logs nothing for this program",
)
def test_the_log_does_tell_of_rematerialisation(capfd):
    # The negative control of every test that finds the log silent.
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))

    def look_up(table, tokens):
        rows = NamedSharding(mesh, P(("data", "fsdp"), None, None))
        return jax.lax.with_sharding_constraint(table[tokens], rows)

    table = jax.device_put(jnp.ones((32, 16)), NamedSharding(mesh, P("tensor", "fsdp")))
    tokens = jax.device_put(jnp.zeros((8, 6), jnp.int32), NamedSharding(mesh, P(("data", "fsdp"))))
    jax.jit(look_up).lower(table, tokens).compile()
    assert REMATERIALISED in capfd.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"coordinator": "host:1", "num_processes": 2}, r"process_id is missing .*JAX_PROCESS_ID"),
        ({"process_id": 0}, "coordinator is missing"),
        ({"coordinator": "host", "num_processes": 2, "process_id": 0}, "HOST:PORT, got 'host'"),
        ({"coordinator": "a:1", "num_processes": 2, "process_id": 2}, r"\[0, .* = 2\), got 2"),
        ({"coordinator": "a:1", "num_processes": 0, "process_id": 0}, r"\[0, .* = 0\), got 0"),
        ({"cluster": True, "process_id": 1}, "finds process_id itself"),
    ],
)
def test_half_a_meeting_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        connect(DistributedConfig(**values))


def test_no_cluster_to_ask_is_said(monkeypatch):
    def find_nothing():
        raise ValueError("coordinator_address should be defined.")

    # What JAX does outside of a cluster, and before its first use: this process is later.
    monkeypatch.setattr(jax.distributed, "initialize", find_nothing)
    with pytest.raises(ValueError, match=r"distributed\.cluster found no cluster to ask: coord"):
        connect(DistributedConfig(cluster=True))


def test_the_environment_says_how_to_meet(monkeypatch):
    assert DistributedConfig.from_environment() == DistributedConfig()
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    assert DistributedConfig.from_environment() == DistributedConfig("10.0.0.1:1234", 4, 3)
    # What it leaves open a flag may say.
    monkeypatch.delenv("JAX_PROCESS_ID")
    assert DistributedConfig.from_environment() == DistributedConfig("10.0.0.1:1234", 4)
    monkeypatch.setenv("JAX_PROCESS_ID", "three")
    with pytest.raises(ValueError, match="JAX_PROCESS_ID must be a number, got 'three'"):
        DistributedConfig.from_environment()


# The evaluations of `pgpo train` and of `pgpo eval` have the shape of a part of the rollouts, and
# so their programs.
PAIR = replaced(
    PRESETS["tiny"],
    steps=2,
    checkpoint_every=100,
    trackers=(),
    rollout={"questions": 8, "samples": 2, "row_buckets": 1, "micro_batch": 4, "max_prompt": 64},
    evaluation={"every": 100, "questions": 4, "samples": 2, "batch": 4},
)
EVAL = (
    *("eval", "--questions", "4", "--samples", "2", "--batch", "4"),
    *("--max-prompt", "64", "--max-response", "20"),
)
SEVERAL_COMMANDS = """
import json, sys
from pgpo_jax.cli import main
for command in json.loads(sys.argv[1]):
    if code := main(command):
        sys.exit(code)
"""


def start_pair(folder: Path, *commands: Sequence[str]) -> list[subprocess.Popen]:
    """Two processes of four devices each that run some commands of `pgpo`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    command = [sys.executable, "-c", SEVERAL_COMMANDS, json.dumps(commands)]
    processes = []
    for number in range(2):
        with (folder.parent / f"log{number}").open("w") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env=environment | {"JAX_PROCESS_ID": str(number)},
                )
            )
    return processes


@pytest.mark.slow
def test_two_processes_evaluate_and_train_as_one(tmp_path, capsys):
    alone = tmp_path / "alone"
    folder = tmp_path / "pair" / "run"
    folder.parent.mkdir()
    mesh = ("--mesh.fsdp", "4", "--mesh.tensor", "2")
    flags = changed_flags(PRESETS["tiny"], replaced(PAIR, steps=1000)).split()
    # The pair decodes half of the answers at a time.
    evaluate = [*EVAL, *mesh, "--max-num-seqs", "4"]
    processes = start_pair(folder, evaluate, ["train", "--output", str(folder), *flags, *mesh])
    try:
        # Meanwhile, since the pair starts and compiles for longer.
        assert main(EVAL) == 0
        evaluated = capsys.readouterr().out
        result = train(replaced(PAIR, keep_checkpoints=0), alone)
        for _ in range(4000):
            if len(read_jsonl(folder / "metrics.jsonl")) > PAIR.steps:
                break
            assert all(process.poll() is None for process in processes), logs(folder)
            time.sleep(0.1)
        # To one of them, not the one that writes.
        processes[1].send_signal(signal.SIGTERM)
        assert [process.wait(240) for process in processes] == [143, 143], logs(folder)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert REMATERIALISED not in logs(folder)
    assert evaluated.startswith("avg@2 ")
    # The first speaks for both.
    assert logs(folder).count(evaluated) == log(folder, 0).count(evaluated) == 1
    ours, theirs = (read_jsonl(path / "metrics.jsonl") for path in (alone, folder))
    assert [row["step"] for row in theirs] == list(range(len(theirs)))
    for one, two in zip(ours[: PAIR.steps + 1], theirs, strict=False):
        for name in one.keys() & two.keys():
            np.testing.assert_allclose(one[name], two[name], atol=1e-5, err_msg=name)
    assert read_jsonl(alone / "evaluations.jsonl")[0] == read_jsonl(folder / "evaluations.jsonl")[0]
    written = json.loads((folder / "config.json").read_text())
    assert written["mesh"] == {"data": 1, "fsdp": 4, "tensor": 2}
    # Both stopped after the same step, and one device reads what they saved together.
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore(result.trainer.initial_state)
    assert int(state.step) == theirs[-1]["step"]
    start = load_policy(PAIR.model)[1]["embedding"][...]
    assert 0 < float(jnp.abs(state.params["embedding"][...] - start).max()) < 0.1


def logs(folder: Path) -> str:
    return "".join(log(folder, number) for number in range(2))


def log(folder: Path, number: int) -> str:
    return (folder.parent / f"log{number}").read_text()
