"""What the loop does between steps: saving, giving up, warning, stopping. Nothing is compiled."""

import logging
import os
import shutil
import signal
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from pgpo_jax.training import (
    Callback,
    EarlyStopping,
    Evaluation,
    SelectionConfig,
    StepReport,
    TextsConfig,
    TrainState,
    read_jsonl,
)
from pgpo_jax.training.run._checkpoint import Checkpoints
from pgpo_jax.training.run._loop import FitSettings, fit
from pgpo_jax.training.run._signals import stop_requests

TAUGHT = "self_distillation/reprompt_sample_fraction"
SETTINGS = {
    "checkpoint_every": 1000,
    "keep_checkpoints": 100,
    "trackers": (),
    "max_skipped": 10,
    "evaluate_every": 1,
    "selection": SelectionConfig(),
}


class Scripted:
    """A trainer whose steps go as they are told to, one character each.

    "+": a step; "n": its gradient is not finite; "0": nothing to learn from; "w": no response is
    right; "t": SIGTERM comes, "i": SIGINT, "h": SIGHUP, "u": SIGUSR1. With `accuracies` there is an
    evaluation before the first step and after each one.
    """

    parts: dict[str, object] = {}  # noqa: RUF012
    signals = {"t": "SIGTERM", "i": "SIGINT", "h": "SIGHUP", "u": "SIGUSR1"}  # noqa: RUF012

    def __init__(self, script, folder, accuracies=(), callbacks=(), **changes):
        self.script, self.folder, self.accuracies = script, folder, accuracies
        self.settings = FitSettings(steps=len(script), **{**SETTINGS, **changes})
        self.held_out = [None] * len(accuracies)
        self.objective = SimpleNamespace(learning_fraction=TAUGHT)
        self.stream, self.callbacks = SimpleNamespace(dropped=0), tuple(callbacks)
        self.rollout_settings = self.evaluation_settings = None
        self.texts_settings = TextsConfig(rows=0)
        number = jnp.zeros((), jnp.int32)
        self.initial_state = TrainState(number, None, None, None, number)
        self.memory = None

    def inputs(self):
        return dict(self.parts)

    def step(self, state):
        event = self.script[int(state.step)]
        if event in self.signals:
            os.kill(os.getpid(), getattr(signal, self.signals[event]))
        skipped = state.skipped + 1 if event == "n" else 0 * state.skipped
        metrics = {"rollout/accuracy": 0.5 * (event != "w"), TAUGHT: float(event != "0")}
        report = StepReport(metrics, {}, None, None, [], {})
        return state._replace(step=state.step + 1, skipped=skipped), report

    def evaluate(self, state):
        accuracy = self.accuracies[int(state.step)]
        return Evaluation({"q": accuracy}, accuracy, 0.0, 1.0, 0, right={"q": 1})

    def run(self, resume=False):
        # Past the type checks of the suite: nothing here is a model.
        loop = getattr(fit, "__wrapped__", fit)
        return loop(self, self.folder, self.settings, {"a": 1}, resume=resume)

    @property
    def saved(self):
        return sorted(int(path.name) for path in (self.folder / "checkpoints").iterdir())


@pytest.fixture(autouse=True)
def plain_questions(monkeypatch):
    monkeypatch.setattr("pgpo_jax.training.run._loop.question_row", lambda question: {"id": "q"})


def test_checkpoints_at_their_steps_and_at_the_end(tmp_path):
    trainer = Scripted("+++++", tmp_path, checkpoint_every=2)
    assert int(trainer.run().step) == 5
    assert trainer.saved == [2, 4, 5]


def test_gradients_that_are_not_finite_stop_a_run_after_so_many_in_a_row(tmp_path):
    trainer = Scripted("nn+nnn+", tmp_path / "a", max_skipped=3)
    with pytest.raises(FloatingPointError, match=r"3 steps in a row.*from before them are saved"):
        trainer.run()
    assert trainer.saved == [6]
    # Negative control: as many that are not in a row do not.
    assert int(Scripted("nn+nn+n", tmp_path / "b", max_skipped=3).run().step) == 7


