import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOFloatingPointError
from pgpo_jax.training._trainer import Trainer
from pgpo_jax.training.config._rules import require
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.devices._processes import any_process, is_first, on_first
from pgpo_jax.training.rollout._evaluate import Evaluation
from pgpo_jax.training.run._checkpoint import Checkpoints, free_buffers
from pgpo_jax.training.run._run_folder import open_run_folder
from pgpo_jax.training.run._tracker import SilentTracker, Tracker
from pgpo_jax.training.run._trackers import make_trackers
from pgpo_jax.training.update._state import TrainState

_log = logging.getLogger("pgpo_jax")
_WARN_EVERY = 10
_SHOWN = {"accuracy": "rollout/accuracy", "I": "pgpo/information", "rho": "pgpo/rho"}
# Where one of these is zero the step has nothing to learn from.
_SIGNAL = ("self_distillation/reprompt_sample_fraction", "policy/mixed_group_fraction")


class TrainResult(NamedTuple):
    """The end of a run: its trainer and its final state; all numbers are in the run folder."""

    trainer: Trainer
    state: TrainState


def train(config: TrainConfig, folder: str | Path, *, resume: bool = False) -> TrainResult:
    """Trains from start to end, or from the newest checkpoint to the end.

    On SIGTERM the step in progress is finished, the state saved, and the process exits with 143;
    `resume` continues from there. A second SIGTERM ends it at once. With several processes (see
    `connect`) all call this with the same arguments; the first writes the folder, checkpoints are
    written by all, and a SIGTERM to any of them stops all after the same step.

    Args:
        config: what to run.
        folder: the run folder; created if need be.
        resume: continue the run in it, which may be one that has come to its end if `steps` are
            more now. The metrics are then, digit for digit, those of a run that was never
            interrupted; what its former end has been evaluated for stays.

    Raises:
        FileExistsError, FileNotFoundError, RuntimeError, ValueError: if the folder does not fit
            the request (see `open_run_folder`), if a run is to be resumed and keep no checkpoint,
            or if model, task or mesh are bad.
        FloatingPointError: after `optimizer.max_skipped` non-finite gradients in a row.
    """
    if resume:
        require(
            config.keep_checkpoints > 0,
            "keep_checkpoints must be at least 1 to resume a run: it goes on from its newest "
            "checkpoint, and one that keeps none cannot be continued",
            config.keep_checkpoints,
        )
    path = Path(folder).resolve()
    # The model and the questions are checked before the folder is claimed: an error in them
    # must not leave a half-made run behind.
    trainer = Trainer(config)
    with on_first(open_run_folder(path, config, resume=resume)), ExitStack() as stack:
        checkpoints = None
        if config.keep_checkpoints:
            checkpoints = stack.enter_context(
                Checkpoints(path / "checkpoints", keep=config.keep_checkpoints)
            )
        state = trainer.initial_state
        if resume:
            assert checkpoints is not None
            if checkpoints.latest is None:
                raise PGPOFileNotFoundError(f"nothing to resume: there is no checkpoint in {path}")
            # The initial state takes as much memory as the one that is read.
            state = checkpoints.restore(free_buffers(state))
        first = int(state.step)
        if first >= config.steps:
            _warn("the run is at step %d of %d already: nothing is left", first, config.steps)
        if trainer.stream.dropped:
            _warn(
                "%d questions have prompts of over %d tokens and are left out",
                trainer.stream.dropped,
                config.rollout.max_prompt,
            )
        tracker: Tracker = SilentTracker()
        if is_first():
            tracker = make_trackers(
                ("tensorboard",) if config.tensorboard else (),
                path,
                config=config.to_json(),
                last_step=first if resume else -1,
            )
        try:
            if not resume:
                _evaluate(trainer, state, tracker)
            state = _loop(trainer, state, tracker, checkpoints.save if checkpoints else None)
        finally:
            tracker.close()
    return TrainResult(trainer, state)


def _loop(
    trainer: Trainer,
    state: TrainState,
    tracker: Tracker,
    save: Callable[[TrainState], None] | None,
) -> TrainState:
    config, silent = trainer.config, 0
    kept = "not saved" if save is None else "saved"
    steps = range(int(state.step) + 1, config.steps + 1)
    # `disable=None` shows the bar on a terminal only.
    hidden = None if is_first() else True
    with (
        _terminable() as terminated,
        tqdm(initial=steps.start - 1, total=config.steps, disable=hidden, unit="step") as bar,
    ):
        for number in steps:
            state, report = trainer.step(state)
            tracker.log(number, report.metrics)
            tracker.log_timing(number, report.timings)
            bar.update()
            shown = {
                label: f"{report.metrics[name]:.3f}"
                for label, name in _SHOWN.items()
                if name in report.metrics
            }
            bar.set_postfix(shown)
            dead = any(report.metrics.get(name) == 0 for name in _SIGNAL)
            silent = silent + 1 if dead else 0
            if silent % _WARN_EVERY == 1:
                _warn(
                    "step %d: no response has anything to learn from (%d in a row)", number, silent
                )
            if int(state.skipped) >= config.optimizer.max_skipped:
                if save is not None:
                    save(state)
                raise PGPOFloatingPointError(
                    f"the gradient was not finite for {int(state.skipped)} steps in a row; "
                    f"the weights from before them are {kept}"
                )
            last, stopped = number == config.steps, any_process(terminated.is_set())
            if last or number % config.evaluation.every == 0:
                _evaluate(trainer, state, tracker)
            due = last or stopped or number % config.checkpoint_every == 0
            if due and save is not None:
                save(state)
            if stopped:
                _warn("step %d: stopped by SIGTERM, the state is %s", number, kept)
                sys.exit(128 + signal.SIGTERM)
    return state


def _evaluate(trainer: Trainer, state: TrainState, tracker: Tracker) -> Evaluation | None:
    if not trainer.held_out:
        return None
    result = trainer.evaluate(state)
    step = int(state.step)
    tracker.log(
        step,
        {
            "eval/accuracy": result.accuracy,
            "eval/standard_error": result.standard_error,
            "eval/response_length": result.response_length,
            "eval/dropped_questions": float(result.dropped),
        },
    )
    tracker.log_evaluation(step, result.scores)
    return result


def _warn(message: str, *values: object) -> None:
    if is_first():
        _log.warning(message, *values)


@contextmanager
def _terminable() -> Iterator[threading.Event]:
    """Turns the first SIGTERM into an event; the second has its usual effect."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGTERM, previous)

    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)
