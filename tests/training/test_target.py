"""Plans for accelerators that are not there: names, program texts, arithmetic, the command."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from pgpo_jax.cli import _plan_target
from pgpo_jax.cli._plan_target import plan_for_target
from pgpo_jax.errors import PGPOImportError, PGPOValueError
from pgpo_jax.models import QWEN3_SHAPES, make_mesh
from pgpo_jax.training import PRESETS
from pgpo_jax.training.target import (
    CHIPS,
    ENVIRONMENT,
    CompilerRefusal,
    ProgramText,
    parse_target,
    products,
    target_devices,
)
from pgpo_jax.training.target._hlo import KINDS
from pgpo_jax.training.target._programs import compile_program
from pgpo_jax.training.target._report import ProgramReport, report_rows
from pgpo_jax.training.target._work import Work, least_times, run_flops, step_flops
from tests.training.conftest import replaced

PAPER = PRESETS["paper-qwen3-8b"]


@pytest.mark.parametrize(
    ("text", "size"), [("tpu:v5e:8x8", 64), ("tpu:v5p:4x4x4", 64), ("cuda:h200:8", 8)]
)
def test_targets_by_name(text, size):
    target = parse_target(text)
    assert (target.name, target.size) == (text, size)
    assert target.chip == CHIPS[text.split(":")[1]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("tpu:v7x:2x2", "tpu:v5e|v5p|v6e:TOPOLOGY or cuda:h200:DEVICES, got 'tpu:v7x:2x2'"),
        ("gpu:h200:8", "got 'gpu:h200:8'"),
        ("tpu:v5e:2x2x2", "a topology of v5e has 2 sizes above 0, as in tpu:v5e:4x4"),
        ("tpu:v5p:8", "a topology of v5p has 3 sizes"),
        ("tpu:v5e:0x8", "has 2 sizes above 0"),
        ("v5e:2x4", "got 'v5e:2x4': tpu:v5e:2x4 and cuda:h200:8 are two"),
        ("tpu:v5e:3x4", "hosts of 2x2 chips, got 'tpu:v5e:3x4': the nearest is tpu:v5e:4x4"),
        ("tpu:v5p:1x2x3", "2x2x1 chips, got 'tpu:v5p:1x2x3': the nearest is tpu:v5p:2x2x3"),
        ("cuda:h200:9", "1 to 8 H200"),
    ],
)
def test_what_is_no_target(text, match):
    with pytest.raises(PGPOValueError) as caught:
        parse_target(text)
    assert match in str(caught.value)


def test_a_compiler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PGPOImportError, match=r"needs libtpu: pip install 'pgpo-jax\[aot\]'"):
        target_devices(parse_target("tpu:v5e:2x4"))


def test_a_mesh_that_is_not_the_target_is_refused_before_any_compile():
    shape = QWEN3_SHAPES["Qwen3-8B"]
    with pytest.raises(PGPOValueError, match=r"has 8 devices, .* = 1: set --mesh.fsdp 8"):
        plan_for_target("tpu:v5e:2x4", PAPER, shape, "", [])
    uneven = replaced(PAPER, mesh={"fsdp": 4, "tensor": 3})
    rule = r"'tensor' of size 3 must divide num_attention_heads, got 32 \(2 and 4 do\)"
    with pytest.raises(PGPOValueError, match=rule):
        plan_for_target("tpu:v5e:2x6", uneven, shape, "", [])
    many = replaced(PAPER, mesh={"tensor": 16})
    with pytest.raises(PGPOValueError, match=r"--mesh.data times --mesh.tensor must divide 8"):
        plan_for_target("tpu:v5e:2x4", many, shape, "", [])


def test_attention_that_a_target_lacks():
    config = replaced(PAPER, attention="cudnn", mesh={"fsdp": 8})
    with pytest.raises(PGPOValueError, match=r"cudnn is for NVIDIA GPUs, .* set --attention chunk"):
        plan_for_target("tpu:v5e:2x4", config, QWEN3_SHAPES["Qwen3-8B"], "", [])


def test_what_a_compiler_refuses(monkeypatch):
    lowered = jax.jit(lambda x: 2 * x).lower(1.0)
    assert compile_program("step", lowered).compiled(1.0) == 2.0
    full = "RESOURCE_EXHAUSTED: Ran out of memory on HBM: 172.34G exceeds 15.75G.\n\nAllocations"
    for message, told, out_of_memory in (
        (full, r"refuses step: Ran out of memory .* 15.75G.$", True),
        ("INVALID_ARGUMENT: no such layout", "refuses step: no such layout$", False),
    ):
        error = jax.errors.JaxRuntimeError(message)

        def refuses(lowered, error=error):
            raise error

        monkeypatch.setattr(type(lowered), "compile", refuses)
        with pytest.raises(CompilerRefusal, match=told) as refused:
            compile_program("step", lowered)
        assert refused.value.out_of_memory == out_of_memory


@pytest.mark.parametrize("out_of_memory", [True, False])
def test_a_run_that_the_compiler_refuses(monkeypatch, capsys, out_of_memory):
    """Too large a run is told what to change; anything else is an error."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    refusal = CompilerRefusal("the compiler refuses step: too large", out_of_memory=out_of_memory)

    def refuses(config, shape, mesh):
        raise refusal

    monkeypatch.setattr(_plan_target, "target_devices", lambda target: jax.devices()[:8])
    monkeypatch.setattr(_plan_target, "report_run", refuses)
    config, shape = replaced(PAPER, mesh={"fsdp": 8}), QWEN3_SHAPES["Qwen3-0.6B"]
    if not out_of_memory:
        with pytest.raises(CompilerRefusal):
            plan_for_target("tpu:v5e:2x4", config, shape, "", [])
        return
    plan_for_target("tpu:v5e:2x4", config, shape, "", [])
    said = capsys.readouterr().out
    assert "does not fit: the compiler refuses step: too large" in said
    assert "try --attention chunked --rollout.micro-batch 8" in said


