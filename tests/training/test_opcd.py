"""On-policy context distillation: the context of a task, its loss, runs and refusals."""

import dataclasses

import pytest

from pgpo_jax.tasks import Message, Question, experience_items, experience_prompt
from pgpo_jax.training import (
    OPCD,
    PRESETS,
    LoRAConfig,
    TeacherConfig,
    TrainConfig,
    read_jsonl,
    train,
    with_published,
)
from pgpo_jax.training.config._places import same_but_for_place, with_absolute_paths
from pgpo_jax.training.run._check_inputs import check_inputs
from tests.training.conftest import random_experience, replaced
from tests.training.test_family import (
    answered as answered_by,
    assert_same,
    make,
    of_objective,
    one_step,
)

LIST = "I looked.\n- EXPERIENCE ITEM: Carry the one.\n- EXPERIENCE ITEM: Add {units} first.\n - no"
ITEMS = ("- EXPERIENCE ITEM: Carry the one.", "- EXPERIENCE ITEM: Add {units} first.")


@pytest.fixture
def teacher(tmp_path):
    (tmp_path / "list.txt").write_text(LIST)
    return TeacherConfig(kind="frozen", experience=str(tmp_path / "list.txt"))


def test_the_words_of_the_context():
    question = Question("q1", "sums", "", "5 + 7?", "12")
    assert experience_items(LIST) == ITEMS
    assert experience_prompt(question, ITEMS) == (
        "Given previous learned experience:\n# Experience\n- EXPERIENCE ITEM: Carry the one.\n"
        "- EXPERIENCE ITEM: Add {units} first.\n\nSolve the new problem and explain what part of "
        "experience you use and how you use it in the reasoning process:\n5 + 7?"
    )
    assert "# Experience\nNo previous experience.\n\n" in experience_prompt(question, ())


@pytest.mark.parametrize(
    ("changes", "value", "gradient"),
    [
        (
            {"k": 2},
            0.211358742,
            (0.087096652, -0.102292233, -0.037631209, 0.052826790, 0.085755977),
        ),
        ({"k": 2, "support": "topk"}, 0.019200367, (0.0, 0.0, 0.0, 0.0, 0.068635272)),
        (
            {"support": "full", "temperature": 0.6},
            0.367091742,
            (0.160942549, -0.206766307, -0.024121586, 0.069945344, 0.101657151),
        ),
    ],
)
def test_the_loss_is_that_of_the_formula(x64, changes, value, gradient):
    """Through the objective and the fused head; the plain path is in tests/core."""
    temperature = changes.pop("temperature", 1.0)
    config = replaced(with_published(TrainConfig(), "opcd"), loss=changes | {"rollout_clip": None})
    found = of_objective(config.make_objective(), temperature=temperature)
    assert abs(found[0] - value) < 1e-9
    assert max(abs(a - b) for a, b in zip(found[1], gradient, strict=True)) < 1e-9
    # The control: with tails it is another one.
    other = replaced(config, loss={"support": "topk_tail", "k": 2})
    found = of_objective(other.make_objective(), temperature=temperature)
    assert abs(found[0] - value) > 1e-4


