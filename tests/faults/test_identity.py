"""A run goes on with what it was made from: weights, questions, configuration, versions."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pgpo_jax.cli import main
from pgpo_jax.tasks import (
    Question,
    absolute_grader,
    absolute_object,
    absolute_task,
    load_task,
    make_grader,
)
from pgpo_jax.training import (
    EngineConfig,
    EvaluationConfig,
    LoRAConfig,
    TrainConfig,
    load_policy,
    model_folder,
    read_jsonl,
    train,
)
from pgpo_jax.training.config._places import with_absolute_paths
from pgpo_jax.training.rollout._held_out import held_out_questions
from pgpo_jax.training.run._check_inputs import check_inputs
from pgpo_jax.training.run._inputs import (
    model_inputs,
    question_inputs,
    run_inputs,
)
from tests.training.conftest import replaced
from tests.training.test_loop import Scripted
from tests.training.test_train import SMALL, contents

RECORD = "_CHECKPOINT_METADATA"
PARTS = {
    "weights": "aa",
    "model_files": {"tokenizer.json": "bb"},
    "end_tokens": [7],
    "questions": {"count": 3, "digest": "cc"},
    "held_out_questions": {"count": 1, "digest": "dd"},
}


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run with a checkpoint after its second step; it is resumed by a call."""
    monkeypatch.setattr("pgpo_jax.training.run._loop.question_row", lambda question: {"id": "q"})

    def run(script="++", *, resume=False, **parts):
        made = Scripted(script, tmp_path)
        made.parts = PARTS | parts
        return made.run(resume=resume)

    run()
    run.folder = tmp_path
    return run


def record_of(folder, step):
    return json.loads((folder / "checkpoints" / str(step) / RECORD).read_text())["custom_metadata"]


def edit_record(folder, step, change):
    path = folder / "checkpoints" / str(step) / RECORD
    values = json.loads(path.read_text())
    change(values["custom_metadata"])
    path.write_text(json.dumps(values))


def test_the_record_says_what_the_run_was_made_from(stopped):
    inputs = record_of(stopped.folder, 2)["inputs"]
    assert {name: inputs[name] for name in PARTS} == PARTS
    assert inputs["config"] == {"a": 1}
    assert {"python", "jax", "flax", "optax", "pgpo-jax", "device"} <= inputs["versions"].keys()


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("weights", "ab", r"from other weights than those of None: their digest was aa, now ab"),
        ("model_files", {"tokenizer.json": "bc"}, r"with another tokenizer\.json than that"),
        ("model_files", {}, r"with another tokenizer\.json than that"),
        ("end_tokens", [7, 8], r"with other end tokens of None: they were \[7\], now \[7, 8\]"),
        ("questions", {"count": 4, "digest": "ce"}, r"with other questions .*were 3 .*cc.*, now 4"),
        ("held_out_questions", {"count": 1, "digest": "de"}, r"with other held-out questions"),
    ],
)
def test_other_inputs_are_refused_by_name(stopped, part, value, told):
    before = (stopped.folder / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match=rf"^checkpoint 2 in .* was made {told}"):
        stopped("+++", resume=True, **{part: value})
    # Nothing was lost, and the right ones go on.
    assert (stopped.folder / "metrics.jsonl").read_text() == before
    assert int(stopped("+++", resume=True).step) == 3


def test_a_configuration_that_was_edited_is_refused_by_field(stopped):
    """Both the file and what it is resumed with say 2."""
    path = stopped.folder / "config.json"
    path.write_text(path.read_text().replace("1", "2"))
    run = Scripted("+++", stopped.folder)
    run.parts = PARTS
    with pytest.raises(ValueError, match=r"with another configuration: a was 1, now 2\. If config"):
        edited_run(run)
    path.write_text(path.read_text().replace("2", "1"))
    assert int(stopped("+++", resume=True).step) == 3


