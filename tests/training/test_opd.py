"""On-policy distillation from another model: the step by formula, its settings, whole runs."""

import dataclasses
import functools as ft
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pgpo_jax import distillation, information, multiplier, scale_by_information
from pgpo_jax.cli._defaults import starting_point
from pgpo_jax.cli._train import main as command
from pgpo_jax.models import Qwen3, make_mesh, shardings
from pgpo_jax.training import (
    OPD,
    PRESETS,
    LossConfig,
    TeacherConfig,
    TrainConfig,
    init_state,
    make_train_step,
    read_jsonl,
    shard_rows,
)
from tests.training.conftest import (
    SMALL_QWEN3,
    fresh,
    random_experience,
    replaced,
)

TEMPERATURE = 0.7
LOSSES = {
    "sampled": {"form": "advantage", "support": "sampled"},
    "rewards of the top k": {"form": "advantage", "support": "topk_raw"},
    "rewards of the union": {"form": "advantage", "support": "topk_union"},
    "renormalised": {"support": "topk"},
    "raw": {"support": "topk_raw"},
    "union": {"support": "topk_union"},
}


@pytest.fixture
def config(small_config):
    return replaced(
        small_config,
        objective="opd",
        rollout={"temperature": TEMPERATURE},
        teacher={"kind": "external", "model": "another"},
        loss={"teacher_weight": 1.0, "k": 3, "reduction": "token_mean"},
    )


def step_of(models, config, *, optimizer=None, mesh=None):
    (graphdef, params), (other, weights) = models
    optimizer = config.make_optimizer() if optimizer is None else optimizer
    objective = config.make_objective()
    state = init_state(
        params,
        optimizer,
        objective.teacher_settings,
        mesh,
        lora=config.lora,
        external=weights,
    )
    step = make_train_step(
        graphdef,
        optimizer,
        objective,
        sequences=config.rollout.rows,
        temperature=config.rollout.temperature,
        lora=config.lora,
        micro_batch=config.optimizer.micro_batch,
        layout=None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state),
        teacher_graphdef=other,
    )
    return lambda batch: step(state, batch)[:2]


def copies(models):
    return [(graphdef, fresh(params)) for graphdef, params in models]


def behind_the_students_prompt(bag, batch):
    """Logits over the temperature."""
    tokens = np.concatenate([batch.prompt, batch.response[:, :-1]], 1)
    mask = np.concatenate([batch.prompt_mask, batch.response_mask[:, :-1]], 1)
    states = bag.hidden_states(tokens, mask)[:, batch.prompt.shape[1] - 1 :]
    return states @ bag.head() / TEMPERATURE


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_step_is_the_plain_composition(bags, config, name):
    config = replaced(config, loss=LOSSES[name], information={"alpha": 2.0, "rho_max": 3.0})
    batch = random_experience()
    descent = optax.chain(optax.sgd(1.0), scale_by_information(2.0, rho_max=3.0))
    state, metrics = step_of(copies(bags), config, optimizer=descent)(
        jax.tree.map(jnp.asarray, batch)
    )
    settings = LOSSES[name] | {"k": 3}
    form = settings.pop("form", "divergence")

    @ft.partial(jax.value_and_grad, has_aux=True)
    def plain(params):
        student = behind_the_students_prompt(nnx.merge(bags[0][0], params), batch)
        teacher = behind_the_students_prompt(nnx.merge(*bags[1]), batch)
        of = distillation.advantage_loss
        if form == "divergence":
            of = ft.partial(distillation.divergence, teacher_weight=1)
        per_token = of(student, teacher, tokens=jnp.asarray(batch.response), **settings)
        mask = jnp.asarray(batch.response_mask)
        gain = information.entropy_gain(student, teacher, mask, jnp.asarray(batch.sequence_mask))
        return distillation.aggregate(per_token, mask, reduction="token_mean"), gain

    (loss, gain), gradient = jax.jit(plain)(bags[0][1])
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["pgpo/information"], gain, rtol=1e-5, atol=1e-6)
    rho = multiplier(gain, 2.0, 3.0, 0.0)
    np.testing.assert_allclose(metrics["pgpo/rho"], rho, rtol=1e-5)
    assert abs(float(rho) - 1) > 0.1
    moved = jax.tree.map(lambda p, g: p - rho * g, bags[0][1], gradient)
    before, after, wanted = (jax.tree.leaves(tree)[0] for tree in (bags[0][1], state.params, moved))
    np.testing.assert_allclose(after, wanted, atol=2e-6)
    # Negative control: the step does move.
    assert np.abs(np.asarray(before) - np.asarray(after)).max() > 1e-3


