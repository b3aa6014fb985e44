"""The loop of a run: steps, evaluations, checkpoints, callbacks and the end."""

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pgpo_jax.errors import PGPOFloatingPointError
from pgpo_jax.training.config import EvaluationConfig, RolloutConfig, SelectionConfig, TextsConfig
from pgpo_jax.training.config._json import check_same_config
from pgpo_jax.training.config._places import same_by_name
from pgpo_jax.training.config._rules import require
from pgpo_jax.training.devices._processes import any_process, is_first, largest, on_first
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.rollout._evaluate import Evaluation
from pgpo_jax.training.rollout._stream import QuestionStream
from pgpo_jax.training.rollout._texts import evaluation_texts, question_row
from pgpo_jax.training.run._callbacks import BestCheckpoint, Callback, EarlyStopping
from pgpo_jax.training.run._check_inputs import check_inputs
from pgpo_jax.training.run._checkpoint import Checkpoints, free_buffers
from pgpo_jax.training.run._compile_watch import CompileWatch
from pgpo_jax.training.run._inputs import run_inputs
from pgpo_jax.training.run._progress import Progress
from pgpo_jax.training.run._run_folder import (
    free_fields,
    open_run_folder,
    read_jsonl,
    write_config,
    write_questions,
)
from pgpo_jax.training.run._signals import StopRequest, stop_requests
from pgpo_jax.training.run._tracker import Tracker
from pgpo_jax.training.run._trackers import check_trackers, make_trackers
from pgpo_jax.training.update._state import TrainState

_log = logging.getLogger("pgpo_jax")
_WARN_EVERY = 10


@dataclass(frozen=True)
class FitSettings:
    """The length of a run and its outputs; see `Trainer.fit`."""

    steps: int
    checkpoint_every: int
    keep_checkpoints: int
    trackers: Any
    max_skipped: int
    evaluate_every: int
    selection: SelectionConfig

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "max_skipped"):
            require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        require(
            self.keep_checkpoints >= 0,
            "keep_checkpoints must be at least 0",
            self.keep_checkpoints,
        )


@runtime_checkable
class StepSource(Protocol):
    """The interface that the loop needs of a trainer."""

    objective: Objective
    callbacks: tuple[Callback, ...]
    initial_state: TrainState
    memory: dict[str, Any] | None
    held_out: Sequence[Any]
    stream: QuestionStream
    rollout_settings: RolloutConfig
    evaluation_settings: EvaluationConfig
    texts_settings: TextsConfig

    def inputs(self) -> dict[str, Any]: ...

    def step(self, state: TrainState) -> tuple[TrainState, Any]: ...

    def evaluate(self, state: TrainState) -> Evaluation: ...


def fit(
    trainer: StepSource,
    folder: Path,
    settings: FitSettings,
    config: dict[str, Any],
    *,
    resume: bool,
    today: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values,
) -> TrainState:
    """Train from the start, or from the newest checkpoint, to the end; see `Trainer.fit`.

    After the first SIGTERM, SIGINT, SIGHUP or SIGUSR1 the current step is finished and the state is
    saved. The process then ends with 128 + the signal's number. A second signal ends it at once.
    With several processes all call this with the same arguments. The first process writes the
    folder, and all write checkpoints. A signal to any process stops all after the same step.

    Returns:
        The final state.

    Raises:
        As `Trainer.fit`.
    """
    if resume:
        require(
            settings.keep_checkpoints > 0,
            "keep_checkpoints must be at least 1 to resume a run, which continues from its newest "
            "checkpoint",
            settings.keep_checkpoints,
        )
    chosen = settings.selection
    require(
        bool(trainer.held_out) or not (chosen.keep_best or chosen.patience),
        "selection.keep_best and selection.patience need held-out questions, of which the task "
        "has none",
        (chosen.keep_best, chosen.patience),
    )
    check_trackers(settings.trackers)
    path = folder.resolve()
    with (
        stop_requests() as request,
        on_first(open_run_folder(path, config, steps=settings.steps, resume=resume, today=today)),
        ExitStack() as stack,
    ):
        run = RunInProgress(trainer, path, settings, config, request)
        stack.callback(run.close)
        run.open(resume, today)
        # Each callback that has begun is called at the end, even if others fail.
        for callback in run.callbacks:
            callback.on_start(run)
            stack.callback(callback.on_end, run)
        return run.loop()