def edited_run(run):
    from pgpo_jax.training.run._loop import fit

    loop = getattr(fit, "__wrapped__", fit)
    return loop(run, run.folder, run.settings, {"a": 2}, resume=True)


def test_other_versions_are_warned_of_by_name(stopped, caplog):
    assert int(stopped("+++", resume=True).step) == 3
    assert not caplog.text  # negative control

    def older(record):
        record["inputs"]["versions"] |= {"jax": "0.0.1", "python": "3.0"}

    edit_record(stopped.folder, 3, older)
    assert int(stopped("++++", resume=True).step) == 4
    assert "jax 0.0.1 (now " in caplog.text
    assert "was made with python 3.0 (now " in caplog.text
    assert "flax" not in caplog.text


def test_a_checkpoint_without_a_record_is_resumed_with_one_warning(stopped, caplog):
    edit_record(stopped.folder, 2, lambda record: record.pop("inputs"))
    assert int(stopped("+++", resume=True, weights="ab").step) == 3
    assert caplog.text.count("was not recorded") + caplog.text.count("did not record") == 1
    caplog.clear()
    # From the next checkpoint on there is one.
    with pytest.raises(ValueError, match="from other weights"):
        stopped("++++", resume=True)
    assert "did not record" not in caplog.text


def test_without_a_record_model_and_task_are_compared_by_name(stopped):
    edit_record(stopped.folder, 2, lambda record: record.pop("inputs"))
    path = stopped.folder / "config.json"
    path.write_text(json.dumps({"a": 1, "model": "x/base"}))
    from pgpo_jax.training.run._loop import fit

    loop = getattr(fit, "__wrapped__", fit)
    run = Scripted("+++", stopped.folder)
    with pytest.raises(ValueError, match=r"model was 'x/base', now '/home/y/base'"):
        loop(run, run.folder, run.settings, {"a": 1, "model": "/home/y/base"}, resume=True)
    assert json.loads(path.read_text())["model"] == "x/base"
    run = Scripted("+++", stopped.folder)
    loop(run, run.folder, run.settings, {"a": 1, "model": "/home/x/base"}, resume=True)
    assert json.loads(path.read_text())["model"] == "/home/x/base"


def test_own_files_that_changed_are_warned_of(tmp_path, caplog):
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def brief(question, response): return 1.0")
    config = {"grader": {"name": f"exact=0.5,{rewards}:brief=0.5"}, "objective": "sdpo"}
    saved = run_inputs(config, {})
    assert list(saved["code"]) == ["rewards.py"]
    check_inputs(saved, run_inputs(config, {}), "it")
    assert not caplog.text
    rewards.write_text("def brief(question, response): return 0.0")
    check_inputs(saved, run_inputs(config, {}), "it")
    assert "it was made with another content of rewards.py" in caplog.text


QUESTION = Question("q-0", "physics", "Be brief.", "1 + 1?", "2", columns={"level": 3})


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Be long."},
        {"prompt": "1 + 2?"},
        {"answer": "3"},
        {"solution": "Count."},
        {"columns": {"level": 4}},
    ],
)
def test_what_a_question_says_is_its_identity(change):
    rows = [QUESTION, dataclasses.replace(QUESTION, id="q-1", prompt="2 + 2?", answer="4")]
    base = question_inputs(rows, rows[:1])
    other = [dataclasses.replace(QUESTION, **change), rows[1]]
    assert question_inputs(other, rows[:1])["questions"] != base["questions"]
    assert question_inputs(rows[::-1], rows[:1])["questions"] != base["questions"]
    assert question_inputs(rows, other[:1])["held_out_questions"] != base["held_out_questions"]
    # Negative control: where the file lies gives id and domain.
    moved = [dataclasses.replace(row, id=f"b-{row.id}", domain="b") for row in rows]
    assert question_inputs(moved, moved[:1]) == base