def test_changes_by_what_does_not_fit(capsys):
    """Too large a step is told to work on less at a time, too large a cache is not."""
    config, shape = replaced(PAPER, mesh={"fsdp": 8}), QWEN3_SHAPES["Qwen3-0.6B"]
    target, none = parse_target("tpu:v5e:2x4"), dict.fromkeys(KINDS, 0)
    for too_large, chunked in (("step", True), ("decode", False)):
        reports = [
            ProgramReport(name, (20 if name == too_large else 1) * 10**9, 0, none)
            for name in ("step", "prefill", "decode")
        ]
        _plan_target._print_fit(config, shape, reports, target)
        said = capsys.readouterr().out
        assert said.startswith("does not fit: 20.00 of 16 GB\ntry --")
        assert ("--attention chunked" in said) == chunked


def test_collectives_of_a_real_program():
    """A loop of 5 rounds that sums 64 numbers over 8 devices, and a gather outside it."""
    mesh = make_mesh(1, 8, 1)
    cut, whole = NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P())

    @jax.jit
    def program(x):
        def one(total, _):
            rows = jax.lax.with_sharding_constraint(x * total[0], cut)
            return jax.lax.with_sharding_constraint(rows.sum(0), whole), None

        total, _ = jax.lax.scan(one, jnp.ones(64), length=5)
        return jax.lax.with_sharding_constraint(x, whole), total

    x = jax.ShapeDtypeStruct((8, 64), jnp.float32, sharding=cut)
    found = ProgramText(program.lower(x).compile().as_text()).collectives()
    summed = [one for one in found if one.kind == "all-reduce"]
    gathered = [one for one in found if one.kind == "all-gather"]
    assert sum(one.bytes * one.times for one in summed) == 5 * 64 * 4
    assert [(one.bytes, one.times) for one in gathered] == [(8 * 64 * 4, 1)]
    assert not any(one.in_loop for one in found)


LOOP = """
%body (p: (f32[4])) -> (f32[4]) {
  %g = ((bf16[2,8]{1,0}), (bf16[4,8]{1,0})) all-gather-start(%p), dimensions={0}
  %c = (bf16[7,2]{1,0}, bf16[7,2]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p)
  ROOT %r = f32[9]{0} all-reduce(%p), to_apply=%add
}
%condition (p: (f32[4])) -> pred[] {
  %n = s32[]{:T(128)} constant(12)
  ROOT %l = pred[] compare(%p, %n), direction=LT
}
ENTRY %main (p: f32[4]) -> f32[4] {
  ROOT %w = (f32[4]{0}) while(%p), condition=%condition, body=%body
}
"""


def test_forms_that_only_accelerators_have():
    found = {one.kind: one for one in ProgramText(LOOP).collectives()}
    assert {kind: one.bytes for kind, one in found.items()} == {
        "all-gather": 4 * 8 * 2,
        "collective-permute": 7 * 2 * 2,
        "all-reduce": 9 * 4,
    }
    assert {one.times for one in found.values()} == {12}
    # Several arrays that are sent at once are no large one.
    both = LOOP.replace("(bf16[4,8]{1,0})) all-g", "(bf16[4,8]{1,0}, f32[3]{0})) all-g").replace(
        "((bf16[2,8]{1,0}),", "((bf16[2,8]{1,0}, f32[1]{0}),"
    )
    (gather,) = (one for one in ProgramText(both).collectives() if one.kind == "all-gather")
    assert (gather.bytes, gather.largest) == (4 * 8 * 2 + 3 * 4, 4 * 8 * 2)
    assert not any(one.in_loop for one in found.values())
    # A loop whose end is no constant: over tokens, say.
    unknown = ProgramText(LOOP.replace("constant(12)", "parameter(1)")).collectives()
    assert {(one.times, one.in_loop) for one in unknown} == {(1, True)}