def test_a_task_in_which_nothing_is_ever_right_is_told_with_what_to_do(tmp_path, caplog):
    def warnings(script, name):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "pgpo_jax"):
            Scripted(script, tmp_path / name, keep_checkpoints=0).run()
        return [record.getMessage() for record in caplog.records]

    told = warnings("w" * 20, "never")
    assert [text.split("steps")[0] for text in told] == [
        "no response of the last 10 ",
        "no response of the last 20 ",
    ]
    assert "pgpo inspect" in told[0]
    assert "pgpo sft" in told[0]
    # The controls: too few steps, and one right response among them.
    assert warnings("w" * 9, "few") == []
    assert warnings("+" + "w" * 19, "once") == []


def test_a_run_that_keeps_nothing_says_so_when_it_gives_up(tmp_path):
    trainer = Scripted("nn", tmp_path, max_skipped=2, keep_checkpoints=0)
    with pytest.raises(FloatingPointError, match="not saved"):
        trainer.run()


def test_steps_with_nothing_to_learn_from_are_told_once_and_then_every_tenth(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "pgpo_jax"):
        Scripted("0" * 12 + "+" + "00", tmp_path).run()
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert told == ["step 1", "step 11", "step 14"]


@pytest.mark.parametrize("letter", "tihu")
def test_the_first_signal_ends_the_run_after_its_step_and_the_second_at_once(tmp_path, letter):
    number = getattr(signal, Scripted.signals[letter])
    before = signal.getsignal(number)
    trainer = Scripted(f"+{letter}++", tmp_path)
    with pytest.raises(SystemExit) as end:
        trainer.run()
    assert end.value.code == 128 + number
    assert trainer.saved == [2]
    assert signal.getsignal(number) is before
    with stop_requests() as request:
        assert signal.getsignal(number) is not before
        os.kill(os.getpid(), number)
        assert request.number == number
        assert signal.getsignal(number) is before


def test_a_signal_to_another_process_ends_the_run_in_this_one_too(tmp_path, monkeypatch, caplog):
    """Without an evaluation, which the process that got the signal would not make with us."""
    steps = iter([0, 0, signal.SIGTERM])
    monkeypatch.setattr(
        "pgpo_jax.training.run._loop.largest", lambda own: max(own, int(next(steps)))
    )
    trainer = Scripted("++++", tmp_path, accuracies=(0.1,) * 5, evaluate_every=3)
    with pytest.raises(SystemExit) as end, caplog.at_level(logging.WARNING, "pgpo_jax"):
        trainer.run()
    assert end.value.code == 143
    assert trainer.saved == [2]
    assert "step 2: stopped by SIGTERM, the state is saved" in caplog.text
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "eval/accuracy" in row] == [0]


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert int(Scripted("+h+", tmp_path).run().step) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_during_the_first_evaluation_ends_the_run_before_its_first_step(tmp_path):
    class Interrupted(Scripted):
        def evaluate(self, state):
            if not int(state.step):
                os.kill(os.getpid(), signal.SIGTERM)
            return super().evaluate(state)

    with pytest.raises(SystemExit) as end:
        Interrupted("++", tmp_path, accuracies=(0.1, 0.2, 0.3)).run()
    assert end.value.code == 143
    resumed = Scripted("++", tmp_path, accuracies=(0.1, 0.2, 0.3))
    assert int(resumed.run(resume=True).step) == 2
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "eval/accuracy" in row] == [0, 1, 2]


class Told(Callback):
    def __init__(self):
        self.events = []

    def on_start(self, run):
        self.events.append(("start", len(run.history)))

    def on_step(self, run, step, metrics):
        self.events.append(("step", step, metrics["rollout/accuracy"]))

    def on_evaluation(self, run, step, metrics, scores):
        self.events.append(("evaluation", step, metrics["eval/accuracy"], scores))

    def on_checkpoint(self, run, step):
        self.events.append(("checkpoint", step, int(run.state.step)))

    def on_end(self, run):
        self.events.append(("end", int(run.state.step)))


def test_callbacks_are_told_in_order(tmp_path):
    told = Told()
    settings = {"checkpoint_every": 2, "evaluate_every": 2, "accuracies": (0.1, 0.2, 0.3)}
    Scripted("++", tmp_path, callbacks=[told], **settings).run()
    assert told.events == [
        ("start", 0),
        ("evaluation", 0, 0.1, {"q": 0.1}),
        ("step", 1, 0.5),
        ("step", 2, 0.5),
        ("evaluation", 2, 0.3, {"q": 0.3}),
        ("checkpoint", 2, 2),
        ("end", 2),
    ]


