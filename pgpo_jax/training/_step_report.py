from typing import Any, NamedTuple

from pgpo_jax.training.rollout._records import Lesson, Rollout
from pgpo_jax.training.rollout._texts import rollout_texts


class StepReport(NamedTuple):
    """The report of one step. A repeated run has the same `metrics`, but other `timings`.

    Attributes:
        metrics: numbers that are the same when the run is repeated.
        timings: seconds, tokens per second, and the number of compiled step programs.
        rollout: the graded responses.
        lesson: the batch that the objective made of them.
        chosen: the responses whose texts are kept.
        tokens: numbers per token of these responses, on the devices.
    """

    metrics: dict[str, float]
    timings: dict[str, float]
    rollout: Rollout
    lesson: Lesson
    chosen: list[int]
    tokens: dict[str, Any]

    def texts(self) -> list[dict[str, Any]]:
        """Some responses with their grades and numbers; see docs/training.md."""
        return rollout_texts(self.rollout, self.lesson, self.chosen, self.tokens)
