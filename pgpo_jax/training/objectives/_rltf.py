"""The objective rltf."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.distillation import PolicyLoss, turns_head_loss
from pgpo_jax.errors import PGPORuntimeError
from pgpo_jax.tasks import Grade
from pgpo_jax.tasks.graders import FailedGrade
from pgpo_jax.training.config import LossConfig, RltfConfig
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._means import mean_over_loss, reduction_denominators
from pgpo_jax.training.objectives._models import Models, student_states
from pgpo_jax.training.objectives._rows_of_kinds import (
    EXTRA,
    FIRST,
    SECOND,
    behind_its_prompt,
    first_answers,
    joined,
    masked,
)
from pgpo_jax.training.objectives._second_turns import (
    feedback_prompt,
    prompts_of_rows,
    second_turns,
)
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class RLTF(Objective):
    """Reinforcement learning from text feedback, in two turns (RLTF, arXiv 2602.02482).

    A wrong first answer with feedback of the grader gets a second turn. The student reads its
    answer and the feedback, and answers again. Both turns are reinforced, with returns less the
    mean of their group. With the variant `sd` the model also learns the second answer as a response
    to the *first* prompt. Its advantage is its score minus the mean score of the group's first
    answers. Tokens that are too unlikely there are left out. With `fm` the model learns the
    grader's feedback as a text after the first answer. There is no teacher and no information; the
    optimizer gets 0. The loss may be negative.

    Args:
        loss: `reduction`, `rollout_clip` and `chunk` are read.
        rltf: the second turn, and what is learnt of it.

    >>> RLTF().rltf.variant
    'sd'

    Added in version 0.2.0.
    """

    loss: LossConfig = LossConfig()
    rltf: RltfConfig = RltfConfig()

    @property
    def one_pass(self) -> bool:
        """True: each row has one prompt."""
        return True

    @property
    def kinds(self) -> int:
        """First answers, second answers, and what is learnt besides."""
        return 3

    @property
    def longest_teacher_prompt(self) -> int:
        """That of a second turn; the rows have their prompts where others have a teacher's."""
        return self.rltf.max_prompt

    @property
    def longest_second_prompt(self) -> int:
        """`rltf.max_prompt`."""
        return self.rltf.max_prompt

    def prompts_behind(self, questions: int, samples: int) -> int:
        """First prompts, second ones, and with `fm` those of the words."""
        return questions * (1 + samples * (1 if self.rltf.variant == "sd" else 2))

    @property
    def learning_fraction(self) -> str:
        """The share of rows with something to learn."""
        return "rltf/learning_fraction"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of each row: its advantage, the weight of its cross-entropy, whether it was sampled
        behind its prompt, and whether unlikely tokens are left out."""
        return ("advantage", "supervised", "sampled", "floored")

    def extended(self, rollout: Rollout) -> Rollout:
        """Asks for the second answers, and grades them.

        Raises:
            RuntimeError: outside a run, where nobody answers.
        """
        if rollout.answer is None or rollout.regrade is None:
            raise PGPORuntimeError(
                "objective 'rltf' asks the student again: Rollout.answer and Rollout.regrade must "
                "be given, got None"
            )
        settings, owners = self.rltf, rollout.owners.tolist()
        turns = second_turns(rollout, settings)
        # All processes ask together, so that a response without a second turn asks as well.
        asked = [rollout.prompts[owner] for owner in owners]
        for row, prompt in turns.prompts.items():
            asked[row] = prompt
        nobody = jax.process_count() == 1 and not turns.prompts
        answered = rollout.responses if nobody else rollout.answer(asked, settings.max_prompt)
        has = np.isin(np.arange(len(owners)), list(turns.prompts))
        second = masked(answered, has)
        graded = np.flatnonzero(has).tolist()
        questions = [rollout.questions[owners[row]] for row in graded]
        found = rollout.regrade(questions, [second.texts[row] for row in graded])
        grades = dict(zip(graded, found, strict=True))
        second_grades = [grades.get(row, Grade(0.0)) for row in range(len(owners))]
        if settings.variant == "sd":
            extra = second
        else:
            words = [grade.feedback.strip() for grade in rollout.grades]
            longest = rollout.responses.tokens.shape[1]
            fits = [
                len(feedback_prompt(rollout, row)) <= settings.max_prompt if has[row] else False
                for row in range(len(owners))
            ]
            extra = masked(rollout.policy.write(words, max_tokens=longest), np.array(fits))
        parts = (rollout.responses, second, extra)
        return joined(rollout, parts, (rollout.grades, second_grades, second_grades))

    def prepare(self, rollout: Rollout) -> Lesson:
        """Gives each row its prompt and its advantage."""
        settings, samples = self.rltf, rollout.samples // self.kinds
        groups = (len(rollout.questions), self.kinds, samples)
        answered = rollout.answered.reshape(groups)
        score = np.where(answered, rollout.scores.reshape(groups), 0.0)
        first, second = score[:, FIRST], score[:, SECOND]
        has = answered[:, SECOND]
        returns = first + settings.discount * second
        advantage = np.zeros(groups)
        advantage[:, FIRST] = returns - returns.mean(1, keepdims=True)
        among = np.maximum(has.sum(1, keepdims=True), 1)
        advantage[:, SECOND] = has * (second - second.sum(1, keepdims=True) / among)
        supervised = np.zeros(groups)
        if settings.variant == "sd":
            gained = second - first.mean(1, keepdims=True)
            advantage[:, EXTRA] = settings.coefficient * gained * has
        else:
            supervised[:, EXTRA] = settings.coefficient * answered[:, EXTRA]
        kind = np.broadcast_to(np.arange(self.kinds)[None, :, None], groups)
        turns = second_turns(first_answers(rollout, samples), settings)
        prompts = prompts_of_rows(rollout, turns, samples, settings)
        columns = {
            "advantage": advantage,
            "supervised": supervised,
            "sampled": kind != EXTRA,
            "floored": (kind == EXTRA) & (settings.variant == "sd"),
        }
        learning = (advantage != 0) | (supervised != 0)
        failed = np.array([isinstance(grade, FailedGrade) for grade in rollout.grades])
        return Lesson(
            rollout.answered,
            prompts,
            columns={name: np.ravel(x).astype(np.float32) for name, x in columns.items()},
            facts={
                "has_second": np.ravel(has),
                "second_score": np.ravel(second),
                "second_failed": failed.reshape(groups)[:, SECOND].ravel(),
                "learning": np.ravel(learning & answered),
                "unlearnt": np.ravel(has & ~answered[:, EXTRA]),
                "silent": turns.silent,
                "overlong": turns.overlong,
            },
        )

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """How many had a second turn, and what came of it."""
        del samples
        has = rows["has_second"].astype(bool)
        return {
            "rltf/second_turns": float(has.mean()),
            "rltf/second_accuracy": float(rows["second_score"][has].mean()) if has.any() else 0.0,
            "rltf/grader_failures": float(rows["second_failed"].sum()),
            "rltf/without_feedback": float(rows["silent"].sum()),
            "rltf/dropped_feedback": float(rows["unlearnt"].sum()),
            "rltf/dropped_second_prompts": float(rows["overlong"].sum()),
            "rltf/learning_fraction": float(rows["learning"].mean()),
        }

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """Of the loss's reduction; sequences are first answers."""
        return reduction_denominators(self.loss.reduction, batch, sequences)

    def loss_of_rows(
        self, models: Models, batch: Experience, denominators: dict[str, Any]
    ) -> PolicyLoss:
        """The losses of some rows, each behind its own prompt."""
        hidden, head = student_states(models, behind_its_prompt(batch))
        assert batch.columns is not None
        columns = batch.columns
        return turns_head_loss(
            hidden,
            head,
            batch.response,
            columns["advantage"],
            columns["supervised"],
            columns["floored"],
            batch.response_mask,
            batch.sequence_mask,
            min_logprob=self.rltf.min_logprob,
            sampler_logprobs=batch.sampler_logprobs,
            sampled=columns["sampled"],
            rollout_clip=self.loss.rollout_clip,
            temperature=models.temperature,
            reduction=self.loss.reduction,
            chunk_size=self.loss.chunk,
            sharding=models.head_sharding,
            **denominators,
        )

    def metrics(self, out: PolicyLoss, batch: Experience) -> dict[str, Array]:
        """Means over the tokens of the rows that were sampled behind their prompt."""
        assert batch.columns is not None
        ratio = jnp.exp(out.student_logprobs - batch.sampler_logprobs)
        sampled = batch.columns["sampled"] > 0
        own = batch._replace(sequence_mask=batch.sequence_mask & sampled)
        extra = batch._replace(sequence_mask=batch.sequence_mask & ~sampled)
        return {
            "loss": out.loss,
            "policy/student_entropy": mean_over_loss(own, out.student_entropy),
            "rollout/importance_ratio": mean_over_loss(own, ratio),
            "rltf/extra_logprob": mean_over_loss(extra, out.student_logprobs),
        }

    def tokens(self, out: PolicyLoss) -> dict[str, Float[Array, "R T"]]:
        """The student's entropy at each token, in nats."""
        return {"student_entropy": out.student_entropy}
