"""The model whose responses have the lengths they are told to have."""

import numpy as np
import pytest

from benchmarks import rollout

SIZES = {
    "layers": 1,
    "width": 64,
    "heads": 2,
    "kv-heads": 1,
    "mlp": 32,
    "prompt": 4,
    "prompts": 8,
    "samples": 8,
    "new": 48,
    "median": 8,
    "lanes": 8,
    "repeats": 1,
}
FLAGS = [text for name, size in SIZES.items() for text in (f"--{name}", str(size))]
FLAGS += ["--lengths", "lognormal", "geometric"]


@pytest.mark.slow
def test_lengths_follow_the_distribution_and_lanes_the_tokens():
    args, record = rollout.parse(FLAGS), rollout.main(FLAGS)
    assert [row["max_num_seqs"] for row in record["rows"]] == ["all", "8"] * 2
    for row in record["rows"]:
        assert row["same_tokens"]
        chance = np.exp(rollout.log_chances(args, row["lengths"]))
        length = np.arange(2, 49)
        mean = (chance * length).sum()
        spread = np.sqrt((chance * length**2).sum() - mean**2)
        assert abs(row["mean"] - mean) < 4 * spread / np.sqrt(64)
        # The control: lengths without a long tail would be told apart.
        assert abs(row["mean"] - 2) > 4 * spread / np.sqrt(64)
    for whole, lanes in (record["rows"][:2], record["rows"][2:]):
        assert lanes["row_steps"] < whole["row_steps"]