class RunInProgress:
    """A run between its start and its end, as the argument of callbacks."""

    def __init__(
        self,
        trainer: StepSource,
        folder: Path,
        settings: FitSettings,
        config: dict[str, Any],
        request: StopRequest,
    ):
        self._config = config
        self.trainer, self.folder, self.settings = trainer, folder, settings
        self.state = trainer.initial_state
        self.history: list[dict[str, Any]] = []
        self.inputs: dict[str, Any] = {}
        self.callbacks = (*_selection_callbacks(settings.selection), *trainer.callbacks)
        self._request, self._reason = request, ""
        # All processes have agreed on this. A request is that of this process only.
        self._signal = 0
        self._checkpoints: Checkpoints | None = None
        self._tracker: Tracker | None = None
        self._watch: CompileWatch | None = None
        self._evaluated: int | None = None
        # Number of first steps without a right response; None after the first right one.
        self._never_right: int | None = 0

    def stop(self, reason: str) -> None:
        """End the run after this step, with its last evaluation and checkpoint.

        Before the first step there is nothing to save, and no step is made.
        """
        self._reason = self._reason or reason

    def open(self, resume: bool, today: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Restore the newest checkpoint of a resumed run, and open the trackers.

        Raises:
            ValueError: it was made from other inputs than this run.
        """
        settings = self.settings
        if settings.keep_checkpoints or settings.selection.keep_best:
            self.inputs = run_inputs(self._config, self.trainer.inputs())
        if settings.keep_checkpoints:
            self._checkpoints = Checkpoints(
                self.folder / "checkpoints", keep=settings.keep_checkpoints, inputs=self.inputs
            )
        if resume:
            assert self._checkpoints is not None
            if self._checkpoints.latest is None:
                _warn("there is no checkpoint in %s: the run starts from step 0", self.folder)
            else:
                self._check_inputs(self._checkpoints, today)
                # The initial state needs as much memory as the one that is read.
                self.state = self._checkpoints.restore(free_buffers(self.state))
                if self.trainer.memory is not None:
                    self.trainer.memory = self._checkpoints.memory()
            if is_first():
                write_config(self.folder, self._config)
        first = int(self.state.step)
        if first >= settings.steps:
            _warn("the run is at step %d of %d already: nothing is left", first, settings.steps)
        stream = self.trainer.stream
        if stream.dropped:
            _warn(
                "%d questions have prompts of over %d tokens and are left out",
                stream.dropped,
                self.trainer.rollout_settings.max_prompt,
            )
        if is_first():
            # A run that is resumed before its first checkpoint repeats its first evaluation.
            last = first if resume and first else -1
            self._tracker = make_trackers(
                settings.trackers, self.folder, config=self._config, last_step=last
            )
            write_questions(self.folder, [question_row(q) for q in self.trainer.held_out])
        rows = read_jsonl(self.folder / "metrics.jsonl")
        self.history = [row for row in rows if "eval/accuracy" in row and row["step"] <= first]
        if self.history:
            self._evaluated = self.history[-1]["step"]

    def _check_inputs(
        self, checkpoints: Checkpoints, today: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        saved = checkpoints.inputs()
        free = free_fields(self._config)
        if saved is None:
            _warn(
                "the checkpoints in %s were made by an older version, which did not record what a "
                "run is made from: model and questions are compared by name only",
                self.folder,
            )
            before = today(json.loads((self.folder / "config.json").read_text()))
            check_same_config(before, self._config, self.folder, free=free, same=same_by_name)
            return
        saved = saved | {"config": today(saved.get("config", {}))}
        where = f"checkpoint {checkpoints.latest} in {self.folder}"
        check_inputs(saved, self.inputs, where, free=free)

    def close(self) -> None:
        """Close trackers and checkpoints."""
        if self._tracker is not None:
            self._tracker.close()
        if self._checkpoints is not None:
            self._checkpoints.close()

    def loop(self) -> TrainState:
        """Run the remaining steps."""
        settings, trainer = self.settings, self.trainer
        first, idle = int(self.state.step), 0
        progress = Progress(first, settings.steps, hidden=not is_first())
        with closing(progress), CompileWatch(progress.note) as self._watch:
            if self._evaluated is None and first == 0 and trainer.held_out:
                progress.say("evaluating the initial model")
                self._evaluate()
            for number in range(first + 1, settings.steps + 1):
                if number == first + 1:
                    if self._ended(number - 1, progress):
                        break
                    progress.say("compiling and making the first step")
                compiled = self._compiled()
                self.state, report = trainer.step(self.state)
                self._log(number, report, self._compiled() - compiled)
                progress.step(report.metrics)
                idle = self._count_idle(number, report.metrics, idle)
                self._count_never_right(report.metrics)
                self._check_finite(number)
                for callback in self.callbacks:
                    callback.on_step(self, number, report.metrics)
                last = number == settings.steps
                if last or number % settings.evaluate_every == 0:
                    self._evaluate()
                ended = self._ended(number, progress)
                if ended and not self._signal:
                    self._evaluate()
                if last or ended or number % settings.checkpoint_every == 0:
                    self._save(number)
                if ended:
                    break
        if number := self._signal or self._request.number:
            sys.exit(128 + number)
        return self.state

    def _ended(self, number: int, progress: Progress) -> bool:
        """Whether a signal or a callback ends the run, the same in all processes."""
        self._signal = largest(self._request.number or 0)
        reasoned = any_process(bool(self._reason))
        if self._signal:
            name = signal.Signals(self._signal).name
            kept = "is saved" if self._checkpoints is not None else "is not saved"
            _warn("step %d: stopped by %s, the state %s", number, name, kept)
        elif reasoned:
            progress.say("step %d: the run stops early, since %s", number, self._reason)
        return bool(self._signal) or reasoned

    def _compiled(self) -> float:
        """Seconds of compilation so far."""
        return 0.0 if self._watch is None else self._watch.seconds

    def _log(self, number: int, report: Any, compiled: float) -> None:
        if self._tracker is None:
            return
        self._tracker.log(number, report.metrics)
        self._tracker.log_timing(number, {**report.timings, "time/compile": compiled})
        texts = self.trainer.texts_settings
        if texts.rows and number % texts.every == 0:
            self._tracker.log_texts(number, report.texts())

    def _evaluate(self) -> None:
        step = int(self.state.step)
        if not self.trainer.held_out or self._evaluated == step:
            return
        start, compiled = time.perf_counter(), self._compiled()
        result = self.trainer.evaluate(self.state)
        timings = {
            "time/evaluation": time.perf_counter() - start,
            "time/evaluation_compile": self._compiled() - compiled,
        }
        self._evaluated = step
        metrics = {
            "eval/accuracy": result.accuracy,
            "eval/standard_error": result.standard_error,
            "eval/response_length": result.response_length,
            "eval/pass_at_k": result.pass_at(result.samples),
            "eval/hesitation_words": result.hesitation_words,
            "eval/dropped_questions": float(result.dropped),
            "eval/grader_failures": float(result.failures),
        }
        if self._tracker is not None:
            self._tracker.log(step, metrics)
            self._tracker.log_timing(step, timings)
            self._tracker.log_evaluation(step, result.scores)
            if kept := self.trainer.texts_settings.evaluation:
                self._tracker.log_texts(step, evaluation_texts(result, kept))
        self.history.append({"step": step, **metrics})
        for callback in self.callbacks:
            callback.on_evaluation(self, step, metrics, result.scores)

    @property
    def memory(self) -> dict[str, Any] | None:
        """The memory of the objective, for checkpoints; None if it has none."""
        return self.trainer.memory

    def _save(self, number: int) -> None:
        if self._checkpoints is None:
            return
        start = time.perf_counter()
        self._checkpoints.save(self.state, self.memory)
        if self._tracker is not None:
            self._tracker.log_timing(number, {"time/checkpoint": time.perf_counter() - start})
        for callback in self.callbacks:
            callback.on_checkpoint(self, number)

    def _count_idle(self, number: int, metrics: dict[str, float], idle: int) -> int:
        idle = idle + 1 if metrics.get(self.trainer.objective.learning_fraction) == 0 else 0
        if idle % _WARN_EVERY == 1:
            _warn("step %d: no response has anything to learn from (%d in a row)", number, idle)
        return idle

    def _count_never_right(self, metrics: dict[str, float]) -> None:
        """Warn, as long as no score is above 0, that the model cannot start to learn the task."""
        if self._never_right is None or metrics.get("rollout/accuracy", 0.0) > 0:
            self._never_right = None
            return
        self._never_right += 1
        if self._never_right % _WARN_EVERY == 0:
            _warn(
                "no response of the last %d steps has a score above 0, so that there is "
                "little or nothing to learn from: read some with `pgpo inspect` to see whether "
                "the model fails or the grader does not find its answers; then ask for a shorter "
                "answer, show examples in the system message, or begin with `pgpo sft`",
                self._never_right,
            )

    def _check_finite(self, number: int) -> None:
        skipped = int(self.state.skipped)
        if skipped < self.settings.max_skipped:
            return
        self._save(number)
        kept = "not saved" if self._checkpoints is None else "saved"
        raise PGPOFloatingPointError(
            f"the gradient was not finite for {skipped} steps in a row; the weights from before "
            f"them are {kept}"
        )


def _selection_callbacks(settings: SelectionConfig) -> list[Callback]:
    rule: dict[str, Any] = {
        "metric": settings.metric,
        "best": settings.best,
        "margin": settings.margin,
    }
    made: list[Callback] = []
    if settings.keep_best:
        made.append(BestCheckpoint(**rule))
    if settings.patience is not None:
        made.append(EarlyStopping(settings.patience, **rule))
    return made


def _warn(message: str, *values: object) -> None:
    if is_first():
        _log.warning(message, *values)