def test_the_teachers_own_prompt_is_not_read(bags, config):
    batch = random_experience()
    other = random_experience(seed=1)
    shown = batch._replace(
        teacher_prompt=other.teacher_prompt, teacher_prompt_mask=other.teacher_prompt_mask
    )
    losses = []
    for rows in (batch, shown, batch._replace(prompt=other.prompt)):
        run = step_of(copies(bags), config)
        losses.append(float(run(jax.tree.map(jnp.asarray, rows))[1]["loss"]))
    assert losses[0] == losses[1]
    # Negative control: the student's prompt is.
    assert losses[2] != losses[0]


SHAPES = (SMALL_QWEN3, dataclasses.replace(SMALL_QWEN3, hidden_size=8, num_hidden_layers=1))


@pytest.fixture(scope="module")
def decoders():
    return [
        nnx.split(nnx.jit(lambda shape=shape: Qwen3(shape, rngs=nnx.Rngs(0)))(), nnx.Param)
        for shape in SHAPES
    ]


def descent():
    return optax.chain(optax.sgd(1.0), scale_by_information(2.0))


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "rank"), [("sampled", 0), ("union", 2)])
def test_micro_batches_are_the_batch(decoders, config, rank, loss):
    config = replaced(config, loss=LOSSES[loss], lora={"rank": rank, "base_dtype": "float32"})
    batch = jax.tree.map(jnp.asarray, random_experience())
    whole, metrics = step_of(copies(decoders), config, optimizer=descent())(batch)
    parts = replaced(config, optimizer={"micro_batch": 2})
    summed, parted = step_of(copies(decoders), parts, optimizer=descent())(batch)
    for name in ("loss", "pgpo/information", "optimizer/grad_norm"):
        np.testing.assert_allclose(parted[name], metrics[name], rtol=2e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), summed.params, whole.params
    )
    # Negative control: rows that do not belong to the batch change the step.
    other = jax.tree.map(jnp.asarray, random_experience(kept=4))
    third, _ = step_of(copies(decoders), parts, optimizer=descent())(other)
    differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), third.params, whole.params)
    assert max(jax.tree.leaves(differences)) > 1e-3


def assert_the_same_on_a_mesh(decoders, config, batch):
    """Compares a step of plain descent on one device with that on a mesh of eight."""
    plain = step_of(copies(decoders), config, optimizer=descent())
    whole, metrics = plain(jax.tree.map(jnp.asarray, batch))
    mesh = make_mesh(2, 2, 2)

    def spread(shape, params):
        model = nnx.eval_shape(lambda: Qwen3(shape, rngs=nnx.Rngs(0), mesh=mesh))
        placed = jax.device_put(fresh(params), shardings(params, mesh))
        return nnx.split(model, nnx.Param)[0], placed

    models = [spread(shape, params) for shape, (_, params) in zip(SHAPES, decoders, strict=True)]
    cut, parted = step_of(models, config, optimizer=descent(), mesh=mesh)(shard_rows(batch, mesh))
    for name in ("loss", "pgpo/information", "optimizer/grad_norm"):
        np.testing.assert_allclose(parted[name], metrics[name], rtol=2e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut.params, whole.params)
    assert cut.external["embedding"].sharding.mesh == mesh
    assert float(metrics["optimizer/grad_norm"]) > 1e-3


@pytest.mark.slow
def test_the_step_is_the_same_on_a_mesh(decoders, config):
    config = replaced(config, loss=LOSSES["rewards of the union"])
    assert_the_same_on_a_mesh(decoders, config, random_experience())


@pytest.mark.slow
def test_agreement_is_logged_if_asked_for(bags, config):
    batch = jax.tree.map(jnp.asarray, random_experience())
    asked = replaced(config, loss={"overlap_k": 4})
    names = {"overlap_ratio", "overlap_advantage", "entropy_gap"}
    _, metrics = step_of(copies(bags), asked)(batch)
    student, teacher = (behind_the_students_prompt(nnx.merge(*bag), batch) for bag in bags)
    found = distillation.overlap(student, teacher, 4)
    mask = np.asarray(batch.response_mask)
    gap = [-(jax.nn.softmax(x) * jax.nn.log_softmax(x)).sum(-1) for x in (student, teacher)]
    for name, wanted in zip(
        ("overlap_ratio", "overlap_advantage", "entropy_gap"),
        (found.ratio, found.advantage, jnp.abs(gap[0] - gap[1])),
        strict=True,
    ):
        got = float(metrics[f"distillation/{name}"])
        np.testing.assert_allclose(got, np.asarray(wanted)[mask].mean(), rtol=1e-5)
    _, silent = step_of(copies(bags), config)(batch)
    assert not any(f"distillation/{name}" in silent for name in names)
    np.testing.assert_allclose(silent["loss"], metrics["loss"], rtol=1e-6)


EXTERNAL = {"kind": "external", "model": "another"}


