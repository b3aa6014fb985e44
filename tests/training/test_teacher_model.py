"""Another model as the teacher: loaded, checked against the student, counted, told apart."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.cli import _export, _plan as plan_command
from pgpo_jax.models import QWEN3_SHAPES, load_pretrained, save_pretrained
from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training import (
    PRESETS,
    SDPO,
    Checkpoints,
    RolloutConfig,
    TeacherConfig,
    TrainConfig,
    Trainer,
    load_policy,
    make_train_step,
    train,
)
from pgpo_jax.training.config._places import same_but_for_place, with_absolute_paths
from pgpo_jax.training.memory._abstract import abstract_experience, abstract_state
from pgpo_jax.training.memory._estimate import memory_plan
from pgpo_jax.training.run._check_inputs import check_inputs
from pgpo_jax.training.run._checkpoint import free_buffers
from pgpo_jax.training.target._work import run_flops
from pgpo_jax.training.update._state import init_state
from tests.training.conftest import SMALL_QWEN3, fresh, random_experience, replaced


@pytest.fixture
def config(small_config):
    teacher = {"kind": "external", "model": "another"}
    return replaced(small_config, teacher=teacher, loss={"support": "full"})


def external_step(bags, config, **settings):
    (graphdef, params), (other, weights) = bags
    optimizer, objective = config.make_optimizer(), config.make_objective()
    state = init_state(
        fresh(params), optimizer, objective.teacher_settings, external=fresh(weights)
    )
    step = make_train_step(
        graphdef,
        optimizer,
        objective,
        sequences=config.rollout.rows,
        teacher_graphdef=other,
        **settings,
    )
    return step, state


@pytest.mark.slow
def test_the_loss_reads_the_other_model_and_leaves_it(bags, config):
    batch = random_experience()
    step, state = external_step(bags, config)
    assert state.teacher is None
    after, metrics, _ = step(state, jax.tree.map(jnp.asarray, batch))

    def entropy(bag):
        model = nnx.merge(*bag)
        tokens = np.concatenate([batch.teacher_prompt, batch.response[:, :-1]], 1)
        mask = np.concatenate([batch.teacher_prompt_mask, batch.response_mask[:, :-1]], 1)
        states = model.hidden_states(tokens, mask)[:, batch.teacher_prompt.shape[1] - 1 :]
        log_q = jax.nn.log_softmax(states @ model.head())
        per_token = -(jnp.exp(log_q) * log_q).sum(-1)
        return float(jnp.mean(per_token[batch.response_mask]))

    got = float(metrics["self_distillation/teacher_entropy"])
    assert got == pytest.approx(entropy(bags[1]), rel=1e-5)
    # Negative control: the student's own weights say something else.
    assert abs(got - entropy(bags[0])) > 0.1
    jax.tree.map(np.testing.assert_array_equal, after.external, bags[1][1])
    assert after.teacher is None
    assert not np.array_equal(after.params["table"].get_value(), bags[0][1]["table"].get_value())
    parts, _ = external_step(bags, config, micro_batch=2)
    again = init_state(
        fresh(bags[0][1]),
        config.make_optimizer(),
        config.teacher,
        external=fresh(bags[1][1]),
    )
    summed, parted, _ = parts(again, jax.tree.map(jnp.asarray, batch))
    for name in ("loss", "pgpo/information", "optimizer/grad_norm"):
        np.testing.assert_allclose(parted[name], metrics[name], rtol=1e-5)
    np.testing.assert_allclose(
        summed.params["table"].get_value(), after.params["table"].get_value(), atol=1e-6
    )


def test_a_checkpoint_does_not_hold_the_other_model(bags, config, tmp_path):
    _, state = external_step(bags, config)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        saved = checkpoints._checkpointer.checkpointables_metadata(0).metadata["state"]
        restored = checkpoints.restore(free_buffers(state))
    assert not any("external" in name or "teacher" in name for name in saved)
    assert restored.external is state.external
    assert not any(x.is_deleted() for x in jax.tree.leaves(restored))


def test_arrays_of_the_student_are_copied(bags):
    """A model may teach itself: the step donates each array once."""
    params = bags[0][1]
    settings = TeacherConfig(kind="external", model="itself")
    state = init_state(params, PRESETS["tiny"].make_optimizer(), settings, external=params)
    student, teacher = (jax.tree.leaves(part) for part in (state.params, state.external))
    assert all(a is not b for a, b in zip(student, teacher, strict=True))
    jax.tree.map(np.testing.assert_array_equal, student, teacher)


def small(folder):
    return replaced(
        PRESETS["tiny"],
        steps=2,
        checkpoint_every=1,
        rollout={"questions": 2, "samples": 2, "row_buckets": 1},
        evaluation={"every": 2, "questions": 2, "samples": 1, "batch": 2},
        teacher={"kind": "external", "model": str(folder), "rate": 0.05},
    )


def vocabulary_of(folder, size):
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": size}
    (folder / "config.json").write_text(json.dumps(config))


def tokens_of(folder, change):
    values = json.loads((folder / "tokenizer.json").read_text())
    change(values)
    (folder / "tokenizer.json").write_text(json.dumps(values))


def swapped(values):
    vocabulary = values["model"]["vocab"]
    a, b = sorted(vocabulary, key=vocabulary.get)[:2]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]


def without_a_merge(values):
    values["model"]["merges"] = values["model"]["merges"][:-1]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (shutil.rmtree, "No model folder"),
        (lambda folder: vocabulary_of(folder, 640), r"the student's vocabulary of 576 .* got 640"),
        (lambda folder: tokens_of(folder, swapped), "the student's tokenizer, but id 0 is '!' of"),
        (lambda folder: tokens_of(folder, without_a_merge), "its model is another one"),
    ],
)
def test_another_model_that_does_not_fit_is_refused_before_any_work(
    other, tmp_path, monkeypatch, damage, rule
):
    damage(other)

    def loaded(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr("pgpo_jax.training.config._train_config.load_policy", loaded)
    with pytest.raises((ValueError, FileNotFoundError), match=rule) as caught:
        train(small(other), tmp_path / "run")
    assert "other" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_no_model_is_loaded_where_questions_or_engine_are_bad(other, tmp_path, monkeypatch):
    loaded = []

    def noted(name, **_):
        loaded.append(name)
        raise ValueError("loaded")

    monkeypatch.setattr("pgpo_jax.training.config._train_config.load_policy", noted)
    config = small(other)
    for bad, rule in (
        ({"task": str(tmp_path / "none.jsonl")}, "no question file"),
        ({"engine": {"name": "sgl"}}, r"EngineConfig.name must be one of .*, got 'sgl'"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=rule):
            train(replaced(config, **bad), tmp_path / "run")
        assert not loaded
    # Negative control: where both are good, the student is the first that is loaded.
    with pytest.raises(ValueError, match="loaded"):
        train(config, tmp_path / "run")
    assert loaded == ["tiny"]


def test_settings_that_contradict_are_refused():
    with pytest.raises(ValueError, match="model must name another model with kind 'external'"):
        TeacherConfig(kind="external")
    for kind in ("ema", "live", "frozen", "trust_region"):
        with pytest.raises(ValueError, match=f"kind must be 'external' with model 'x'.*{kind}'"):
            TeacherConfig(kind=kind, model="x")
    with pytest.raises(ValueError, match=r"rate must be left at 0\.05 .* not averaged, got 0\.1"):
        TeacherConfig(kind="external", rate=0.1, model="x")


class Sums:
    def questions(self, split, seed):
        return [Question("one", "sums", "", "1 + 1?", "2")] if split == "train" else []

    def grade(self, question, response):
        return Grade(1.0, response)


def test_a_trainer_takes_both_or_neither(other):
    optimizer, rollout = PRESETS["tiny"].make_optimizer(), RolloutConfig(questions=1, row_buckets=1)
    taught = SDPO(teacher=TeacherConfig(kind="external", model=str(other)))
    with pytest.raises(ValueError, match="got such an objective without a model"):
        Trainer(load_policy("tiny"), Sums(), taught, optimizer, rollout=rollout)
    with pytest.raises(ValueError, match="got a model without such a teacher"):
        Trainer(
            load_policy("tiny"),
            Sums(),
            SDPO(),
            optimizer,
            teacher=load_policy(str(other)),
            rollout=rollout,
        )
    tokens_of(other, without_a_merge)
    with pytest.raises(ValueError, match="its model is another one"):
        Trainer(
            load_policy("tiny"),
            Sums(),
            taught,
            optimizer,
            teacher=load_policy(str(other)),
            rollout=rollout,
        )


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_teacher_only(other, tmp_path):
    config = small(other)
    train(dataclasses.replace(config, steps=1), tmp_path / "parts")
    # Its place is no part of what it is.
    moved = other.rename(tmp_path / "elsewhere")
    train(small(moved), tmp_path / "parts", resume=True)
    train(small(moved), tmp_path / "whole")
    lines = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("parts", "whole")]
    assert [json.loads(x) for x in lines[0].splitlines() if '"loss"' in x] == [
        json.loads(x) for x in lines[1].splitlines() if '"loss"' in x
    ]
    with Checkpoints((tmp_path / "whole/checkpoints").resolve()) as checkpoints:
        record = checkpoints.inputs()
    assert record["teacher"]["weights"] != record["weights"]
    assert record["teacher"]["model_files"].keys() >= {"config.json", "tokenizer.json"}
    model = load_pretrained(moved)
    model.layers.q_proj[...] = model.layers.q_proj[...] + 1.0
    (moved / "model.safetensors").unlink()
    kept = (moved / "config.json").read_text()
    (moved / "config.json").unlink()
    save_pretrained(model, moved, dtype="float32")
    (moved / "config.json").write_text(kept)
    longer = dataclasses.replace(small(moved), steps=3)
    with pytest.raises(ValueError, match=r"other weights than those of the teacher '.*elsewhere'"):
        train(longer, tmp_path / "whole", resume=True)
    with pytest.raises(ValueError, match=r"teacher whose weights the run keeps, .* 'external'"):
        _export.main(
            [str(tmp_path / "whole"), "--weights", "teacher", "--output", str(tmp_path / "out")]
        )
    _export.main([str(tmp_path / "whole"), "--output", str(tmp_path / "out")])


def test_what_differs_of_a_teacher_is_named():
    side = {"weights": "a", "model_files": {"tokenizer.json": "1"}, "end_tokens": [3]}
    config = {"model": "m", "teacher": {"kind": "external", "model": "t"}}
    record = {"format": 1, "config": config, "teacher": side}
    check_inputs(record, record, "here")
    for changed, rule in (
        ({"weights": "b"}, r"than those of the teacher 't': .* a, now b.*--teacher\.model"),
        ({"model_files": {}}, r"another tokenizer\.json than that of the teacher 't'"),
        ({"end_tokens": [4]}, r"other end tokens of the teacher 't'"),
    ):
        with pytest.raises(ValueError, match=rule):
            check_inputs(record, record | {"teacher": side | changed}, "here")


def test_its_place_is_stored_absolute_and_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    teacher = TeacherConfig(kind="external", model="other")
    assert with_absolute_paths(TrainConfig(teacher=teacher)).teacher.model == f"{tmp_path}/other"
    for name in ("tiny", "Qwen/Qwen3-8B"):
        kept = TrainConfig(teacher=dataclasses.replace(teacher, model=name))
        assert with_absolute_paths(kept).teacher.model == name
    assert with_absolute_paths(TrainConfig()).teacher.model is None
    assert same_but_for_place("teacher.model", "a", "b")
    assert not same_but_for_place("teacher.model", None, "b")


def test_the_plan_counts_the_other_model(tmp_path, capsys, monkeypatch):
    file, paper = tmp_path / "config.json", PRESETS["paper-qwen3-8b"]
    file.write_text(json.dumps(SMALL_QWEN3.to_dict()))
    shape = QWEN3_SHAPES["Qwen3-8B"]
    taught = replaced(paper, teacher={"kind": "external", "model": str(file)})
    own, other = (memory_plan(c, shape, compiled=False).resident for c in (paper, taught))
    small = load_bytes(SMALL_QWEN3)
    assert other["teacher"] == small
    assert own["teacher"] == own["trained weights"] > 1000 * small
    large = replaced(paper, teacher={"kind": "external", "model": "Qwen3-8B"})
    assert memory_plan(large, shape, compiled=False).resident["teacher"] == own["teacher"]
    assert run_flops(large, shape) == run_flops(paper, shape) > 1.1 * run_flops(taught, shape)
    with pytest.raises(FileNotFoundError, match="'nowhere' is no folder"):
        plan_command.main(
            ["--model", str(file), "--teacher.kind", "external", "--teacher.model", "nowhere"]
        )


def load_bytes(shape):
    kernels = shape.hidden_size * shape.head_dim * 2
    kernels *= shape.num_attention_heads + shape.num_key_value_heads
    kernels += 3 * shape.hidden_size * shape.intermediate_size
    norms = 2 * shape.hidden_size + 2 * shape.head_dim
    total = shape.num_hidden_layers * (kernels + norms)
    return 4 * (total + shape.hidden_size * (shape.vocab_size + 1))


@pytest.mark.slow
def test_the_planned_step_takes_the_other_model(tmp_path, small_config):
    file = tmp_path / "config.json"
    thin = dataclasses.replace(SMALL_QWEN3, num_hidden_layers=1)
    file.write_text(json.dumps(thin.to_dict()))
    config = replaced(
        small_config,
        teacher={"kind": "external", "model": str(file), "max_prompt": 8},
        rollout={"max_prompt": 8, "max_response": 8},
    )
    state = abstract_state(config, SMALL_QWEN3, None)
    assert state.external["layers"]["q_proj"].shape[0] == 1
    assert state.params["layers"]["q_proj"].shape[0] == 2
    assert abstract_experience(config, None).teacher_prompt.shape == (8, 8)
    plan = memory_plan(config, SMALL_QWEN3)
    assert plan.update["activations and work space"] > 0


@pytest.mark.parametrize("objective", ["grpo", "sft"])
def test_an_objective_without_a_teacher_takes_no_other_model(small_config, monkeypatch, objective):
    def loaded(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr("pgpo_jax.training.config._train_config.load_policy", loaded)
    settings = {"objective": objective, "rollout": {"samples": 1 if objective == "sft" else 2}}
    teacher = {"kind": "external", "model": "another"}
    with pytest.raises(ValueError, match=f"must be unset with objective '{objective}'.*'another'"):
        replaced(small_config, teacher=teacher, **settings).make_objective()
    # The control: without the model it is made.
    assert replaced(small_config, **settings).make_objective()
