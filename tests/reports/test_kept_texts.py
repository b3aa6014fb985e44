"""What a run keeps is read back; what no run writes is refused by file and line."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.reports import read_questions, read_run, read_texts
from pgpo_jax.reports._groups import by_kind
from pgpo_jax.reports._highlights import level, most_informative, teacher_parts
from pgpo_jax.reports._kept_row import parse_text
from pgpo_jax.tasks import Grade, Message, Question

DATA = Path(__file__).parent / "data"
RUN = DATA / "texts"


@pytest.fixture
def run(tmp_path):
    """A copy of a recorded run, to be damaged."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


@pytest.fixture
def row():
    """A training row of the recorded run."""
    lines = (RUN / "texts.jsonl").read_text().splitlines()
    return next(row for row in map(json.loads, lines) if "information" in row)


def rewrite(run, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "texts.jsonl").write_text(text)


def test_a_recorded_run_is_read():
    texts = read_texts(RUN)
    assert texts.steps() == [0, 1, 5, 7, 8]
    assert texts.steps("test") == [0, 8]
    (first, second), answers = list(texts.rows(1, "train")), list(texts.rows(0))
    assert first.question.id != second.question.id
    assert first.tokens[:2] == ("<reasoning>", "Take")
    assert first.numbers["information"][2] == 1.081
    assert {len(values) for values in first.numbers.values()} == {len(first.tokens)}
    assert "Correct solution" in (first.teacher_prompt or "")
    assert all(kept.split == "test" and not kept.tokens for kept in answers)
    untrained = [kept for kept in texts.rows(7) if not kept.numbers]
    assert len(untrained) == 1
    assert untrained[0].tokens
    assert untrained[0].teacher_prompt is None
    assert [kept.split for kept in texts.rows(8)] == ["train", "train", "test", "test"]
    assert len(read_questions(RUN)) == 32


def test_older_runs_have_none():
    assert read_texts(DATA / "pgpo").steps() == []
    assert list(read_texts(DATA / "pgpo").rows(1)) == []
    assert read_questions(DATA / "pgpo") == {}


def test_what_the_trainer_writes_is_read_back(tmp_path):
    # Here, since all other tests need no trainer.
    from pgpo_jax.training.rollout._evaluate import Answer, Evaluation
    from pgpo_jax.training.rollout._policy import Responses
    from pgpo_jax.training.rollout._records import Lesson, Rollout
    from pgpo_jax.training.rollout._texts import evaluation_texts, question_row, rollout_texts

    asked = Question.from_messages(
        "q", [Message("system", "s"), Message("user", "hé\ud800")], "5", domain="d", kind="k"
    )
    responses = Responses(
        np.array([[5, 6, 0], [7, 8, 9]]),
        np.array([[True, True, False], [True] * 3]),
        np.zeros((2, 3), np.float32),
        ["one", "two"],
    )
    grades = [Grade(0.0, "4", "too low"), Grade(1.0, "5")]
    policy = SimpleNamespace(token_texts=lambda ids: [f"t{i}" for i in ids], mesh=None)
    rollout = Rollout(0, 0, 2, 2, policy, [asked], [[1]], responses, grades)
    lesson = Lesson(np.array([True, False]), teacher_texts={0: "hé\ud800\nIt is 5."})
    numbers = {"information": jnp.array([[0.25, math.nan, 9.0]], jnp.float32)}
    rows = rollout_texts(rollout, lesson, [0], numbers)
    answers = (Answer(asked, "two", grades[1]),)
    rows += evaluation_texts(Evaluation({"q": 1.0}, 1.0, 0.0, 3.0, 0, answers=answers), 1)
    rewrite(tmp_path, [{"step": 3, **row} for row in rows])
    trained, answer = read_texts(tmp_path).rows(3)
    assert (trained.split, answer.split) == ("train", "test")
    assert trained.question == answer.question == asked
    assert (trained.grade, trained.response, trained.tokens) == (grades[0], "one", ("t5", "t6"))
    assert trained.numbers["information"][0] == 0.25
    assert math.isnan(trained.numbers["information"][1])
    assert teacher_parts(trained) == [("hé\ud800", False), ("\nIt is 5.", True)]
    (tmp_path / "questions.jsonl").write_text(json.dumps(question_row(asked)) + "\n")
    assert read_questions(tmp_path) == {"q": asked}


def test_only_the_lines_of_a_step_are_parsed(run):
    lines = (run / "texts.jsonl").read_text().splitlines()
    broken = [line if '"step": 1,' in line else line[:60] + "nonsense" for line in lines]
    (run / "texts.jsonl").write_text("\n".join(broken) + "\n")
    assert len(list(read_texts(run).rows(1))) == 2
    with pytest.raises(ValueError, match=r"texts\.jsonl, line 1 is not JSON"):
        list(read_texts(run).rows(0))


def test_a_line_cut_off_by_a_crash_is_left_out(run):
    text = (run / "texts.jsonl").read_text()
    (run / "texts.jsonl").write_text(text + '{"step": 9, "split": "train", "question')
    assert read_texts(run).steps() == [0, 1, 5, 7, 8]
    (run / "texts.jsonl").write_text(text + '{"step": 9, "split": "train", "question\n')
    assert 9 in read_texts(run).steps()
    with pytest.raises(ValueError, match="line 14 is not JSON"):
        list(read_texts(run).rows(9))


def test_lines_in_another_order_of_fields_are_read(run, row):
    rewrite(run, [{**{k: v for k, v in row.items() if k != "step"}, "step": 4}, row])
    assert read_texts(run).steps() == [1, 4]
    assert [kept.step for kept in read_texts(run).rows(4)] == [4]