@pytest.mark.parametrize(
    ("sections", "rule"),
    [
        ({}, r"teacher\.kind must be 'external' with objective 'opd'.*--teacher\.model.*'ema'"),
        ({"teacher": {"kind": "frozen"}}, "kind must be 'external' .* got 'frozen'"),
        ({"teacher": EXTERNAL | {"feedback": True}}, r"teacher\.feedback must be False"),
        ({"teacher": EXTERNAL | {"thinking": True}}, r"teacher\.thinking must be False"),
        (
            {"teacher": EXTERNAL, "loss": {"form": "advantage"}},
            r"teacher_weight must be 1 with form 'advantage'.* got 0\.5",
        ),
        (
            {
                "teacher": EXTERNAL,
                "loss": {"form": "advantage", "teacher_weight": 1.0, "entry_clip": 0.1},
            },
            r"entry_clip must be None with form 'advantage'.* got 0\.1",
        ),
        (
            {
                "teacher": EXTERNAL,
                "loss": {"support": "topk_raw"},
                "optimizer": {"plateau": True},
            },
            r"plateau must be False with loss\.support 'topk_raw'",
        ),
    ],
)
def test_settings_that_contradict_are_refused(sections, rule):
    with pytest.raises(ValueError, match=rule):
        replaced(TrainConfig(), **sections, objective="opd")


def test_a_sound_configuration():
    config = replaced(TrainConfig(), teacher=EXTERNAL, objective="opd", rollout={"samples": 1})
    objective = config.make_objective()
    assert isinstance(objective, OPD)
    assert objective.longest_teacher_prompt == 1
    assert config.alpha == 1.0
    assert OPD(TeacherConfig(**EXTERNAL), LossConfig()).learning_fraction == "optimizer/applied"
    assert json.loads(json.dumps(config.to_json()))["teacher"]["model"] == "another"


def test_the_command_line_begins_with_the_published_settings(tmp_path):
    flags = ["--objective", "opd", "--teacher.model", "models/large"]
    source, config = starting_point(flags, tmp_path)
    assert source == "preset tiny with the settings of opd"
    assert (config.teacher.kind, config.teacher.model) == ("external", "models/large")
    assert (config.loss.form, config.loss.support) == ("advantage", "sampled")
    assert config.loss.reduction == "sequence_sum"
    assert config.loss.chunk == PRESETS["tiny"].loss.chunk
    _, relaxed = starting_point(["--objective", "reopold", *flags[2:]], tmp_path)
    assert relaxed.make_objective().reopold.switch_step == 100
    # Without an objective the teacher alone is another one.
    assert starting_point(flags[2:], tmp_path)[1].objective == "sdpo"
    with pytest.raises(ValueError, match="learns from another model"):
        starting_point(flags[:2], tmp_path)


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (["--teacher.kind", "ema"], "kind must be 'external' with model"),
        (["--teacher.rate", "0.1"], r"rate must be left at 0\.05 with kind 'external'"),
        (["--teacher.kind", "snapshot", "--teacher.every", "3"], "kind must be 'external'"),
        (["--teacher.feedback"], r"teacher\.feedback must be False with objective 'opd'"),
        ([], "No model folder '.*nowhere'"),
    ],
)
def test_bad_flags_are_refused_before_a_folder_is_made(tmp_path, capsys, more, rule):
    flags = ["--objective", "opd", "--teacher.model", str(tmp_path / "nowhere")]
    with pytest.raises((ValueError, FileNotFoundError), match=rule):
        command([*flags, *more, "--output", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def runs_of(folder, objective, other):
    """The command of a short run, with more flags."""
    flags = ["--objective", objective, "--teacher.model", str(other), "--checkpoint-every", "2"]
    flags += ["--rollout.questions", "2", "--rollout.samples", "2", "--rollout.row-buckets", "1"]
    flags += ["--evaluation.questions", "2", "--evaluation.samples", "1", "--trackers"]
    flags += ["--output", str(folder)]
    if objective == "reopold":
        flags += ["--reopold.switch-step", "2", "--reopold.entropy-share", "0.5"]
    return lambda *more: command([*flags, *more])


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["opd", "reopold"])
def test_a_run_resumes_digit_for_digit(other, tmp_path, objective):
    runs_of(tmp_path / "whole", objective, other)("--steps", "4")
    runs_of(tmp_path / "parts", objective, other)("--steps", "2")
    command(["--resume", "--steps", "4", "--output", str(tmp_path / "parts")])

    def steps(run):
        rows = read_jsonl(tmp_path / run / "metrics.jsonl")
        return [row for row in rows if "loss" in row]

    assert steps("whole") == steps("parts")
    rows = steps("whole")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    if objective == "reopold":
        assert [row["reopold/second_phase"] for row in rows] == [0, 0, 1, 1]
    # The multiplier is that of the entropy drop.
    wanted = [min(np.exp(row["pgpo/information"]), 2.0) for row in rows]
    np.testing.assert_allclose([row["pgpo/rho"] for row in rows], wanted, rtol=1e-5)
    # Negative control: another seed is another run.
    runs_of(tmp_path / "other seed", objective, other)("--steps", "1", "--seed", "5")
    assert steps("other seed")[0]["pgpo/information"] != rows[0]["pgpo/information"]
