"""Tasks by name: of files, synthetic, and one's own."""

import json
import sys
import textwrap

import pytest

from pgpo_jax.errors import PGPOError
from pgpo_jax.tasks import (
    ColumnsConfig,
    FileTask,
    Grade,
    Question,
    SyntheticTask,
    Task,
    held_out_spec,
    load_questions,
    load_task,
)


def write(path, *texts):
    rows = [{"question": text, "answer": "2"} for text in texts]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def half(question, response):
    return Grade(0.5, question.answer + response)


def prompts(task, split):
    return [question.prompt for question in task.questions(split, 0)]


@pytest.fixture
def own(tmp_path):
    """Writes a file with a task and gives its spec."""

    def spec(body, name="Own"):
        path = tmp_path / "own.py"
        head = "from pgpo_jax.tasks import Grade, Question\nq = Question('1', '', '', '?', '2')\n"
        path.write_text(head + textwrap.dedent(body))
        return f"{path}:{name}"

    return spec


def test_a_file_task(tmp_path):
    spec = write(tmp_path / "q.jsonl", "a", "b")
    task = load_task(spec)
    assert isinstance(task, FileTask)
    assert isinstance(task, Task)
    assert prompts(task, "train") == ["a", "b"]
    assert prompts(task, "test") == []
    question = task.questions("train", 0)[0]
    assert [task.grade(question, text).score for text in ("<answer>2</answer>", "3")] == [1, 0]
    with pytest.raises(ValueError, match="split must be one of"):
        task.questions("validation", 0)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_the_file_test_beside_train_is_held_out(tmp_path, suffix):
    train = write(tmp_path / f"train{suffix}", "a")
    write(tmp_path / "test.other", "no")
    assert held_out_spec(train) is None
    assert prompts(FileTask(train), "test") == []
    test = write(tmp_path / f"test{suffix}", "b")
    assert prompts(FileTask(train), "test") == ["b"]
    assert held_out_spec(train) == test
    # Only a file called train has one.
    assert prompts(FileTask(write(tmp_path / f"q{suffix}", "a")), "test") == []
    assert prompts(FileTask(test), "test") == []


def test_a_file_is_read_once(tmp_path):
    spec = write(tmp_path / "train.jsonl", "a")
    write(tmp_path / "test.jsonl", "b")
    task = load_task(spec)
    before = prompts(task, "train"), prompts(task, "test")
    write(tmp_path / "train.jsonl", "changed")
    write(tmp_path / "test.jsonl", "changed")
    assert (prompts(task, "train"), prompts(task, "test")) == before == (["a"], ["b"])
    assert prompts(load_task(spec), "train") == ["changed"]


def test_eval_spec_goes_before_the_file_beside(tmp_path):
    train, other = write(tmp_path / "train.jsonl", "a"), write(tmp_path / "other.jsonl", "c")
    write(tmp_path / "test.jsonl", "b")
    assert prompts(load_task(train, eval_spec=other), "test") == ["c"]
    assert prompts(load_task(train, eval_spec=other), "train") == ["a"]
    assert held_out_spec(train, other) == other
    synthetic = load_task(train, eval_spec="synthetic:physics").questions("test", 3)
    assert synthetic[0] == load_questions("synthetic:physics", split="test", seed=3)[0]


def test_columns_and_grader_reach_both_files(tmp_path):
    for name in ("train", "other"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"q": name, "a": 1}))
    columns = ColumnsConfig(question="q", answer="a")
    task = load_task(
        str(tmp_path / "train.jsonl"),
        eval_spec=str(tmp_path / "other.jsonl"),
        columns=columns,
        grader=half,
    )
    assert (prompts(task, "train"), prompts(task, "test")) == (["train"], ["other"])
    assert task.grade(task.questions("test", 0)[0], "!") == Grade(0.5, "1!")


def test_columns_do_not_hinder_a_synthetic_source_beside_a_file(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"q": "c", "answer": 1}')
    file, columns = str(tmp_path / "q.jsonl"), ColumnsConfig(question="q")
    mixed = load_task(file, eval_spec="synthetic:physics", columns=columns)
    assert mixed.questions("test", 0)[0].domain == "physics"
    mixed = load_task("synthetic:physics", eval_spec=file, columns=columns)
    assert prompts(mixed, "test") == ["c"]
    with pytest.raises(ValueError, match="no column could hold the question"):
        load_task("synthetic:physics", eval_spec=file).questions("test", 0)


