"""With 64 bits switched on a run samples, trains and evaluates as it does without them."""

import json
import os
import subprocess
import sys

import pytest

TRAINED = """
import dataclasses, sys, tempfile
from pathlib import Path
from pgpo_jax.training import PRESETS, train

config = PRESETS["tiny"]
changes = {
    "rollout": {"questions": 2, "samples": 4, "row_buckets": 1, "max_response": 24},
    "evaluation": {"questions": 2, "samples": 1, "batch": 2},
    "optimizer": {"warmup_steps": 0},
    "lora": {"rank": int(sys.argv[1])},
}
changes = {k: dataclasses.replace(getattr(config, k), **v) for k, v in changes.items()}
with tempfile.TemporaryDirectory() as folder:
    train(dataclasses.replace(config, steps=2, **changes), folder)
    print((Path(folder) / "metrics.jsonl").read_text())
"""


def printed(code, bits, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"JAX_ENABLE_X64": str(int(bits == 64)), "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_the_same_steps_are_made(rank):
    wide, narrow = (
        [json.loads(line) for line in printed(TRAINED, bits, str(rank)).split("\n") if line]
        for bits in (64, 32)
    )
    assert [row["step"] for row in wide] == [row["step"] for row in narrow] == [0, 1, 2, 2]
    for a, b in zip(wide, narrow, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    assert wide[1]["loss"] > 0.01
