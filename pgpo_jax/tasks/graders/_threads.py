from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pgpo_jax.errors import PGPOError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._base import FailedGrade, Grader


def grade_in_threads(
    grader: Grader, questions: Sequence[Question], responses: Sequence[str], workers: int
) -> list[Grade]:
    """Grade many responses; each thread waits for its own process."""

    def row(question: Question, response: str) -> Grade:
        try:
            return grader(question, response)
        except (PGPOError, OSError) as error:
            return FailedGrade(0.0, "", str(error))

    threads = ThreadPoolExecutor(workers, thread_name_prefix="pgpo-grader")
    try:
        return list(threads.map(row, questions, responses))
    finally:
        # After an interrupt, no further rows are begun.
        threads.shutdown(wait=True, cancel_futures=True)
