"""What the loop does between steps: saving, giving up, warning, stopping. Nothing is compiled."""

import logging
import os
import signal

import jax.numpy as jnp
import pytest

from pgpo_jax.training import SilentTracker, StepReport, Trainer, TrainState
from pgpo_jax.training._train import _loop, _terminable
from tests.training.test_train import SMALL, replaced

TAUGHT = "self_distillation/reprompt_sample_fraction"


class Scripted(Trainer):
    """A trainer whose steps go as they are told to, one character each.

    "+": a step; "n": its gradient is not finite; "0": nothing to learn from; "t": SIGTERM comes.
    """

    def __init__(self, script, **changes):
        changes = {"steps": len(script), "checkpoint_every": 1000, **changes}
        self.config, self.script = replaced(SMALL, **changes), script
        self.held_out, self.evaluated, self.saved = (), [], []
        number = jnp.zeros((), jnp.int32)
        self.initial_state = TrainState(number, None, None, None, number)

    def step(self, state):
        event = self.script[int(state.step)]
        if event == "t":
            os.kill(os.getpid(), signal.SIGTERM)
        skipped = state.skipped + 1 if event == "n" else 0 * state.skipped
        report = StepReport({"rollout/accuracy": 0.5, TAUGHT: float(event != "0")}, {})
        return state._replace(step=state.step + 1, skipped=skipped), report

    def save(self, state):
        self.saved.append(int(state.step))

    def run(self):
        return _loop(self, self.initial_state, SilentTracker(), self.save)


def test_checkpoints_at_their_steps_and_at_the_end():
    trainer = Scripted("+++++", checkpoint_every=2)
    assert int(trainer.run().step) == 5
    assert trainer.saved == [2, 4, 5]


def test_gradients_that_are_not_finite_stop_a_run_after_so_many_in_a_row():
    limit = {"optimizer": {"max_skipped": 3}}
    trainer = Scripted("nn+nnn+", **limit)
    with pytest.raises(FloatingPointError, match=r"3 steps in a row.*from before them are saved"):
        trainer.run()
    assert trainer.saved == [6]
    # Negative control: as many that are not in a row do not.
    assert int(Scripted("nn+nn+n", **limit).run().step) == 7


def test_a_run_that_keeps_nothing_says_so_when_it_gives_up():
    trainer = Scripted("nn", optimizer={"max_skipped": 2})
    with pytest.raises(FloatingPointError, match="not saved"):
        _loop(trainer, trainer.initial_state, SilentTracker(), None)


def test_steps_with_nothing_to_learn_from_are_told_once_and_then_every_tenth(caplog):
    with caplog.at_level(logging.WARNING, "pgpo_jax"):
        Scripted("0" * 12 + "+" + "00").run()
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert told == ["step 1", "step 11", "step 14"]


def test_the_first_sigterm_ends_the_run_after_its_step_and_the_second_at_once():
    before = signal.getsignal(signal.SIGTERM)
    trainer = Scripted("+t++")
    with pytest.raises(SystemExit) as end:
        trainer.run()
    assert end.value.code == 143
    assert trainer.saved == [2]
    assert signal.getsignal(signal.SIGTERM) is before
    with _terminable() as terminated:
        assert signal.getsignal(signal.SIGTERM) is not before
        os.kill(os.getpid(), signal.SIGTERM)
        assert terminated.wait(10)
        assert signal.getsignal(signal.SIGTERM) is before
