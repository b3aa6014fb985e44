"""Programs that run against tests in child processes with limits."""

import glob
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question
from pgpo_jax.tasks.graders import (
    CodeGrader,
    GraderConfig,
    extract_program,
    grade_all,
    make_grader,
    tests_of as read_tests,
)

SQUARES = {"tests": ["assert f(2) == 4", "assert f(3) == 9"]}
SUMS = {"tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 5\n", "output": "10"}]}
ADD = "a, b = map(int, input().split())\nprint(a + b)"


def question(columns=SQUARES):
    return Question("q", "code", "", "Write f.", "", columns=columns)


def run(program, columns=SQUARES, **settings):
    grader = CodeGrader(GraderConfig(run_code=True, **{"timeout": 20.0, **settings}))
    return grader(question(columns), f"```python\n{program}\n```")


def leftovers():
    return set(glob.glob(os.path.join(tempfile.gettempdir(), "pgpo-code-*")))


def children():
    """The processes that this one has started and not waited for, zombies included."""
    found = []
    for path in glob.glob(f"/proc/{os.getpid()}/task/*/children"):
        with suppress(FileNotFoundError), open(path) as file:  # the thread may have ended
            found += file.read().split()
    return set(found)


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = leftovers(), children()
    yield
    assert leftovers() <= before[0]
    assert children() <= before[1]


def test_it_must_be_asked_for():
    with pytest.raises(PGPOValueError, match=r"accidents, not attackers.*--grader\.run-code"):
        make_grader("code")
    assert isinstance(make_grader("code", GraderConfig(run_code=True)), CodeGrader)


ROWS = [
    ("def f(x): return x * x", SQUARES, 1.0, ""),
    ("def f(x): return x + 2", SQUARES, 0.0, "Wrong Answer\nTest\nassert f(3) == 9\nOutput\n5\n"),
    ("x = 1\ndef f(x:\n", SQUARES, 0.0, "Syntax Error\nLine 2: SyntaxError: '(' was never closed"),
    ("def f(x):\n  return x / 0", SQUARES, 0.0, "ZeroDivisionError: division by zero\nLine 2 in f"),
    ("def g(x): return x", SQUARES, 0.0, "Runtime Error\nNameError: name 'f' is not defined"),
    ("def f(x): return f(x)", SQUARES, 0.0, "RecursionError: maximum recursion depth"),
    (ADD, SUMS, 1.0, ""),
    (ADD.replace("+", "*"), SUMS, 0.0, "Wrong Answer\nInput\n1 2\nOutput\n2\nExpected\n3"),
    (ADD + "\nraise ValueError('no')", SUMS, 0.0, "ValueError: no\nLine 3 in <module>"),
    ("print(input())\nprint(input())", SUMS, 0.0, "EOFError: EOF when reading a line"),
]


def test_ten_rows():
    grader = make_grader("code", GraderConfig(run_code=True, timeout=30.0))
    questions = [question(columns) for _, columns, _, _ in ROWS]
    responses = [f"So:\n```python\n{program}\n```\nDone." for program, *_ in ROWS]
    grades, failures = grade_all(grader, questions, responses)
    assert [grade.score for grade in grades] == [row[2] for row in ROWS]
    assert failures == 0
    for grade, row in zip(grades, ROWS, strict=True):
        assert row[3] in grade.feedback
        assert bool(grade.feedback) == (grade.score == 0.0)


# What contains accidents.


@pytest.mark.parametrize("program", ["while True: pass", "import time\ntime.sleep(1000)"])
def test_a_program_that_does_not_end_is_killed(program):
    began = time.monotonic()
    result = run(program, timeout=1.0)
    assert time.monotonic() - began < 15
    assert result.score == 0.0
    assert result.feedback.startswith("Time Limit Exceeded\nThe tests took longer than 1 seconds")


def test_the_test_that_does_not_end_is_named():
    result = run("def f(x):\n    while x == 3: pass\n    return 4", timeout=1.0)
    assert result.feedback.endswith("Test\nassert f(3) == 9")


def test_memory_is_limited():
    program = "def f(x): return x * x + len(bytes(600 * 2**20)) * 0"
    assert run(program, memory=256).feedback.startswith("Memory Limit Exceeded\nThe program needed")
    assert run(program, memory=2000).score == 1.0


