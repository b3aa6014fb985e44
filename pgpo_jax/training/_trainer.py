"""The trainer, which joins model, task, objective and optimizer."""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Key

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.tasks import Grade, Question, Task, grade_all
from pgpo_jax.training._fitting_parts import (
    check_alive,
    checked_teacher,
    chosen_engine,
    new_memory,
)
from pgpo_jax.training._step_report import StepReport
from pgpo_jax.training.config import (
    EvaluationConfig,
    LoRAConfig,
    RolloutConfig,
    SelectionConfig,
    TextsConfig,
)
from pgpo_jax.training.config._checks import check_rows
from pgpo_jax.training.config._description import describe, filled
from pgpo_jax.training.devices._mesh import process_local_rows, shard_rows
from pgpo_jax.training.devices._processes import from_first
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.rollout._batch import pack, rollout_metrics
from pgpo_jax.training.rollout._engine import RolloutEngine, Sampler
from pgpo_jax.training.rollout._evaluate import Evaluation, evaluate
from pgpo_jax.training.rollout._held_out import held_out_questions
from pgpo_jax.training.rollout._policy import LoadedPolicy, Responses
from pgpo_jax.training.rollout._records import Lesson, Rollout
from pgpo_jax.training.rollout._stream import Batch, QuestionStream
from pgpo_jax.training.rollout._texts import chosen_responses, shown_rows
from pgpo_jax.training.run._callbacks import Callback
from pgpo_jax.training.run._inputs import model_inputs, question_inputs
from pgpo_jax.training.run._loop import FitSettings, fit
from pgpo_jax.training.update._check_optimizer import (
    check_orthogonalises,
    check_takes_information,
    with_extra_arguments,
)
from pgpo_jax.training.update._shared_step import shared_step
from pgpo_jax.training.update._state import (
    TrainState,
    init_state,
    student_weights,
    teacher_weights,
)

# Number 2 is used by LoRA's factors.
_ROLLOUT, _EVALUATION, _EXPLANATION, _SECOND_TURN = 0, 1, 3, 4

_LOG = logging.getLogger(__name__)


