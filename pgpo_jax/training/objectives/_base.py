"""The protocol of objectives."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.tasks import Question
from pgpo_jax.training.config import TeacherConfig
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@runtime_checkable
class Objective(Protocol):
    """What a batch of responses teaches: which rows train, the loss, the signal, the metrics.

    `prepare` and `row_metrics` run on the host; the others are traced into the jitted step. Inherit
    from this class to have the methods that have a body. An objective must be hashable, and equal
    objectives must give equal programs: a frozen dataclass of settings is both.

    See `pgpo_jax.training.SDPO` and `GRPO`, and docs/extending.md for one of your own.

    Added in version 0.2.0.
    """

    @property
    def teacher_settings(self) -> TeacherConfig | None:
        """Which teacher is kept and how it moves; `None` without a teacher."""
        return None

    @property
    def longest_teacher_prompt(self) -> int:
        """Tokens of the longest prompt of a teacher; 1 if it has none, or reads the student's."""
        settings = self.teacher_settings
        return 1 if settings is None else settings.max_prompt

    @property
    def further_prompts(self) -> int:
        """Prompts of the teacher that each response has besides the first one, each of which is
        one more pass; see `Lesson.further_prompts`."""
        return 0

    @property
    def learning_fraction(self) -> str:
        """The metric that is 0 where a step has nothing to learn from."""
        return "optimizer/applied"

    @property
    def one_pass(self) -> bool:
        """Whether `loss_of_rows` differentiates through each of the student's layers once.

        Micro-batches then need one array of gradients instead of two. A loss that passes them
        twice, say for two prompts, must say False.
        """
        return False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `prepare` adds to the batch; float32, one number per row."""
        return ()

    def program(self) -> "Objective":
        """The objective that is compiled.

        Runs with equal programs share a compiled step. An objective that differs from another one
        on the host alone may return that other one.
        """
        return self

    def written(self, question: Question) -> str | None:
        """The response that the data of a question holds, for objectives that sample none.

        Args:
            question: of the step.

        Returns:
            The text, which trains in the place of a sampled response; `None`: responses are
            sampled. It must be `None` for all questions or for none.
        """
        del question
        return None

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Refuses questions that the objective cannot learn from, before any work.

        Args:
            questions: of the split "train"; they may be endless.

        Raises:
            ValueError: naming what they lack.
        """
        del questions

    def new_memory(self) -> dict[str, Any] | None:
        """What the objective remembers on the host from step to step, before the first one.

        `prepare` finds it as `Rollout.memory` and changes it in place. It is written into each
        checkpoint, so that a resumed run is the same run. One process has all of it: a run of
        several is refused.

        Returns:
            Plain values for JSON, whose keys have no order; `None`: nothing is remembered.
        """
        return None

    def inputs(self) -> dict[str, str]:
        """What the numbers of a run follow from besides its settings: digests by name.

        They are in the record of each checkpoint, and a run goes on with equal ones only.
        """
        return {}

    @property
    def kinds(self) -> int:
        """Kinds of rows that `extended` makes of each sampled response; 1: it does not."""
        return 1

    @property
    def longest_second_prompt(self) -> int | None:
        """Tokens of the longest prompt that `extended` asks the student with, one per response;
        `None`: it does not ask."""
        return None

    def prompts_behind(self, questions: int, samples: int) -> int:
        """How many different prompts a step's `Lesson.teacher_prompts` may hold.

        Memory is planned for as many where prompts are shared.

        Args:
            questions: of a step.
            samples: sampled responses to each.
        """
        # Two different solutions are shown per question.
        return min(2, samples) * questions

    def extended(self, rollout: Rollout) -> Rollout:
        """The rollout with further rows, such as second turns.

        Args:
            rollout: the graded responses.

        Returns:
            A rollout with `kinds` times as many rows: of each question first those that were
            sampled, then those of the next kind.
        """
        return rollout

    def prepare(self, rollout: Rollout) -> Lesson:
        """Which responses train, and what the loss reads of them.

        Args:
            rollout: the graded responses of a process's own questions.

        Returns:
            The `Lesson`.
        """
        ...

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """Metrics that are known before the step.

        Args:
            rows: numbers per response of all processes: `score`, `kept`, `length`, and the
                `facts` of the lesson.
            samples: responses to each question.

        Returns:
            Numbers by name.
        """
        del rows, samples
        return {}

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """What the loss of any rows is divided by, from the whole batch.

        It is asked for once, before the micro-batches run.

        Args:
            batch: all rows of the step.
            sequences: responses of the step, those that are not in the batch included.

        Returns:
            Whatever `loss_of_rows` needs of the whole batch.
        """
        del batch
        return {"num_sequences": sequences}

    @property
    def needs_whole_batch(self) -> bool:
        """Whether weights of `loss_of_rows` need numbers of all rows, which `beforehand` measures.

        Micro-batches then cost that pass, too.
        """
        return False

    def beforehand(self, models: Models, batch: Experience) -> dict[str, Array]:
        """What the weights of the loss need of the whole batch, without a gradient.

        It is asked for only if `needs_whole_batch`, and only where the rows are taken in
        micro-batches; `loss_of_rows` measures it by itself where it is given all rows at once.

        Args:
            models: as of `loss_of_rows`.
            batch: one micro-batch.

        Returns:
            Numbers by name, which `loss_of_rows` finds among the denominators: arrays per row are
            joined in the order of the rows, scalars are summed.
        """
        del models, batch
        return {}

    def loss_of_rows(self, models: Models, batch: Experience, denominators: dict[str, Any]) -> Any:
        """The share of some rows in the loss of the batch.

        Args:
            models: the student, and the teacher if one is kept.
            batch: R rows: all of a batch or one micro-batch.
            denominators: of the whole batch.

        Returns:
            A NamedTuple of arrays with the scalar field `loss`. Losses of micro-batches add up.
        """
        ...

    def combine(self, out: Any) -> Any:
        """Repairs what does not add up over micro-batches.

        Args:
            out: results of `loss_of_rows` over all micro-batches: arrays per row are joined in the
                order of the rows, scalars are summed.

        Returns:
            What `loss_of_rows` of the whole batch would be.
        """
        return out

    def signal(self, out: Any, batch: Experience) -> Float[Array, ""] | None:
        """The information of the batch, in nats, that the optimizer is given.

        Args:
            out: of the whole batch.
            batch: all rows.

        Returns:
            A scalar; `None` if the objective measures none, and then the optimizer is given 0.
        """
        del out, batch
        return None

    def metrics(self, out: Any, batch: Experience) -> dict[str, Array]:
        """Scalars for the log.

        Args:
            out: of the whole batch.
            batch: all rows.

        Returns:
            Numbers by name.
        """
        del batch
        return {"loss": out.loss}

    def tokens(self, out: Any) -> dict[str, Float[Array, "R T"]]:
        """Numbers per response token that are kept with sampled texts.

        Args:
            out: of the whole batch.

        Returns:
            Arrays by name.
        """
        del out
        return {}