def test_a_callback_may_end_the_run_which_is_evaluated_and_saved(tmp_path):
    class Enough(Callback):
        def on_step(self, run, step, metrics):
            if step == 2:
                run.stop("two are enough")

    told, curve = Told(), (0.1, 0.2, 0.3, 0.4, 0.5)
    trainer = Scripted(
        "++++", tmp_path, accuracies=curve, callbacks=[Enough(), told], evaluate_every=4
    )
    assert int(trainer.run().step) == 2
    assert trainer.saved == [2]
    assert [event[1] for event in told.events if event[0] == "evaluation"] == [0, 2]


def test_who_has_started_is_told_of_the_end_whatever_the_others_do(tmp_path):
    class Broken(Callback):
        def __init__(self, where):
            self.where = where

        def on_start(self, run):
            if self.where == "start":
                raise ZeroDivisionError("start")

        def on_end(self, run):
            if self.where == "end":
                raise ZeroDivisionError("end")

    for where, steps in (("start", 0), ("end", 1)):
        first, last = Told(), Told()
        callbacks = [first, Broken(where), last]
        with pytest.raises(ZeroDivisionError, match=where):
            Scripted("+", tmp_path / where, callbacks=callbacks).run()
        assert first.events[-1] == ("end", steps)
        assert last.events == ([] if where == "start" else [*last.events[:-1], ("end", 1)])


def test_the_end_is_told_of_a_run_that_fails(tmp_path):
    told = Told()
    with pytest.raises(FloatingPointError):
        Scripted("n", tmp_path, callbacks=[told], max_skipped=1).run()
    assert told.events[-1] == ("end", 1)


# Best at step 2; then as good, worse, worse.
CURVE = (0.1, 0.5, 0.7, 0.7, 0.2, 0.3, 0.9)


def test_a_run_stops_early_when_it_does_not_get_better(tmp_path):
    selection = SelectionConfig(patience=2, keep_best=True)
    trainer = Scripted("++++++", tmp_path, accuracies=CURVE, selection=selection)
    assert int(trainer.run().step) == 4
    assert trainer.saved == [4]
    assert [path.name for path in (tmp_path / "checkpoints-best").iterdir()] == ["2"]
    # A run that is resumed remembers what it has seen, and stops where it was.
    again = Scripted("++++++", tmp_path, accuracies=CURVE, selection=selection)
    assert int(again.run(resume=True).step) == 4
    # Negative control: with more patience it goes on.
    patient = SelectionConfig(patience=3, keep_best=True)
    trainer = Scripted("++++++", tmp_path, accuracies=CURVE, selection=patient)
    assert int(trainer.run(resume=True).step) == 5


def test_the_best_checkpoint_has_what_the_objective_remembers(tmp_path):
    selection = SelectionConfig(keep_best=True)
    trainer = Scripted("++", tmp_path, accuracies=CURVE[:3], selection=selection)
    trainer.memory = {"seen": 3}
    trainer.run()
    folder = tmp_path / "checkpoints-best"
    with Checkpoints(folder) as best:
        assert best.memory() == {"seen": 3}
    # Without its file it is refused, and the file is named.
    missing = folder / "2" / "memory"
    shutil.rmtree(missing)
    with Checkpoints(folder) as best, pytest.raises(ValueError, match=f"{missing} is missing"):
        best.memory()


def test_a_margin_and_the_smallest_value(tmp_path):
    run = SimpleNamespace(
        history=[], reasons=[], folder=tmp_path, state=None, inputs={}, memory=None
    )
    run.stop = run.reasons.append
    lengths = EarlyStopping(2, metric="eval/response_length", best="smallest", margin=0.5)
    lengths.on_start(run)
    for step, value in enumerate((9.0, 8.0, 7.8, 7.0, 6.9)):
        lengths.on_evaluation(run, step, {"eval/response_length": value}, {})
    assert not run.reasons
    lengths.on_evaluation(run, 5, {"eval/response_length": float("nan")}, {})
    assert run.reasons == ["eval/response_length has not become better for 2 evaluations"]
