"""The bytes of two ways to decode, against the plan of memory and by hand."""

import pytest

from benchmarks.decoding_layouts import PROMPT, RESPONSE, ROWS, layout, main, weight_bytes
from pgpo_jax.models import QWEN3_SHAPES
from pgpo_jax.training import MeshConfig, RolloutConfig
from pgpo_jax.training.memory._estimate import sampling_plan
from pgpo_jax.training.target import CHIPS

SHAPE = QWEN3_SHAPES["Qwen3-8B"]


@pytest.mark.parametrize(("fsdp", "tensor"), [(8, 1), (16, 4), (1, 8)])
def test_what_is_held_is_what_the_plan_says(fsdp, tensor):
    figures = layout(SHAPE, CHIPS["v5e"], devices=fsdp * tensor, tensor=tensor, gathered=True)
    settings = RolloutConfig(questions=ROWS, samples=1, max_prompt=PROMPT, max_response=RESPONSE)
    plan = sampling_plan(SHAPE, MeshConfig(fsdp=fsdp, tensor=tensor), "bfloat16", settings)
    # The gains of the norms, and the last token, which is not read.
    assert figures["cache_gb"] == pytest.approx(plan.rollout["key-value cache"] / 1e9, rel=1e-3)
    weights = plan.rollout.get("sampler's weights", plan.resident["weights"])
    assert figures["weights_gb"] == pytest.approx(weights / 1e9, rel=1e-3)


def test_what_is_sent():
    gather = layout(SHAPE, CHIPS["v5e"], devices=8, tensor=1, gathered=True)
    assert gather["sent_gb"] == 0
    assert gather["moved_gb"] == pytest.approx(7 / 8 * weight_bytes(SHAPE) / 1e9)
    tensor = layout(SHAPE, CHIPS["v5e"], devices=8, tensor=8, gathered=False)
    # 256 rows of 4096: two sums in each of 36 layers and that of the embedding, 7/4 of which go
    # around the ring; and their logits.
    state = 256 * 4096
    token = 7 / 4 * (2 * 36 * 2 + 4) * state + 7 / 8 * 256 * 151_936 * 4
    assert tensor["sent_mb_per_token"] == pytest.approx(token / 1e6)
    prompts = 7 / 4 * (2 * 36 * 2 + 2) * state * PROMPT
    assert tensor["sent_gb"] == pytest.approx((prompts + token * RESPONSE) / 1e9)
    # Reading less is what the sums buy.
    assert tensor["weights_gb"] < gather["weights_gb"]


def test_the_table_has_both_ways_everywhere():
    rows = main([])["rows"]
    assert len(rows) == 16
    assert [row["layout"] for row in rows] == ["gather", "tensor"] * 8
    assert all(
        a["moved_gb"] + a["sent_gb"] < b["sent_gb"]
        for a, b in zip(rows[::2], rows[1::2], strict=True)
    )
