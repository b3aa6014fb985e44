"""Formulas, compared in worker processes that can be killed."""

import glob
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from pgpo_jax.errors import PGPOImportError, PGPORuntimeError, PGPOValueError
from pgpo_jax.tasks import Grade, Question
from pgpo_jax.tasks.graders import FailedGrade, GraderConfig, MathGrader, TimedOutGrade, grade_all

# Sympy works on this for much longer than any test waits.
ENDLESS = r"<answer>\sum_{k=1}^{10^{9}} \sin(k^{k})</answer>"


def question(answer):
    return Question("q", "maths", "", "?", answer)


def children():
    """The processes that this one has started and not waited for, zombies included."""
    found = []
    for path in glob.glob(f"/proc/{os.getpid()}/task/*/children"):
        with suppress(FileNotFoundError), open(path) as file:  # the thread may have ended
            found += file.read().split()
    return set(map(int, found))


@pytest.fixture(scope="module")
def grader():
    with MathGrader(GraderConfig(timeout=20.0)) as grader:
        yield grader


ROWS = [
    ("1/2", "It is $0.5$.", 1.0),
    (r"\frac{1}{2}", "<answer>1/2</answer>", 1.0),
    ("42", "The answer is 42.", 1.0),
    ("42", "The answer is 43.", 0.0),
    ("x^2 + 2x + 1", "$(x+1)^2$", 1.0),
    ("x^2 + 2x + 1", "$(x-1)^2$", 0.0),
    (r"2\pi", "<answer>2pi</answer>", 1.0),
    ("1e-3", r"so \boxed{0.001}", 1.0),
    (r"\{1, 2\}", r"$\{2, 1\}$", 1.0),
    ("sqrt(8)", "I do not know", 0.0),
]


def test_ten_rows(grader):
    questions = [question(answer) for answer, _, _ in ROWS]
    grades, failures = grade_all(grader, questions, [row[1] for row in ROWS])
    assert [grade.score for grade in grades] == [row[2] for row in ROWS]
    assert failures == 0
    assert grades[3].feedback == "'43' is not equal to the right answer."
    assert grades[9].feedback == "No formula was found in the answer."


def test_it_works_off_the_main_thread(grader):
    results = []
    thread = threading.Thread(target=lambda: results.append(grader(question("3"), "$3$")))
    thread.start()
    thread.join()
    assert results == [Grade(1.0, "3", "")]


def test_text_is_never_evaluated_as_python(grader, tmp_path):
    path = tmp_path / "made"
    for text in (f"open('{path}', 'w')", f"1 + open('{path}', 'w').write('')"):
        assert grader(question("3"), f"<answer>{text}</answer>").score == 0.0
    assert not path.exists()


def test_an_answer_that_is_no_formula_is_an_error_of_the_data(grader):
    with pytest.raises(PGPOValueError, match="that of question 'q' is 'no formula'"):
        grader(question("no formula"), "$3$")
    grades, failures = grade_all(grader, [question("no formula"), question("3")], ["$3$"] * 2)
    assert ([grade.score for grade in grades], failures) == ([0.0, 1.0], 1)


@pytest.mark.slow
def test_a_row_that_takes_too_long_is_given_up_and_the_next_is_graded():
    before = children()
    with MathGrader(GraderConfig(timeout=2.0, workers=1)) as grader:
        assert grader(question("3"), "$3$").score == 1.0
        began = time.monotonic()
        result = grader(question("3"), ENDLESS)
        assert 1.9 < time.monotonic() - began < 20
        assert isinstance(result, TimedOutGrade)
        assert result.score == 0.0
        assert result.feedback == "The answer could not be checked within 2 seconds."
        assert not children() - before
        assert grader(question("3"), "$3$").score == 1.0
        assert grade_all(grader, [question("3")] * 2, ["$3$", ENDLESS])[1] == 1
    assert not children() - before


def test_a_worker_that_dies_is_replaced():
    before = children()
    with MathGrader(GraderConfig(timeout=30.0, workers=1)) as grader:
        grader(question("3"), "$3$")
        (worker,) = children() - before
        os.kill(worker, signal.SIGKILL)
        result = grader(question("3"), "$3$")
        assert isinstance(result, FailedGrade)
        assert result.feedback == "The process that checks the answer ended early."
        assert grader(question("3"), "$3$").score == 1.0
    assert not children() - before


def test_an_interrupt_leaves_no_worker_that_would_answer_the_wrong_request(monkeypatch):
    before = children()
    with MathGrader(GraderConfig(workers=1)) as grader:
        assert grader(question("3"), "$3$").score == 1.0

        def interrupted(self, timeout):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("pgpo_jax.tasks.graders._workers.Worker._read_line", interrupted)
            with pytest.raises(KeyboardInterrupt):
                grader(question("3"), "$3$")
        assert not children() - before
        assert grader(question("3"), "$4$").score == 0.0


def test_a_closed_grader_says_so():
    grader = MathGrader()
    grader.close()
    with pytest.raises(PGPORuntimeError, match="closed"):
        grader(question("3"), "$3$")


def test_workers_neither_import_jax_nor_run_the_main_module_and_end_with_it(tmp_path):
    script = tmp_path / "main.py"
    # Without a guard: a worker that ran this again would start workers without end.
    script.write_text(
        "from pgpo_jax.tasks import Question\n"
        "from pgpo_jax.tasks.graders import MathGrader\n"
        "grader = MathGrader()\n"
        "print('main')\n"
        "assert grader(Question('q', '', '', '?', '3'), '$3$').score == 1.0\n"
        "(worker,) = grader._pool._workers\n"
        "pid = worker._process.pid\n"
        "print(pid, 'jax' in open(f'/proc/{pid}/maps').read())\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert result.stderr == ""
    main, line = result.stdout.splitlines()
    assert main == "main"
    pid, has_jax = line.split()
    assert has_jax == "False"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    # What the test looks for is there where jax is loaded.
    import jaxlib  # noqa: F401

    with open("/proc/self/maps") as file:
        assert "jax" in file.read()


def test_it_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PGPOImportError, match=r"pip install 'pgpo-jax\[math\]'"):
        MathGrader()
