"""The checks of `benchmarks.aot`, on virtual CPU devices in place of TPUs and GPUs."""

import jax
import pytest

from benchmarks import aot
from pgpo_jax.distillation import _divergence
from pgpo_jax.models import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=aot.FSDP, tensor=aot.TENSOR)


def test_the_head_loss_passes_and_the_control_is_seen(mesh):
    assert aot.faults(aot.head_loss(mesh, chunk=256, words=4096)) == []
    assert aot.faults(aot.gathered_logits(mesh, rows=64, words=4096)) == []


def test_a_plain_top_k_is_a_fault(mesh, monkeypatch):
    monkeypatch.setattr(_divergence, "most_likely", lambda z, k: jax.lax.top_k(z, k)[1])
    (fault,) = aot.faults(aot.head_loss(mesh, chunk=256, words=4096))
    assert "a device's chunk of logits" in fault


def test_what_else_is_a_fault():
    fine = {"moved": 5, "most_moved": 5, "donated": 3, "aliased": 3}
    assert aot.faults(fine) == []
    assert aot.faults(fine | {"aliased": 2}) == ["only 2 of 3 donated arrays are reused"]
    assert aot.faults({"moved": 5, "least_moved": 6}) == [
        "the control's gathered logits are not seen"
    ]


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("%g = f32[32,200]{0,1} all-gather(%x), channel_id=1", 6400),
        ("%g = f32[2,100,32]{1,2,0:T(8,128)S(1)} all-gather(%x)", 6400),
        ("%g = ((f32[2]{0}, s32[3]{0}), (f32[4]{0}, s32[6]{0})) all-gather-start(%x, %y)", 6),
        ("%g = (bf16[7,2]{1,0}, bf16[7,2]{1,0}, u32[]) collective-permute-start(%x)", 14),
        ("%g = f32[9]{0} all-reduce(%x), to_apply=%add", 0),
    ],
)
def test_what_is_moved(line, numbers):
    assert aot.largest_moved(f"  {line}\n") == numbers


@pytest.mark.parametrize("target", ["cuda:h100:8", "tpus"])
def test_an_unknown_target(target):
    with pytest.raises(SystemExit, match=f"tpu:TOPOLOGY or cuda:h200:8, got '{target}'"):
        aot.devices_of(target)