def test_the_teacher_reads_the_context_and_the_student_does_not(teacher, tmp_path):
    objective = OPCD(teacher)
    trainer = make(objective)
    rollout = answered_by(trainer, ["1", "no", "no", "no"])
    lesson = objective.prepare(rollout)
    assert lesson.kept.all()
    assert all(
        text == experience_prompt(rollout.questions[row // 2], ITEMS)
        for row, text in lesson.teacher_texts.items()
    )
    decode = trainer.policy.tokenizer.decode
    assert all("Carry the one" in decode(ids) for ids in lesson.teacher_prompts.values())
    assert not any("Carry the one" in decode(ids) for ids in rollout.prompts)
    # In SDPO's words, too, and as a system message.
    own = dataclasses.replace(objective, teacher=dataclasses.replace(teacher, template="sdpo"))
    assert all(
        "\nCorrect solution:\n\n- EXP" in x for x in own.prepare(rollout).teacher_texts.values()
    )
    (tmp_path / "system.txt").write_text("Add as at school.\n")
    system = OPCD(TeacherConfig(kind="frozen", system=str(tmp_path / "system.txt")))
    question = dataclasses.replace(rollout.questions[0], system="Be brief.")
    assert system.chat(question) == (
        Message("system", "Add as at school."),
        Message("user", question.prompt),
    )
    # Too long to be read: left out and counted, never cut.
    short = dataclasses.replace(objective, teacher=dataclasses.replace(teacher, max_prompt=8))
    lesson = short.prepare(rollout)
    assert not lesson.kept.any()
    metrics = short.row_metrics(trainer.packed(rollout, lesson)[1], 2)
    assert metrics["self_distillation/dropped_teacher_prompts"] == 4
    assert metrics["self_distillation/reprompt_sample_fraction"] == 0
    assert metrics["self_distillation/experience_items"] == 2


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_micro_batches_are_the_batch(small_model, small_config, rank):
    config = replaced(
        with_published(small_config, "opcd"),
        loss={"k": 5},
        lora=LoRAConfig(rank=rank, base_dtype="float32"),
    )
    batch = random_experience(rows=6, kept=5)
    whole = one_step(small_model, config, batch)
    assert_same(whole, one_step(small_model, config, batch, micro_batch=2))
    assert float(whole[1]["optimizer/grad_norm"]) > 1e-3


def test_bad_contexts_are_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"--teacher\.experience or --teacher\.system, got neither"
    ):
        make(OPCD())
    empty, blank = tmp_path / "empty.txt", tmp_path / "blank.txt"
    empty.write_text("nothing\n")
    blank.write_text(" \n")
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"- EXPERIENCE ITEM: \xff")
    for settings, rule in (
        (
            TeacherConfig(experience=str(empty)),
            r"with lines '- EXPERIENCE ITEM: \.\.\.', none of which",
        ),
        (TeacherConfig(system=str(blank)), "teacher.system must be a file that is not blank"),
        (TeacherConfig(experience=str(odd)), "must be text in UTF-8"),
    ):
        with pytest.raises(ValueError, match=rule):
            make(OPCD(settings))
    with pytest.raises(FileNotFoundError, match=r"teacher\.experience must be a file, got"):
        make(OPCD(TeacherConfig(experience=str(tmp_path / "absent"))))
    with pytest.raises(ValueError, match=r"teacher\.system must be unset with objective 'sdpo'"):
        TrainConfig(teacher=TeacherConfig(system="x"))


def test_the_context_belongs_to_the_run(teacher, tmp_path, monkeypatch):
    """Its place may change, its content may not."""
    first = OPCD(teacher).inputs()
    assert list(first) == ["teacher.experience"]
    (tmp_path / "list.txt").write_text(LIST.replace("one", "two"))
    record = {"format": 1, "config": {}, "objective": first}
    check_inputs(record, record, "here")
    with pytest.raises(ValueError, match=r"another content of teacher\.experience"):
        check_inputs(record, record | {"objective": OPCD(teacher).inputs()}, "here")
    monkeypatch.chdir(tmp_path)
    config = replaced(TrainConfig(objective="opcd"), teacher={"experience": "list.txt"})
    assert with_absolute_paths(config).teacher.experience == f"{tmp_path}/list.txt"
    assert same_but_for_place("teacher.experience", "a", "b")
    assert not same_but_for_place("teacher.experience", None, "b")


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(teacher, tmp_path):
    config = with_published(PRESETS["tiny"], "opcd")
    config = replaced(
        config,
        teacher={"experience": teacher.experience},
        rollout={"questions": 2, "samples": 2, "row_buckets": 1, "max_response": 12},
        evaluation={"questions": 2, "samples": 1},
        trackers=(),
    )
    train(replaced(config, steps=2), tmp_path / "whole")
    train(replaced(config, steps=1), tmp_path / "parts")
    train(replaced(config, steps=2), tmp_path / "parts", resume=True)

    def steps(name):
        rows = read_jsonl(tmp_path / name / "metrics.jsonl")
        return [row for row in rows if "loss" in row]

    assert steps("whole") == steps("parts")
    assert len(steps("whole")) == 2
    (tmp_path / "list.txt").write_text(LIST.replace("one", "two"))
    with pytest.raises(ValueError, match=r"another content of teacher\.experience"):
        train(replaced(config, steps=3), tmp_path / "parts", resume=True)