def test_endless_questions_are_told_apart():
    physics, all_kinds = (load_task(f"synthetic:{name}") for name in ("physics", "all"))
    one = question_inputs(physics.questions("train", 0), ())
    assert one["questions"]["count"] == "endless"
    assert one == question_inputs(load_task("synthetic:physics").questions("train", 0), ())
    assert one != question_inputs(physics.questions("train", 1), ())
    assert one != question_inputs(all_kinds.questions("train", 0), ())


def test_worked_solutions_do_not_change_the_identity_of_synthetic_questions():
    """The digests are those of 9bc426f, whose questions had no solution or demonstration."""
    task = load_task("synthetic:all")
    held_out = held_out_questions(task, EvaluationConfig(questions=4))
    inputs = question_inputs(task.questions("train", 0), held_out)
    assert inputs["questions"] == {"count": "endless", "digest": "9c57a02ddca62763"}
    former = {"count": 4, "digest": "bb4e948a740cff89"}
    assert inputs["held_out_questions"] == former
    # Negative control: what the solutions say counts for questions of which it does not follow.
    assert question_inputs((), list(held_out))["held_out_questions"] != former


@pytest.fixture
def base(tmp_path):
    """A copy of the shipped model."""
    shutil.copytree(model_folder("tiny"), tmp_path / "base")
    return tmp_path / "base"


def perturb(folder):
    """Other weights of the same shapes."""
    rng = np.random.default_rng(0)
    weights = load_file(folder / "model.safetensors")
    noisy = {k: (v + 0.05 * rng.normal(size=v.shape)).astype(v.dtype) for k, v in weights.items()}
    save_file(noisy, folder / "model.safetensors")


def identity(name, dtype="float32"):
    policy, weights = load_policy(str(name), param_dtype=dtype)
    return model_inputs(weights, policy.folder, policy.eos_ids)


def test_a_model_is_told_by_its_weights_and_files(base):
    shipped = identity("tiny")
    assert identity(base) == shipped
    assert identity(base, jnp.bfloat16)["weights"] != shipped["weights"]
    # The layout of a JSON file, and what a library notes in it, are not its content.
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"transformers_version": "9"}))
    assert identity(base) == shipped
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert identity(base)["model_files"] != shipped["model_files"]
    perturb(base)
    assert identity(base)["weights"] != shipped["weights"]