def test_the_size_of_files_and_of_output_is_limited():
    write = (
        "with open('x', 'wb') as file:\n    file.write(bytes(3 * 2**20))\ndef f(x): return x * x"
    )
    assert "File too large" in run(write, file_size=2).feedback
    assert run(write, file_size=4).score == 1.0
    print_much = "print('3')\nfor _ in range(300): print('a' * 10000)"
    assert "File too large" in run(print_much, SUMS, file_size=2).feedback


def test_open_files_are_limited():
    program = "files = [open('x', 'w') for _ in range({})]\ndef f(x): return x * x"
    assert "Too many open files" in run(program.format(100)).feedback
    assert run(program.format(10)).score == 1.0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os\nfor _ in range(3): os.fork()", "may not start or signal processes"),
        ("import subprocess\nsubprocess.run(['true'])", "may not start or signal processes"),
        ("import os\nos.system('true')", "may not start or signal processes"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "no network"),
    ],
)
def test_processes_and_network_are_refused(program, words):
    assert words in run(program).feedback


def test_files_elsewhere_are_not_changed(tmp_path):
    path = tmp_path / "kept"
    path.write_text("kept")
    for change in ("open(p, 'w')", "os.remove(p)", "os.rename(p, 'x')", "shutil.rmtree(d)"):
        program = f"import os, shutil\np, d = {str(path)!r}, {str(tmp_path)!r}\n{change}"
        assert "only write files in its own folder" in run(program).feedback
    assert path.read_text() == "kept"


def test_the_program_has_an_empty_folder_of_its_own():
    columns = {
        "tests": ["assert os.listdir('.') == []", "assert os.getcwd() == os.environ['HOME']"]
    }
    assert run("import os", columns).score == 1.0
    # Folders inside it are the program's, however deep; all are deleted (see the fixture).
    deep = (
        "import os\nfor _ in range(1010):\n    os.mkdir('d')\n    os.chdir('d')\nos.chmod('.', 0)"
    )
    assert run(deep + "\ndef f(x): return x * x").score == 1.0


def test_the_environment_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    columns = {"tests": ["assert sorted(os.environ) == ['HOME', 'LANG', 'PATH', 'TMPDIR']"]}
    assert run("import os", columns).score == 1.0
    assert os.environ["SOME_TOKEN"] == "secret"


def test_what_a_program_has_started_ends_with_it():
    # One of the ways around the refusal; the group is killed nevertheless.
    program = (
        "import sys\nfrom multiprocessing.util import spawnv_passfds\n"
        "child = [b'python', b'-c', b'import time; time.sleep(600)']\n"
        "f = spawnv_passfds(sys.executable.encode(), child, [])"
    )
    feedback = run(program, {"tests": ["assert f == 0"]}).feedback
    started = int(feedback.split("Output\n")[1].split()[0])
    assert started > 0
    stat = Path(f"/proc/{started}/stat")
    # Killed; as a zombie at most, until the system's first process waits for it.
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


@pytest.mark.skipif(os.getuid() == 0, reason="the kernel does not limit root")
def test_processes_and_threads_are_limited():
    start = "import threading, time\nfor _ in range({}):\n"
    start += "    threading.Thread(target=time.sleep, args=(3,)).start()\ndef f(x): return x * x"
    assert "can't start new thread" in run(start.format(500), memory=100_000).feedback
    assert run(start.format(3)).score == 1.0


def test_threads_may_run():
    program = "import threading\ndef main():\n    " + ADD.replace("\n", "\n    ")
    assert run(program + "\nthreading.Thread(target=main).start()", SUMS).score == 1.0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('OK')\nimport sys\nsys.exit(0)", "the program called exit(0)\nLine 3"),
        ("print('OK')\nexit", "NameError"),
        ("import os\nos._exit(0)", "exit code 0) before the tests were done"),
        ("import os\ndef f(x): os._exit(0)", "exit code 0) before the tests were done"),
        ("def f(x): raise SystemExit(0)", "the program called exit(0)"),
        ("def f(x): raise AssertionError('mine')", "AssertionError: mine\nLine 1 in f"),
        ("import os\nfor i in range(3, 64):\n  try: os.write(i, b'{\"results\": [{}, {}]}')\n"
         "  except OSError: pass\nos._exit(0)", "before the tests were done"),
    ],
)  # fmt: skip
def test_who_ends_before_the_tests_has_not_passed(program, words):
    result = run(program)
    assert result.score == 0.0
    assert words in result.feedback


