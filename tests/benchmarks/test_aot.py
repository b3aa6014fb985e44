"""The checks of `benchmarks.aot`, on virtual CPU devices in place of TPUs and GPUs."""

import os
import sys

import jax
import pytest

from benchmarks import aot
from pgpo_jax.distillation import _divergence
from pgpo_jax.models import make_mesh
from pgpo_jax.training import LoRAConfig, abstract_step
from pgpo_jax.training.target import ProgramText, products


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=4, tensor=aot.TENSOR)


def test_the_head_loss_passes_and_the_control_is_seen(mesh):
    assert aot.faults(aot.head_loss(mesh, chunk=256, words=16384)) == []
    assert aot.faults(aot.gathered_logits(mesh, rows=64, words=4096)) == []


def test_a_plain_top_k_is_a_fault(mesh, monkeypatch):
    monkeypatch.setattr(_divergence, "most_likely", lambda z, k, sharding: jax.lax.top_k(z, k)[1])
    (fault,) = aot.faults(aot.head_loss(mesh, chunk=256, words=16384))
    assert fault.startswith("moves ")


def text_before_compiling(mesh, **changes):
    """Of the step: XLA for CPU would widen every product as it compiles."""
    step, state, batch = abstract_step(aot.settings(mesh, **changes), aot.SHAPE, mesh)
    module = step.lower(state, batch).compiler_ir("hlo").as_hlo_module()
    return ProgramText(module.to_string())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"objective": "grpo"}, {"lora": LoRAConfig(rank=8)}, {"attention": "chunked"}]
)
def test_the_step_multiplies_bfloat16(mesh, changes):
    text = text_before_compiling(mesh, **changes)
    found = products(text)
    # Seven kernels, attention's two and the head, forward at the least.
    assert len(found) >= 10
    assert any(one.dtypes == ("f32", "f32") for one in found)
    assert aot.wide_products(text) == []


@pytest.mark.slow
def test_a_step_in_float32_is_a_fault(mesh):
    """The control: the kernels' products, the head's and their gradients are seen."""
    wide = aot.wide_products(text_before_compiling(mesh, dtype="float32"))
    assert any("...d,dv->...v" in one for one in wide)
    assert any("transpose(jvp())" in one for one in wide)
    assert all(one.startswith("f32 x f32 at ") for one in wide)
    # Seven kernels: student, teacher, computed again, and two gradients.
    assert len(wide) > 30
    (fault,) = aot.faults({"wide_products": wide})
    assert fault.startswith(f"{len(wide)} products take float32, the first f32 x f32 at ")


def test_a_cast_ahead_of_the_layers_is_seen():
    text = """
ENTRY %main (a: f32[2,64,32]) -> bf16[2,64,32] {
  %a = f32[2,64,32]{2,1,0} parameter(0)
  ROOT %cast = bf16[2,64,32]{2,1,0} convert(%a)
}
"""
    assert aot.held_casts(ProgramText(text)) == 1
    # The control: of one layer.
    assert aot.held_casts(ProgramText(text.replace("[2,", "[1,"))) == 0
    # And what was 16 bits wide before: two pieces put together.
    halves = text.replace("f32[2,64,32]{2,1,0} parameter", "bf16[2,64,32]{2,1,0} parameter")
    assert halves != text
    assert aot.held_casts(ProgramText(halves)) == 0


def test_what_else_is_a_fault():
    fine = {
        "moved_mb": 5.0, "most_moved_mb": 5.0, "summed_mb": 1.0, "most_summed_mb": 1.0,
        "gathered_mb": 0.1, "most_gathered_mb": 0.1, "donated": 3, "aliased": 3,
        "cache_copies": 0, "overhead_mb": 50.0, "rematerialised": 0, "wide_products": [],
        "control_unseen": False, "held_casts": 0,
    }  # fmt: skip
    assert aot.faults(fine) == []
    for changed, told in (
        ({"aliased": 2}, "only 2 of 3 donated arrays are reused"),
        ({"summed_mb": 2.5}, "sums 2.5 MB at once, allowed are 1"),
        ({"gathered_mb": 0.2}, "gathers 0.2 MB at once, allowed are 0.1"),
        ({"cache_copies": 16}, "copies a whole cache 16 times"),
        ({"overhead_mb": 51.0}, "the multiplier needs 51 MB, allowed are 50"),
        ({"rematerialised": 1}, "XLA rematerialises 1 arrays that it should cut"),
        ({"least_moved_mb": 6.0}, "the control's gathered logits are not seen"),
        ({"held_casts": 7}, "holds casts of 7 kernels of all layers"),
        ({"control_unseen": True}, "the control's float32 product is not seen"),
    ):
        assert aot.faults(fine | changed) == [told]
    summed = {"moved_mb": 0.0, "summed_mb": 6.0, "most_summed_mb": 6.0, "least_moved_mb": 6.0}
    assert aot.faults(fine | summed) == []


def test_complaints_of_the_compiler_are_counted():
    with aot.rematerialised() as counted:
        os.write(2, b"W1 Involuntary full rematerialization. The compiler cannot ...\n")
    assert counted == {"rematerialised": 1}
    with aot.rematerialised() as counted:
        print("nothing of the kind", file=sys.stderr)
    assert counted == {"rematerialised": 0}


def test_cudnn_is_for_nvidia_gpus(monkeypatch):
    monkeypatch.setattr(aot, "has_cudnn", lambda: True)
    assert "step, cudnn" in list(aot.checks_of("cuda:h200:8", None))
    assert "step, cudnn" not in list(aot.checks_of("tpu:v5e:2x4", None))
    assert list(aot.checks_of("tpu:v5e:2x4", "sampler")) == ["sampler"]
