import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

from pgpo_jax.tasks import load_questions
from pgpo_jax.training.config._train_config import EvaluationConfig, TrainConfig
from pgpo_jax.training.devices._mesh import make_mesh, process_local_rows, shard_rows
from pgpo_jax.training.memory._search import refuse_too_large
from pgpo_jax.training.objectives._control import signal_control
from pgpo_jax.training.rollout._evaluate import Evaluation, evaluate
from pgpo_jax.training.rollout._experience import make_experience
from pgpo_jax.training.rollout._held_out import held_out_questions
from pgpo_jax.training.rollout._policy import Responses, load_policy
from pgpo_jax.training.rollout._stream import Batch, QuestionStream
from pgpo_jax.training.update._optimizer import make_optimizer
from pgpo_jax.training.update._state import TrainState, init_state, student_weights
from pgpo_jax.training.update._step import make_train_step

_ROLLOUT, _EVALUATION = 0, 1


class StepReport(NamedTuple):
    """What one step says of itself: `metrics` repeat with the run, `timings` do not."""

    metrics: dict[str, float]
    timings: dict[str, float]


class Trainer:
    """One run's fixed parts: model, questions, optimizer and the compiled step.

    Every number of step k follows from the configuration and the state before it; keys and
    questions are functions of (seed, k).

    Args:
        config: what to run.

    Raises:
        ValueError, FileNotFoundError: for a bad model, task, mesh or length, before any work.
    """

    def __init__(self, config: TrainConfig):
        self.config = config
        self.mesh = make_mesh(config.mesh)
        questions = load_questions(config.task, split="train", seed=config.seed)
        self.held_out = held_out_questions(config)
        refuse_too_large(config)
        self.policy, params = load_policy(
            config.model,
            mesh=self.mesh,
            dtype=config.dtype,
            remat=config.remat and config.remat_policy,
            attention=config.attention,
            param_dtype=config.param_dtype,
        )
        self.stream = QuestionStream(
            questions,
            self.policy.encode_question,
            per_step=config.rollout.questions,
            max_prompt=config.rollout.max_prompt,
            seed=config.seed,
        )
        optimizer = make_optimizer(config)
        self.initial_state = init_state(
            params, optimizer, config.teacher, self.mesh, lora=config.lora, seed=config.seed
        )
        if self.mesh is None:
            self._step = _shared_step(self.policy.graphdef, program_config(config))
        else:
            layout = jax.tree.map(lambda leaf: leaf.sharding, self.initial_state)
            self._step = make_train_step(self.policy.graphdef, optimizer, config, layout=layout)
        self._key = jax.random.key(config.seed)

    def step(self, state: TrainState) -> tuple[TrainState, StepReport]:
        """Rollouts, grading, teacher prompts and one update. Donates `state`."""
        number, start = int(state.step), time.perf_counter()
        batch, responses = self.rollout(state)
        sampled = time.perf_counter()
        experience, metrics = make_experience(
            self.policy, batch, responses, self.config, step=number
        )
        packed = time.perf_counter()
        control = signal_control(self.config.information, number)
        state, device_metrics = self._step(state, shard_rows(experience, self.mesh), control)
        metrics |= {name: float(value) for name, value in jax.device_get(device_metrics).items()}
        done = time.perf_counter()
        answered = metrics["rollout/response_length"] * self.config.rollout.rows
        trained = metrics["rollout/trained_tokens"]
        timings = {
            "time/rollout": sampled - start,
            "time/experience": packed - sampled,
            "time/update": done - packed,
            "time/step": done - start,
            "throughput/rollout_tokens_per_second": answered / (sampled - start),
            "throughput/update_tokens_per_second": trained / (done - packed),
            # A jitted function has it; its type does not tell.
            "compilations/step": float(self._step._cache_size()),  # pyright: ignore[reportFunctionMemberAccess]
        }
        return state, StepReport(metrics, {k: float(v) for k, v in timings.items()})

    def student(self, state: TrainState) -> Any:
        """The student of a state as parameters of the policy's model."""
        return student_weights(state.params, state.frozen, self.config.lora)

    def rollout(self, state: TrainState) -> tuple[Batch, Responses]:
        """The questions of the step after `state`, and what the student answers."""
        settings, number = self.config.rollout, int(state.step)
        own = process_local_rows(settings.questions, self.mesh)
        batch = self.stream.batch(number).take(own)
        responses = self.policy.respond(
            self.student(state),
            batch.prompts,
            self._fold(_ROLLOUT, number),
            samples=settings.samples,
            max_new_tokens=settings.max_response,
            temperature=settings.temperature,
            top_p=settings.top_p,
            smallest_bucket=settings.smallest_bucket,
            largest_prompt=settings.max_prompt,
            at_once=settings.micro_batch,
        )
        return batch, responses

    def evaluate(self, state: TrainState) -> Evaluation:
        """avg@n of the student on the held-out questions, always with the same random numbers."""
        return evaluate(
            self.policy,
            self.student(state),
            self.held_out,
            self._fold(_EVALUATION, 0),
            self.config.evaluation,
            self.config.rollout,
        )

    def _fold(self, purpose: int, number: int) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.fold_in(self._key, purpose), number)


def program_config(config: TrainConfig) -> TrainConfig:
    """A configuration with the same compiled step: what the step does not read has one value."""
    half = "none" if config.information.half == "none" else "same"
    return dataclasses.replace(
        config,
        teacher=dataclasses.replace(config.teacher, misleading=0.0),
        information=dataclasses.replace(
            config.information, rows="all", replay=(), flip=False, half=half
        ),
        model="tiny",
        task="synthetic:all",
        eval_task=None,
        seed=0,
        steps=config.steps if config.optimizer.schedule == "cosine" else 1,
        evaluation=EvaluationConfig(),
        checkpoint_every=1,
        keep_checkpoints=1,
        tensorboard=True,
    )


@functools.lru_cache(maxsize=32)
def _shared_step(graphdef: Any, config: TrainConfig) -> Callable[..., Any]:
    """The step of all runs of this process that differ in seed, questions or evaluation alone."""
    return make_train_step(graphdef, make_optimizer(config), config)