DAMAGES = {
    "no JSON": (lambda row: "nonsense", r"line 2 is not JSON"),
    "no object": (lambda row: [1], r"line 2 must be an object, got \[1\]"),
    "no step": (lambda row: {**row, "step": None}, "step must be an integer, got None"),
    "bool": (lambda row: {**row, "step": True}, "step must be an integer, got True"),
    "negative": (lambda row: {**row, "step": -1}, "step must be at least 0, got -1"),
    "split": (lambda row: {**row, "split": "dev"}, r"split must be one of .*got 'dev'"),
    "response": (lambda row: {**row, "response": 1}, "response must be a text, got 1"),
    "grade": (lambda row: {**row, "grade": {"score": "1"}}, "score must be an integer or a number"),
    "no prediction": (lambda row: {**row, "grade": {"score": 1}}, "grade: prediction is missing"),
    "score": (
        lambda row: {**row, "grade": {**row["grade"], "score": math.nan}},
        "score must be finite, got nan",
    ),
    "fewer numbers": (
        lambda row: {**row, "divergence": row["divergence"][1:]},
        "divergence must have one number per token, 9, got 8",
    ),
    "more numbers": (
        lambda row: {**row, "tokens": row["tokens"][1:]},
        "information must have one number per token, 8, got 9",
    ),
    "numbers without tokens": (
        lambda row: {k: v for k, v in row.items() if k != "tokens"},
        "information must have one number per token, 0, got 9",
    ),
    "no numbers": (
        lambda row: {**row, "information": ["x"] * 9},
        "information must hold numbers or null, got 'x'",
    ),
    "tokens": (lambda row: {**row, "tokens": [1] * 9}, "tokens must be texts"),
    "teacher": (lambda row: {**row, "teacher_prompt": 1}, "teacher_prompt must be a text or null"),
    "role": (
        lambda row: {**row, "question": {**row["question"], "messages": [{"role": "x"}]}},
        "question, message: content is missing",
    ),
    "tool": (
        lambda row: {
            **row,
            "question": {**row["question"], "messages": [{"role": "x", "content": ""}]},
        },
        "line 2, question: a message's role must be one of",
    ),
    "chat": (
        lambda row: {**row, "question": {**row["question"], "messages": []}},
        "question: a chat must end with a user message",
    ),
    "deep": (lambda row: "[" * 100_000, r"line 2 is not JSON"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_what_no_run_writes_is_refused_by_file_and_line(run, row, damage, message):
    damaged = damage(row)
    text = damaged if isinstance(damaged, str) else json.dumps(damaged)
    (run / "texts.jsonl").write_text(f"{json.dumps(row)}\n{text}\n")
    with pytest.raises(ValueError, match=message) as error:
        list(read_texts(run).rows(1))
    assert "texts.jsonl, line 2" in str(error.value)


def test_bytes_that_are_no_text_are_refused(run):
    (run / "texts.jsonl").write_bytes(b'{"step": 1, "split": "train", "\xff": 1}\n')
    with pytest.raises(ValueError, match=r"texts\.jsonl, line 1 is not UTF-8"):
        list(read_texts(run).rows(1))
    (run / "questions.jsonl").write_text('{"id": "q"}\n')
    with pytest.raises(ValueError, match=r"questions\.jsonl, line 1: messages is missing"):
        read_questions(run)


def test_numbers_that_are_not_finite_are_gaps(row):
    row["information"] = [math.nan, None, math.inf, 10**400, *row["information"][4:]]
    kept = parse_text(json.dumps(row), "here")
    assert [math.isnan(value) for value in kept.numbers["information"]] == [True] * 4 + [False] * 5
    assert not set(most_informative(kept, 9)) & {0, 1, 2, 3}


def test_the_largest_absolute_information_comes_first(row):
    row["information"] = [0.0, -2.0, 0.5, 0.5, 1.0, 0.0005, 0.0, 0.0, 0.0]
    kept = parse_text(json.dumps(row), "here")
    assert most_informative(kept, 9) == [1, 4, 2, 3]
    assert most_informative(kept, 2) == [1, 4]
    assert [level(x) for x in (0.09, -0.1, 0.99, -1.0)] == [0, -1, 2, -3]


def test_a_teacher_prompt_without_the_question_is_all_new(row):
    kept = parse_text(json.dumps({**row, "teacher_prompt": "Other words."}), "here")
    assert teacher_parts(kept) == [("Other words.", True)]
    assert teacher_parts(parse_text(json.dumps({**row, "teacher_prompt": None}), "here")) == []


def test_accuracy_by_kind_of_the_recorded_run():
    scores = read_run(RUN).scores
    questions = read_questions(RUN)
    groups = {group.name: group for group in by_kind(questions, scores[0], scores[8])}
    codons = [name for name, question in questions.items() if question.kind == "codons"]
    assert groups["codons"].questions == len(codons) == 8
    for place, step in (("before", 0), ("after", 8)):
        mean = sum(scores[step][name] for name in codons) / 8
        assert getattr(groups["codons"], place).value == pytest.approx(mean)
    assert groups["codons"].before.value < 0.5 < groups["codons"].after.value
    assert sum(group.questions for group in groups.values()) == 32


def test_questions_without_a_kind_count_to_their_domain_and_one_group_is_none():
    def asked(name, domain, kind=""):
        return Question(name, domain, "", "p", "a", kind=kind)

    questions = {"a": asked("a", "d", "x"), "b": asked("b", "d"), "c": asked("c", "e")}
    scores = {"a": 0.0, "b": 1.0, "other": 1.0}
    assert [group.name for group in by_kind(questions, scores, scores)] == ["d", "x"]
    assert by_kind({"c": questions["c"]}, {"c": 1.0}, {"c": 0.0}) == []