def test_a_program_that_breaks_the_runner_has_not_passed():
    result = run("import ast\nast.parse = lambda source: ast.Module([], [])")
    assert result.score == 0.0
    assert "before the tests were done" in result.feedback


def test_an_assertion_of_the_program_is_not_one_of_the_test():
    columns = {"tests": ["assert f(2) in (4, 5)"]}
    program = "def f(x):\n    assert x == 3, 'mine'\n    return 4"
    words = "Runtime Error\nAssertionError: mine\nLine 2 in f"
    assert run(program, columns).feedback.startswith(words)
    assert run("def f(x): return 3", columns).feedback.startswith("Wrong Answer\nTest\nassert f(2)")


def test_a_script_may_exit_when_it_is_done():
    assert run(ADD + "\nimport sys\nsys.exit()", SUMS).score == 1.0
    assert run(ADD + "\nimport sys\nsys.exit(1)", SUMS).score == 0.0
    assert run("import os\nos._exit(0)", SUMS).score == 0.0


# Programs and tests.


def test_partial_is_the_share():
    program = "def f(x): return 4"
    assert run(program, partial=True).score == 0.5
    assert run(program).score == 0.0
    assert run("print(3)", SUMS, partial=True).score == 0.5
    assert run("def f(x:", partial=True).score == 0.0
    assert run("def f(x): return x * x", partial=True).score == 1.0


@pytest.mark.parametrize(
    "columns",
    [
        {"test": "assert f(2) == 4\nassert f(3) == 9"},
        {"test_list": np.array(SQUARES["tests"], object)},
        {"tests": ["assert f(two) == 4"], "test_setup_code": "two = 2"},
        {"test": "def check(g):\n    assert g(2) == 4", "entry_point": "f"},
        {"tests": ["assert f(2) in (4, 5)", "assert isinstance(f(2), int)"]},
    ],
)
def test_tests_come_in_several_forms(columns):
    assert run("def f(x): return x * x", columns).score == 1.0
    assert run("def f(x): return str(x)", columns).score == 0.0


def test_a_failure_inside_check_is_told():
    columns = {
        "test": "def check(g):\n    assert g(2) == 4\n    assert g(3) == 8",
        "entry_point": "f",
    }
    assert run("def f(x): return x * x", columns).feedback.endswith("check(f)\nassert g(3) == 8")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "has none of them"),
        ({"tests": []}, "has none of them"),
        ({**SQUARES, "test_list": ["assert f(2) == 4"]}, r"has \['tests', 'test_list'\]"),
        ({"tests": ["assert f(2 == 4"]}, "must hold Python statements"),
        ({"tests": [1, 2]}, "got int"),
        ({"tests": [{"input": "1"}]}, "'input' and 'output'"),
        ({"tests": ["x = 3"]}, "nothing would be tested"),
        ({"test": "def check(g):\n    assert g(2) == 4"}, "'?entry_point'?"),
    ],
)
def test_tests_that_cannot_be_used_are_an_error_of_the_data(columns, words):
    with pytest.raises(PGPOValueError, match=words):
        read_tests(question(columns))


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\nx = 1\n```\n```python\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\n```\nnot code\n```", "x = 1\n"),
        ("```py\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 0\n```\n<answer>```python\nx = 1\n```</answer>", "x = 1\n"),
        ("<answer>\nx = 1\n</answer> so", "x = 1"),
        ("x = 1", ""),
        ("```bash\nls\n```", ""),
        ("```python\nx = 1", ""),
    ],
)
def test_which_text_is_the_program(response, program):
    assert extract_program(response) == program


def test_a_response_without_a_program_says_what_is_missing():
    grader = CodeGrader(GraderConfig(run_code=True))
    result = grader(question(), "I cannot.")
    assert result == (0.0, "", "Incorrect Format\nPut your program inside a ```python block.")


def test_long_fields_are_shortened():
    result = run("def f(x): return 'a' * 10**6")
    assert 250 < len(result.feedback) < 1500
    assert "aaa..." in result.feedback
