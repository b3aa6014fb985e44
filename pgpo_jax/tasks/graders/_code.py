import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from pgpo_jax.errors import PGPORuntimeError, PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._code_run import Outcome, run_child
from pgpo_jax.tasks.graders._code_tests import Pair, count_tests, tests_of
from pgpo_jax.tasks.graders._config import GraderConfig
from pgpo_jax.tasks.graders._program import extract_program
from pgpo_jax.tasks.graders._threads import grade_in_threads

# Largest numbers of characters and lines of a field, as in the feedback of SDPO.
_CHARACTERS, _LINES = 250, 8


class CodeGrader:
    """Right if the program in the response passes all tests of the question.

    **This runs programs that a model wrote, on your machine and under your name. The limits below
    contain accidents, not attackers.** Use a container or a virtual machine if the program may
    mean harm. So it must be asked for with `run_code=True`.

    `extract_program` defines the program. `tests_of` defines the tests, which are columns of the
    question. Each response runs in a new interpreter without third-party packages. Its process
    group is killed as a whole at the end. Limits hold for the time of all tests together, memory
    (address space), the size of a file or of the output, and open files. Unless you are root,
    processes and threads are limited too. The program runs in an empty folder, which is also its
    home and is deleted afterwards. Of the environment it sees PATH and LANG. The interpreter
    refuses to start processes, to use the network and to write outside of the folder. A program can
    circumvent this if it tries to. The number of files is not limited, and a child that leaves the
    process group is not found.

    Statements run after the program, in its namespace. Then a result is reported together with a
    random token. So a program that prints "OK" or exits early does not pass. A program can still
    cheat if it searches this process for the token or returns objects that are equal to everything.
    For pairs of input and output the program runs once for each pair. Its output must be equal,
    except for white space at the ends of lines and blank lines at the end.

    The feedback describes the first failure, like the execution feedback of SDPO. It is a syntax
    error or an exception with its line, the time limit, the memory limit, or a wrong result. A
    wrong result is shown with the test, the expected value and the value found.

    >>> grader = CodeGrader(GraderConfig(run_code=True))
    >>> tests = {"tests": ["assert double(3) == 6"]}
    >>> question = Question("q", "code", "", "Write double(x).", "", columns=tests)
    >>> print(grader(question, "```python\\ndef double(x):\\n    return x + 2\\n```").feedback)
    Wrong Answer
    Test
    assert double(3) == 6
    Output
    5
    Expected
    6

    Added in version 0.2.0.
    """

    def __init__(self, settings: GraderConfig = GraderConfig()) -> None:  # noqa: B008
        """A grader with the limits of `settings`.

        Raises:
            ValueError: `settings.run_code` is not True.
            RuntimeError: the system lacks the limits that this needs, as Windows does.
        """
        if not settings.run_code:
            raise PGPOValueError(
                "the grader 'code' runs programs that the model writes, on this machine; its "
                "limits contain accidents, not attackers. GraderConfig.run_code must be True "
                "(--grader.run-code) to allow it, got False"
            )
        if not hasattr(os, "waitid"):
            raise PGPORuntimeError("the grader 'code' needs a POSIX system that has os.waitid")
        self._settings = settings

    def __call__(self, question: Question, response: str) -> Grade:
        """The grade of one response.

        Args:
            question: question whose columns hold the tests, see `tests_of`.
            response: the decoded response.

        Returns:
            1.0 if all tests pass. Otherwise 0.0 or, with `settings.partial`, the share of tests
            that pass. The prediction is the program.

        Raises:
            ValueError: the question has no usable tests.
            OSError: no process can be started.
        """
        tests = tests_of(question)
        program = extract_program(response)
        if not program.strip():
            return Grade(0.0, "", "Incorrect Format\nPut your program inside a ```python block.")
        if isinstance(tests[0], Pair):
            share, feedback = self._run_pairs(program, [Pair(*test) for test in tests])
        else:
            share, feedback = self._run_statements(program, list(map(str, tests)))
        return Grade(share if self._settings.partial else float(share == 1), program, feedback)

    def grade_many(self, questions: Sequence[Question], responses: Sequence[str]) -> list[Grade]:
        """The grades of many responses, `settings.workers` at a time."""
        return grade_in_threads(self, questions, responses, self._settings.workers)

    def _run_statements(self, program: str, tests: list[str]) -> tuple[float, str]:
        outcome = run_child(
            program, self._settings, tests=tests, stdin="", seconds=self._settings.timeout
        )
        if outcome.results is None:
            return 0.0, self._ended(outcome, "Test", outcome.running)
        failures = [result for result in outcome.results if result]
        if not failures:
            # Each test reports its result. A test without a report has not passed.
            reported = len(outcome.results) == count_tests(tests)
            return float(reported), "" if reported else self._ended(outcome, "", "")
        # A program that does not load has one result, which belongs to no test.
        share = 1 - len(failures) / len(outcome.results)
        return share, self._failed(failures[0], "Test", failures[0].get("test", ""))

    def _run_pairs(self, program: str, pairs: list[Pair]) -> tuple[float, str]:
        end, passed, feedback = time.monotonic() + self._settings.timeout, 0, ""
        for pair in pairs:
            problem = self._run_pair(program, pair, max(end - time.monotonic(), 0.0))
            passed += not problem
            feedback = feedback or problem
            if problem and not self._settings.partial:
                break
        return passed / len(pairs), feedback

    def _run_pair(self, program: str, pair: Pair, seconds: float) -> str:
        outcome = run_child(program, self._settings, tests=None, stdin=pair.input, seconds=seconds)
        if outcome.results is None and (outcome.state, outcome.code) != ("ended", 0):
            return self._ended(outcome, "Input", pair.input)
        for result in outcome.results or []:
            if result:
                return self._failed(result, "Input", pair.input)
        if _lines(outcome.output) == _lines(pair.output):
            return ""
        return _sections(
            "Wrong Answer",
            ("Input", pair.input),
            ("Output", outcome.output),
            ("Expected", pair.output),
        )

    def _ended(self, outcome: Outcome, title: str, text: str) -> str:
        if outcome.state == "timeout":
            limit = f"The tests took longer than {self._settings.timeout:g} seconds together."
            return _sections("Time Limit Exceeded", ("", limit), (title, text))
        if outcome.code < 0:
            name = signal.Signals(-outcome.code).name
            how = f"The program crashed with {name}."
        else:
            code = outcome.code
            how = f"The program ended its process (exit code {code}) before the tests were done."
        return _sections("Runtime Error", ("", how), (title, text))

    def _failed(self, result: dict[str, Any], title: str, text: str) -> str:
        if result["kind"] == "wrong":
            shown = [("Output", result.get("got", "")), ("Expected", result.get("expected", ""))]
            return _sections("Wrong Answer", (title, text), *shown, ("", result.get("detail", "")))
        if result["kind"] == "syntax":
            return _sections("Syntax Error", ("", f"Line {result['line']}: {result['error']}"))
        if result["kind"] == "memory":
            what = f"The program needed more than {self._settings.memory} MiB."
            heading = "Memory Limit Exceeded"
        else:
            what, heading = result["error"], "Runtime Error"
        return _sections(heading, ("", "\n".join([what, *result.get("lines", [])])), (title, text))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _sections(heading: str, *parts: tuple[str, str]) -> str:
    """A heading and its titled parts; parts without text are left out."""
    lines = [heading]
    for title, text in parts:
        if text.strip():
            lines += [title] if title else []
            lines.append(_shortened(text))
    return "\n".join(lines)


def _shortened(text: str) -> str:
    lines = text.strip("\n").split("\n")
    short = "\n".join(lines[:_LINES])
    whole = len(lines) <= _LINES and len(short) <= 2 * _CHARACTERS
    return short if whole else short[: 2 * _CHARACTERS] + "..."