def test_a_synthetic_task(tmp_path):
    task = load_task("synthetic:physics")
    assert isinstance(task, SyntheticTask)
    assert isinstance(task, Task)
    for split in ("train", "test"):
        questions = task.questions(split, 5)
        assert len(questions) == sys.maxsize
        assert questions[3] == load_questions("synthetic:physics", split=split, seed=5)[3]
    question = questions[0]
    assert task.grade(question, f"<answer>{question.answer}</answer>").score == 1
    assert load_task("synthetic:physics", grader=half).grade(question, "").score == 0.5
    other = write(tmp_path / "other.jsonl", "c")
    assert prompts(load_task("synthetic:physics", eval_spec=other), "test") == ["c"]
    with pytest.raises(ValueError, match="domain must be one of"):
        load_task("synthetic:alchemy")
    with pytest.raises(ValueError, match="must be a synthetic source"):
        SyntheticTask(other)


def test_what_is_held_out_by_name():
    assert held_out_spec("synthetic:all") == "synthetic:all"
    assert held_out_spec("own.py:Own") == "own.py:Own"
    assert held_out_spec("hf:org/sums") == "hf:org/sums"
    assert held_out_spec("elsewhere/train.parquet") == "elsewhere/test.parquet"
    assert held_out_spec("elsewhere/q.jsonl") is None


OWN = """
class Own:
    def questions(self, split, seed):
        return [Question(f"{split}-{seed}", "", "", "?", "2")]
    def grade(self, question, response):
        return Grade(0.25, feedback="Count.")
made = Own()
"""


@pytest.mark.parametrize("name", ["Own", "made"])
def test_a_task_of_your_own(own, name):
    spec = own(OWN, name)
    task = load_task(spec)
    (question,) = task.questions("test", 4)
    assert question.id == "test-4"
    assert task.grade(question, "") == Grade(0.25, "", "Count.")
    graded = load_task(spec, grader=half)
    assert graded.questions("test", 4) == [question]
    assert graded.grade(question, "").score == 0.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Own = 3", r"must be a task.*questions and grade missing, got 3"),
        ("class Own:\n    def questions(self, split, seed): return [q]", "grade missing"),
        (OWN.replace("return [Q", "return [] and [Q"), "a task without questions"),
        (OWN.replace("return [Q", "return () and [Q"), "a task without questions"),
        (
            OWN.replace("return [Q", "return None and [Q"),
            "must be a sequence of Question, got None",
        ),
        (OWN.replace("return [Q", "return iter([q]) or [Q"), "sequence of Question, got list_iter"),
        (OWN.replace("return [Q", "return [q, 'text'] or [Q"), "got str at position 1"),
        (OWN.replace("return [Q", "return 'text' or [Q"), "got str at position 0"),
        (
            OWN.replace("class Own:", "class Own:\n    def __init__(self, n): ...").replace(
                "made = Own()", ""
            ),
            "no arguments.*'n'",
        ),
    ],
)
def test_what_is_no_task(own, body, message):
    with pytest.raises(PGPOError, match=message):
        load_task(own(body))


def test_a_name_that_is_missing(own):
    with pytest.raises(PGPOError, match="does not define 'Other'"):
        load_task(own(OWN, "Other"))


def test_settings_that_a_task_of_your_own_cannot_take(own, tmp_path):
    spec, file = own(OWN), write(tmp_path / "q.jsonl", "a")
    with pytest.raises(ValueError, match="eval_spec must not be given"):
        load_task(spec, eval_spec=file)
    with pytest.raises(ValueError, match="columns must not be given"):
        load_task(spec, columns=ColumnsConfig(answer="a"))
    with pytest.raises(ValueError, match="eval_spec must be a source"):
        load_task(file, eval_spec=spec)
    with pytest.raises(ValueError, match=r"FileTask\.spec must be"):
        FileTask(spec)


def test_errors_of_a_task_of_your_own_keep_their_class(own):
    with pytest.raises(ZeroDivisionError):
        load_task(own(OWN.replace("return [Q", "return [1 / 0] or [Q")))


def test_questions_that_are_made_as_asked_for_are_made_once(own):
    body = """
    class Endless:
        asked = []
        def __len__(self): return 1000
        def __getitem__(self, i):
            self.asked.append(i)
            return q
    class Own:
        def questions(self, split, seed): return Endless()
        def grade(self, question, response): return Grade(0.0)
    """
    task = load_task(own(body))
    assert set(task.questions("train", 0).asked) == {0}
    assert isinstance(task.questions("train", 0)[5], Question)