def test_paths_are_stored_absolute_and_names_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "org" / "here").mkdir(parents=True)
    (tmp_path / "a=b").mkdir()
    rewards = "def brief(question, response): return 1.0"
    for place in (".", "a=b"):
        (tmp_path / place / "rewards.py").write_text(rewards)
    config = TrainConfig(model="org/here", task="data/train.json", eval_task="~/test.jsonl")
    stored = with_absolute_paths(config)
    assert stored.model == str(tmp_path / "org" / "here")
    assert stored.task == str(tmp_path / "data" / "train.json")
    assert stored.eval_task == str(tmp_path / "home" / "test.jsonl")
    assert with_absolute_paths(stored) == stored
    engine = EngineConfig(name="vllm", folder="weights")
    held = with_absolute_paths(TrainConfig(engine=engine)).engine
    assert (held.name, held.folder) == ("vllm", f"{tmp_path}/weights")
    assert with_absolute_paths(TrainConfig()).engine.folder is None
    assert with_absolute_paths(TrainConfig(model="Qwen/Qwen3-8B")).model == "Qwen/Qwen3-8B"
    assert absolute_task("openai/gsm8k") == "openai/gsm8k"
    assert absolute_object("rewards.py:brief") == f"{tmp_path}/rewards.py:brief"
    for name in ("rewards.py:brief", "exact=0.8,rewards.py:brief=0.2", "exact"):
        assert absolute_grader(name) == name.replace("rewards", f"{tmp_path}/rewards")
        make_grader(absolute_grader(name))
    # A path that could not be read back stays.
    assert absolute_grader("a=b/rewards.py:brief=1") == "a=b/rewards.py:brief=1"


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Twelve questions in a file, with a file of held-out ones."""
    folder = tmp_path_factory.mktemp("questions")
    source = load_task("synthetic:physics")
    for split, count in (("train", 12), ("test", 4)):
        rows = source.questions(split, 0)
        lines = [
            json.dumps(
                {"system": q.system, "question": q.prompt, "answer": q.answer, "kind": q.kind}
            )
            for q in (rows[i] for i in range(count))
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_a_run_goes_on_and_is_exported_from_another_folder(questions, base, tmp_path, monkeypatch):
    """The model and the questions by relative paths, then moved; the numbers are the same."""
    home = tmp_path / "home"
    shutil.copytree(questions, home / "data")
    shutil.copytree(base, home / "base")
    monkeypatch.chdir(home)
    config = replaced(
        SMALL,
        model="base",
        task="data/train.jsonl",
        lora=dataclasses.asdict(LoRAConfig(rank=2)),
        rollout={"max_prompt": 128, "smallest_bucket": 128},
    )
    train(config, "unbroken")
    train(replaced(config, steps=2), "run")
    stored = json.loads(Path("run/config.json").read_text())
    assert (stored["model"], stored["task"]) == (f"{home}/base", f"{home}/data/train.jsonl")
    # Elsewhere, all of it: the run folder, the model and the questions.
    there = tmp_path / "there"
    there.mkdir()
    for name in ("run", "base", "data"):
        shutil.move(home / name, there / name)
    monkeypatch.chdir(tmp_path)
    places = ["--model", "there/base", "--task", "there/data/train.jsonl"]
    arguments = ["train", "--output", "there/run", "--resume", "--steps", "4"]
    assert main(arguments) == 2  # the model is not where it was
    assert main([*arguments, *places]) == 0
    assert contents(there / "run") == contents(home / "unbroken")
    # From now on it is there.
    assert json.loads((there / "run" / "config.json").read_text())["model"] == f"{there}/base"
    assert main(["export", "there/run", "--output", "exported"]) == 0
    (there / "base").rename(tmp_path / "moved")
    assert main(["export", "there/run", "--output", "again", "--model", "moved"]) == 0
    files = [Path(name) / "model.safetensors" for name in ("exported", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_other_weights_questions_and_settings_are_refused(questions, base, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(questions, data)
    config = replaced(
        SMALL,
        steps=2,
        model=str(base),
        task=str(data / "train.jsonl"),
        lora=dataclasses.asdict(LoRAConfig(rank=2)),
        rollout={"max_prompt": 128, "smallest_bucket": 128},
    )
    run = tmp_path / "run"
    train(config, run)
    resume = ["train", "--output", str(run), "--resume", "--steps", "3"]

    def refused(*arguments):
        assert main(list(arguments)) == 2
        return capsys.readouterr().err

    # The answers of the questions.
    path = data / "train.jsonl"
    kept = path.read_text()
    path.write_text(kept.replace('"answer": "A"', '"answer": "B"'))
    assert path.read_text() != kept
    assert "other questions than those of the task" in refused(*resume)
    path.write_text(kept)
    # The rate, edited in the file, with a bare --resume.
    path = run / "config.json"
    kept = path.read_text()
    path.write_text(kept.replace('"learning_rate": 0.00015', '"learning_rate": 1.0'))
    assert "optimizer.learning_rate was 0.00015, now 1.0" in refused(*resume)
    path.write_text(kept)
    # The weights, of the same shapes.
    shutil.copytree(base, tmp_path / "kept")
    perturb(base)
    assert "from other weights than those of" in refused(*resume)
    out = tmp_path / "out"
    assert "from other weights" in refused("export", str(run), "--output", str(out))
    assert not out.exists()
    assert len(read_jsonl(run / "metrics.jsonl")) == 4
    # Negative control: with the former weights both work.
    model = ["--model", str(tmp_path / "kept")]
    assert main(["export", str(run), "--output", str(out), *model]) == 0
    assert main([*resume, *model]) == 0