PRODUCTS = """
%fused (p: f32[8,4], w: bf16[4,2]) -> f32[8,2] {
  %p = f32[8,4]{1,0} parameter(0)
  %w = bf16[4,2]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = f32[8,2]{1,0} convolution(%p, %w), dim_labels=bf_io->bf, metadata={op_name="head/dot"}
}
ENTRY %main (p: bf16[8,4]) -> f32[8,2] {
  %p = bf16[8,4]{1,0} parameter(0)
  %w = bf16[4,2]{1,0} parameter(1)
  %b = f32[8]{0} parameter(2)
  %l = (bf16[8,2]{1,0}, s8[64]{0}) custom-call(%p, %w), custom_call_target="__cublas$lt$matmul"
  %o = (bf16[8,2]{1,0}) custom-call(%b, %w), custom_call_target="Sharding"
  ROOT %d = f32[8,2]{1,0} dot(%p, %w), metadata={op_name="jit(f)/dot_general"}
}
"""


def test_products_of_each_compiler():
    """A TPU's convolution, a library's call without a name, and a plain product."""
    assert products(ProgramText(PRODUCTS)) == [
        (("f32", "bf16"), "head/dot"),
        (("bf16", "bf16"), "l"),
        (("bf16", "bf16"), "jit(f)/dot_general"),
    ]


COPIES = """
ENTRY %main (p: bf16[8,8191]) -> bf16[8,8191] {
  %p = bf16[8,8191]{0,1} parameter(0)
  %layout = bf16[8,8191]{1,0} copy(%p)
  %fetched = bf16[8,8191]{1,0:S(1)} copy(%layout)
  %back = bf16[8,8191]{1,0} copy(%fetched)
  %small = bf16[8,2]{1,0} copy(%p)
  ROOT %t = bf16[8191,8]{1,0} transpose(%layout)
}
"""


def test_copies_of_whole_arrays():
    """One into another layout and a transpose; not those to and from fast memory."""
    assert ProgramText(COPIES).copies(8 * 8191 * 2) == 2
    assert ProgramText(COPIES).copies(8) == 3
    assert ProgramText(COPIES).copies(10**6) == 0


def test_flops_of_a_run():
    shape = QWEN3_SHAPES["Qwen3-8B"]
    lengths = {"rows": 256, "prompt": 2048, "teacher_prompt": 10240, "response": 8192}
    assert run_flops(PAPER, shape) == step_flops(shape, **lengths, remat=True)
    # By hand, to a tenth: 8 FLOPs a parameter and student token, 2 a teacher token, and attention.
    parameters, student, teacher = 7.57e9, 10_239, 18_431
    products = 256 * parameters * (8 * student + 2 * teacher)
    pairs = 256 * 4 * 36 * 4096 * (4 * student**2 + teacher**2) / 2
    heads = 256 * 8192 * 2 * 0.62e9 * 4
    assert abs(run_flops(PAPER, shape) / (products + pairs + heads) - 1) < 0.1
    # Computing layers again is one forward pass more; without a teacher one is left out.
    plain = step_flops(shape, **lengths)
    assert 0.15 < step_flops(shape, **lengths, remat=True) / plain - 1 < 0.3
    assert step_flops(shape, **lengths | {"teacher_prompt": None}) < 0.75 * plain
    without = step_flops(shape, **lengths | {"teacher_prompt": None})
    assert step_flops(shape, **lengths, teacher_passes=3) - without == 3 * (plain - without)


def test_least_times():
    work = Work(flops=197e12, sent=400 * 10**9, weights=819 * 10**8, cache=0, sent_per_token=0,
                tokens=10)  # fmt: skip
    times = least_times(work, CHIPS["v5e"])
    np.testing.assert_allclose(times, (1.0, 2.0, 2.0, 1.0))


def test_rows_show_the_kinds_that_occur():
    kinds = dict.fromkeys(("all-gather", "all-reduce", "reduce-scatter"), 0)
    kinds |= dict.fromkeys(("all-to-all", "collective-permute"), 0)
    reports = [ProgramReport("decode", 2 * 10**9, 10**6, kinds | {"all-reduce": 5 * 10**6})]
    head, row = report_rows(reports)
    assert head == ["per device", "peak GB", "arguments GB", "all-reduce GB"]
    assert row == ["decode, a token", "2.00", "0.001", "0.005"]