class Trainer:
    """Trains a model with a task, an objective and an optimizer in one compiled step.

    Every number of step k is a function of the parts and the state before it. Keys and questions
    are functions of (seed, k). `memory` is the state of the objective on the host, if it has one.

    Args:
        policy: policy from `load_policy` with the initial weights. Training donates them.
        task: task with the questions and the grading.
        objective: objective: `SDPO()`, `GRPO()` or your own.
        optimizer: any optax optimizer, with its learning rate. With `pgpo_jax.pgpo(...)` around it
            each step is scaled by the information.
        teacher: another model from `load_policy`, if the objective's teacher has the kind
            `external`. Training also donates its weights, but does not change them.
        rollout: settings of the student's responses.
        evaluation: settings of the evaluation on the task's `test` split.
        lora: settings of low-rank factors, which are trained instead of the weights if the rank is
            not 0.
        seed: seed of questions, responses and factors.
        texts: settings of the sampled texts that are kept.
        micro_batch: number of rows that go through the model at a time; `None` means all.
        grader_timeout: time limit for grading one response, in seconds.
        engine: engine that samples the responses in training and evaluation. By default it is our
            sampler with `rollout.max_num_seqs`.
        callbacks: callbacks after steps, evaluations and checkpoints.
        constant_metrics: further numbers to log with each step, unless the step has a number of
            this name.

    Raises:
        ValueError, TypeError: the parts do not fit together. Raised before any work.
        RuntimeError: the weights of the policy were trained already.

    >>> from pgpo_jax.training import Trainer  # examples/own_reward.py has a whole run
    """

    def __init__(
        self,
        policy: LoadedPolicy,
        task: Task,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        *,
        teacher: LoadedPolicy | None = None,
        rollout: RolloutConfig = RolloutConfig(),
        evaluation: EvaluationConfig = EvaluationConfig(),
        lora: LoRAConfig = LoRAConfig(),
        seed: int = 0,
        texts: TextsConfig = TextsConfig(),
        micro_batch: int | None = None,
        grader_timeout: float = 10.0,
        engine: RolloutEngine | None = None,
        callbacks: Sequence[Callback] = (),
        constant_metrics: Mapping[str, float] | None = None,
    ):
        self.policy, params = policy
        check_alive(params, "the weights of the policy were given to an earlier trainer")
        self.mesh = self.policy.mesh
        self.teacher_policy = checked_teacher(teacher, objective, self.policy)
        self.task, self.objective = task, objective
        self.optimizer = with_extra_arguments(optimizer)
        self.rollout_settings, self.evaluation_settings = rollout, evaluation
        self.texts_settings = texts
        self.lora, self.seed, self.micro_batch = lora, seed, micro_batch
        self.grader_timeout, self.callbacks = grader_timeout, tuple(callbacks)
        self._constant_metrics = dict(constant_metrics or {})
        shape = dict(self.mesh.shape) if self.mesh is not None else {}
        self.engine = chosen_engine(engine, rollout)
        row_shards = shape.get("data", 1) * shape.get("fsdp", 1)
        check_rows(
            rollout,
            evaluation,
            micro_batch,
            row_shards=row_shards,
            devices=row_shards * shape.get("tensor", 1),
        )
        self.policy.check_thinking(rollout.thinking, "rollout.thinking")
        if objective.teacher_settings is not None:
            self.policy.check_thinking(objective.teacher_settings.thinking, "teacher.thinking")
        self.held_out = held_out_questions(task, evaluation)
        self._questions = task.questions("train", seed)
        objective.check_questions(self._questions)
        self.memory = new_memory(objective)
        self._warn()
        self.stream = QuestionStream(
            self._questions,
            functools.partial(self.policy.encode_question, thinking=rollout.thinking),
            per_step=rollout.questions,
            max_prompt=rollout.max_prompt,
            seed=seed,
        )
        trained = jax.eval_shape(
            lambda params: init_state(params, optax.identity(), None, lora=lora).params, params
        )
        check_takes_information(optimizer, trained)
        check_orthogonalises(optimizer, trained)
        self.initial_state = init_state(
            params,
            self.optimizer,
            objective.teacher_settings,
            self.mesh,
            lora=lora,
            seed=seed,
            external=None if teacher is None else teacher.params,
        )
        self._step = shared_step(
            self.policy.graphdef,
            self.optimizer,
            self.objective.program(),
            self.initial_state,
            mesh=self.mesh,
            sequences=self.rollout_settings.rows,
            temperature=self.rollout_settings.temperature,
            lora=self.lora,
            micro_batch=self.micro_batch,
            teacher_graphdef=self.teacher_policy and self.teacher_policy.graphdef,
        )
        self._key = jax.random.key(seed)

    def _warn(self) -> None:
        """Warn about settings that are allowed but may be a mistake."""
        if not self.held_out:
            _LOG.warning(
                "the task has no held-out questions, so the run is not evaluated: name their "
                "source with eval_task (--eval-task), or put test.json beside train.json"
            )
        lengths, longest = self.rollout_settings, self.policy.max_length
        if longest is not None and lengths.max_prompt + lengths.max_response > longest:
            _LOG.warning(
                "rollout.max_prompt + max_response = %d is more than max_position_embeddings = %d "
                "of the model, which was not made for longer sequences",
                lengths.max_prompt + lengths.max_response,
                longest,
            )

    def fit(
        self,
        folder: str | Path,
        *,
        steps: int = 100,
        resume: bool = False,
        checkpoint_every: int = 50,
        keep_checkpoints: int = 2,
        trackers: Sequence[Any] = ("tensorboard",),
        max_skipped: int = 10,
        selection: SelectionConfig = SelectionConfig(),
        config: Mapping[str, Any] | None = None,
        today: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> TrainState:
        """Train from the start, or from the newest checkpoint, to the end.

        Args:
            folder: the run folder, which is created if it does not exist.
            steps: total number of optimizer steps.
            resume: continue the run in the folder. The metrics are then equal, digit for digit, to
                those of a run without interruption.
            checkpoint_every: number of steps between checkpoints. The final state is always saved.
            keep_checkpoints: number of newest checkpoints to keep. With 0 none is written.
            trackers: trackers of the numbers in addition to the JSON lines: names, or objects of
                your own; see `make_trackers`.
            max_skipped: number of non-finite gradients in a row after which the run ends.
            selection: settings of the best checkpoint and of early stopping.
            config: contents of `config.json`; by default a description of the parts. A run is
                resumed only with equal contents.
            today: function that converts an older `config.json` to the current names. By default
                missing fields of a description get their default values.

        Returns:
            The final state.

        Raises:
            FileExistsError, FileNotFoundError, RuntimeError, ValueError: the folder does not fit
                the request.
            FloatingPointError: after `max_skipped` non-finite gradients in a row.
        """
        folder = local_path(folder, "a run folder")
        check_alive(
            self.initial_state.params,
            "the initial state of this trainer was given to an earlier fit",
        )
        settings = FitSettings(
            steps=steps,
            checkpoint_every=checkpoint_every,
            keep_checkpoints=keep_checkpoints,
            trackers=trackers if isinstance(trackers, str) else tuple(trackers),
            max_skipped=max_skipped,
            evaluate_every=self.evaluation_settings.every,
            selection=selection,
        )
        described = config or describe(
            model=self.policy.name,
            task=self.task,
            objective=self.objective,
            rollout=self.rollout_settings,
            evaluation=self.evaluation_settings,
            lora=self.lora,
            seed=self.seed,
            micro_batch=self.micro_batch,
            teacher=self.teacher_policy and self.teacher_policy.name,
        )
        return fit(self, folder, settings, dict(described), resume=resume, today=today or filled)

    def step(self, state: TrainState) -> tuple[TrainState, StepReport]:
        """Rollouts, grading, teacher prompts and one update. It donates `state`."""
        start = time.perf_counter()
        batch, responses = self.respond(state)
        sampled = time.perf_counter()
        rollout = self.objective.extended(self.graded(state, batch, responses))
        lesson = self.objective.prepare(rollout)
        experience, rows = self.packed(rollout, lesson)
        packed = time.perf_counter()
        chosen, shown = self._shown(rollout, lesson, experience)
        state, device_metrics, tokens = self._step(state, shard_rows(experience, self.mesh), shown)
        metrics = {
            **rollout_metrics(rows),
            "rollout/dropped_questions": float(batch.dropped),
            **self.objective.row_metrics(rows, rollout.samples),
            **self._constant_metrics,
            **{name: float(value) for name, value in jax.device_get(device_metrics).items()},
        }
        done = time.perf_counter()
        answered = metrics["rollout/response_length"] * self.rollout_settings.rows
        trained = metrics["rollout/trained_tokens"]
        timings = {
            "time/rollout": sampled - start,
            "time/experience": packed - sampled,
            "time/update": done - packed,
            "time/step": done - start,
            "throughput/rollout_tokens_per_second": answered / (sampled - start),
            "throughput/update_tokens_per_second": trained / (done - packed),
            "compilations/step": float(self._step.compilations()),
        }
        return state, StepReport(
            metrics, {k: float(v) for k, v in timings.items()}, rollout, lesson, chosen, tokens
        )

    def student(self, state: TrainState) -> Any:
        """The student of a state as parameters of the policy's model."""
        return student_weights(state.params, state.frozen, self.lora)

    def inputs(self) -> dict[str, Any]:
        """The inputs of a run other than its settings, as plain values.

        They are digests of the initial weights, the files of the model, a teacher that is another
        model, the texts that the objective reads, and the questions. Each checkpoint records them;
        see docs/training.md.
        """
        state, policy = self.initial_state, self.policy
        weights = state.params if state.frozen is None else state.frozen
        other = self.teacher_policy
        teacher = (
            {}
            if other is None
            else {"teacher": model_inputs(state.external, other.folder, other.eos_ids)}
        )
        texts = self.objective.inputs()
        return {
            **model_inputs(weights, policy.folder, policy.eos_ids),
            **teacher,
            **({"objective": texts} if texts else {}),
            **question_inputs(self._questions, self.held_out),
        }

    def respond(self, state: TrainState) -> tuple[Batch, Responses]:
        """The questions of the step after `state` and the student's answers."""
        settings, number = self.rollout_settings, int(state.step)
        own = process_local_rows(settings.questions, self.mesh)
        batch = self.stream.batch(number).take(own)
        written = self._written(batch)
        if written is not None:
            return batch, self.policy.write(written, max_tokens=settings.max_response)
        responses = self.policy.respond(
            self.student(state),
            batch.prompts,
            self._fold(_ROLLOUT, number),
            samples=settings.samples,
            max_new_tokens=settings.max_response,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            smallest_bucket=settings.smallest_bucket,
            largest_prompt=settings.max_prompt,
            at_once=settings.micro_batch,
            engine=self.engine,
        )
        return batch, responses

    def _written(self, batch: Batch) -> list[str] | None:
        """The responses in the data, one to each question; `None` if they are sampled."""
        texts = [self.objective.written(question) for question in batch.questions]
        found = [text for text in texts if text is not None]
        if not found:
            return None
        if len(found) < len(texts) or self.rollout_settings.samples != 1:
            raise PGPOValueError(
                "an objective must write one response to each question or none, and "
                "rollout.samples must then be 1, got "
                f"{len(found)} responses to {len(texts)} questions and "
                f"rollout.samples = {self.rollout_settings.samples}"
            )
        return found

    def graded(self, state: TrainState, batch: Batch, responses: Responses) -> Rollout:
        """The graded responses of the step after `state`."""
        samples = self.rollout_settings.samples
        asked = [question for question in batch.questions for _ in range(samples)]
        grades = self._grades(asked, responses.texts)
        return Rollout(
            step=int(state.step),
            seed=self.seed,
            samples=samples,
            total=self.rollout_settings.rows,
            policy=self.policy,
            questions=batch.questions,
            prompts=batch.prompts,
            responses=responses,
            grades=grades,
            ask_teacher=functools.partial(self._ask_teacher, state),
            memory=self.memory,
            answer=functools.partial(self._answer, state),
            regrade=self._grades,
        )

    def _grades(self, questions: list[Question], texts: list[str]) -> list[Grade]:
        return grade_all(self.task, questions, texts, timeout=self.grader_timeout)[0]

    def _answer(self, state: TrainState, prompts: list[list[int]], longest: int) -> Responses:
        """The student's answers to one prompt per response of the next step."""
        settings = self.rollout_settings
        # The number of responses at a time is that of the first turn, where a prompt has several.
        parts = None if settings.micro_batch is None else settings.micro_batch * settings.samples
        return self.policy.respond(
            self.student(state),
            prompts,
            self._fold(_SECOND_TURN, int(state.step)),
            samples=1,
            max_new_tokens=settings.max_response,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            smallest_bucket=settings.smallest_bucket,
            largest_prompt=max(settings.max_prompt, longest),
            at_once=parts,
            engine=self.engine,
        )

    def _ask_teacher(
        self, state: TrainState, prompts: list[list[int]], max_tokens: int
    ) -> list[str]:
        """The teacher's answers to one prompt per question of the next step."""
        settings, teacher = self.rollout_settings, self.objective.teacher_settings
        assert teacher is not None
        live = teacher.kind in ("live", "trust_region")
        responses = (self.teacher_policy or self.policy).respond(
            self.student(state) if live else teacher_weights(state),
            prompts,
            self._fold(_EXPLANATION, int(state.step)),
            samples=1,
            max_new_tokens=max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            smallest_bucket=settings.smallest_bucket,
            largest_prompt=max(settings.max_prompt, teacher.max_prompt),
            at_once=settings.micro_batch,
            # Only the sampler is used, because another engine serves the student's weights.
            engine=Sampler(settings.max_num_seqs),
        )
        return responses.texts

    def packed(self, rollout: Rollout, lesson: Lesson) -> tuple[Any, dict[str, Any]]:
        """The arrays of a step, and numbers per response; see `pack`."""
        longest, further = self.objective.longest_teacher_prompt, self.objective.further_prompts
        if len(lesson.further_prompts) != further:
            raise PGPOValueError(
                f"a lesson must hold the further prompts that its objective declares, that is "
                f"{further} mappings (further_prompts), got {len(lesson.further_prompts)}"
            )
        return pack(rollout, lesson, self.rollout_settings, longest_teacher_prompt=longest)

    def evaluate(self, state: TrainState) -> Evaluation:
        """avg@n of the student on the held-out questions, always with the same random numbers."""
        return evaluate(
            self.policy,
            self.student(state),
            self.held_out,
            self._fold(_EVALUATION, 0),
            self.evaluation_settings,
            self.rollout_settings,
            grader=self.task,
            grader_timeout=self.grader_timeout,
            engine=self.engine,
        )

    def _shown(
        self, rollout: Rollout, lesson: Lesson, experience: Any
    ) -> tuple[list[int], np.ndarray]:
        """The responses whose texts are kept, and their rows of the batch, as many in each step.

        They are those of the first process, which writes them.
        """
        count = self.texts_settings.rows
        chosen = chosen_responses(lesson, rollout.samples, count)
        held = len(experience.sequence_mask)
        own = process_local_rows(held * rollout.total // len(rollout.places), self.mesh)
        return chosen, from_first(shown_rows(chosen, lesson, own, count))

    def _fold(self, purpose: int, number: int) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.fold_in(self._key, purpose), number)
