import importlib.util
from collections.abc import Sequence
from pathlib import Path

from pgpo_jax.errors import PGPOImportError, PGPOValueError
from pgpo_jax.tasks._grading import Grade, extract_answer
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._base import FailedGrade, TimedOutGrade
from pgpo_jax.tasks.graders._config import GraderConfig
from pgpo_jax.tasks.graders._threads import grade_in_threads
from pgpo_jax.tasks.graders._workers import WorkerDied, WorkerPool, WorkerTimeout

_SCRIPT = Path(__file__).parent / "_math_worker.py"
# Parsers are slow for long texts, and the answer comes last.
_LONGEST = 4000


class MathGrader:
    r"""Right if the answer is mathematically the same, by math-verify (Kydlíček, Hugging Face).

    The formula is found in the extracted answer: between dollars, `\(...\)` or `\[...\]`, or in
    `\boxed{...}`. Otherwise it is the whole answer, or the last number or sum of a sentence. Only
    the last 4000 characters of a text count.

    math-verify runs in worker processes that do not import jax. A worker that ends or takes longer
    than the limit is replaced. Its row is a `FailedGrade` with the score 0.0 and a reason, which
    `grade_all` counts. The workers end when the grader is closed or deleted, and with the
    interpreter.

    >>> with MathGrader() as grader:
    ...     question = Question("q", "maths", "", "1/4 + 1/4?", r"$\frac{1}{2}$")
    ...     [grader(question, text).score for text in ("It is $0.5$", "<answer>2/3</answer>")]
    [1.0, 0.0]

    Added in version 0.2.0.
    """

    def __init__(self, settings: GraderConfig = GraderConfig()) -> None:  # noqa: B008
        """A grader with the limit and the number of workers of `settings`.

        Raises:
            ImportError: math-verify is not installed.
        """
        if importlib.util.find_spec("math_verify") is None:
            raise PGPOImportError(
                "the grader 'math' needs math-verify: pip install 'pgpo-jax[math]'"
            )
        self._settings = settings
        self._pool = WorkerPool(_SCRIPT, settings.workers)

    def __call__(self, question: Question, response: str) -> Grade:
        """The grade of one response.

        Args:
            question: question whose `answer` math-verify can parse.
            response: the decoded response.

        Returns:
            1.0 or 0.0, with feedback for a wrong answer; a `FailedGrade` if the worker failed.

        Raises:
            ValueError: the answer of the question cannot be parsed.
        """
        limit, text = self._settings.timeout, extract_answer(response)[-_LONGEST:]
        try:
            reply = self._pool.ask({"gold": question.answer, "text": text, "seconds": limit}, limit)
        except WorkerTimeout:
            words = f"The answer could not be checked within {limit:g} seconds."
            return TimedOutGrade(0.0, text, words)
        except WorkerDied:
            return FailedGrade(0.0, text, "The process that checks the answer ended early.")
        status, prediction = reply["status"], reply["prediction"]
        if status == "bad answer":
            raise PGPOValueError(
                "the grader 'math' needs an answer that is a formula; that of question "
                f"{question.id!r} is {question.answer!r}"
            )
        if status == "error":
            return FailedGrade(0.0, text, f"The answer could not be checked ({reply['error']}).")
        if status == "nothing":
            return Grade(0.0, text, "No formula was found in the answer.")
        right = status == "right"
        words = "" if right else f"{prediction!r} is not equal to the right answer."
        return Grade(float(right), prediction, words)

    def grade_many(self, questions: Sequence[Question], responses: Sequence[str]) -> list[Grade]:
        """The grades of many responses, `settings.workers` at a time."""
        return grade_in_threads(self, questions, responses, self._settings.workers)

    def close(self) -> None:
        """End the worker processes. The grader cannot be used after this."""
        self._pool.close()

    def __enter__(self) -> "MathGrader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
