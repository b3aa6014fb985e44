"""A cheap run whose numbers tell whether it went on rightly, and a harness that stops it.

    python tests/faults/drifting.py FOLDER kill COUNT SEED
    python tests/faults/drifting.py FOLDER signal SIGTERM SIGINT ...

The run of FOLDER is started and killed at random moments, or stopped by one signal after the other
in the middle of its steps. Each time it is begun again, with `resume` if it has a `config.json`.
At last it may end. Prints the exit codes; that of a kill is -9. Each run is a fork of this process,
which has imported everything and computed nothing.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp

from pgpo_jax.training import Evaluation, SelectionConfig, StepReport, TextsConfig, TrainState
from pgpo_jax.training.run import _loop
from pgpo_jax.training.run._loop import FitSettings, fit

STEPS = 60
FILES = ("metrics.jsonl", "evaluations.jsonl")


class Drifting:
    """A trainer whose weights wander: each step follows from all before it, to the last digit."""

    callbacks = ()
    objective = SimpleNamespace(learning_fraction="taught")
    held_out: ClassVar = [None]
    stream = SimpleNamespace(dropped=0)
    rollout_settings = evaluation_settings = None
    texts_settings = TextsConfig(rows=0, evaluation=0)

    def __init__(self, folder, *, steps=STEPS, size=512, every=2, keep=2):
        self.folder = folder
        self.settings = FitSettings(
            steps=steps,
            checkpoint_every=every,
            keep_checkpoints=keep,
            trackers=(),
            max_skipped=10,
            evaluate_every=5,
            selection=SelectionConfig(keep_best=True),
        )
        # Put where it is, as the trainer does: what a checkpoint restores is committed.
        weights = jax.device_put(jnp.sin(jnp.arange(float(size))), jax.devices()[0])
        number = jax.device_put(jnp.zeros((), jnp.int32), jax.devices()[0])
        self.initial_state = TrainState(number, {"w": weights}, None, None, number)
        self.memory = None

    def inputs(self):
        return {"weights": "0123"}

    def step(self, state):
        # Chaotic: an error doubles in each step.
        weights = 1 - 1.99 * state.params["w"] ** 2
        metrics = {"loss": float(weights.mean()), "taught": 1.0}
        report = StepReport(metrics, {}, None, None, [], {})
        return state._replace(step=state.step + 1, params={"w": weights}), report

    def evaluate(self, state):
        value = float(abs(state.params["w"][0]))
        return Evaluation({"q": value}, value, 0.0, 1.0, 0, right={"q": 1})

    def run(self, *, resume):
        # Nothing here is a model or a question.
        _loop.question_row = lambda question: {"id": "q"}
        loop = getattr(fit, "__wrapped__", fit)
        return loop(self, self.folder, self.settings, {"a": 1}, resume=resume)


def contents(folder):
    return [(folder / name).read_text() for name in FILES]


def start(folder):
    """A process that begins, or goes on with, the run of a folder."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        Drifting(folder).run(resume=(folder / "config.json").is_file())
        code = 0
    except SystemExit as error:
        code = error.code
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(folder, count, seed):
    moments = random.Random(seed)
    for _ in range(count):
        child = start(folder)
        time.sleep(moments.uniform(0.0, 2.0))
        os.kill(child, signal.SIGKILL)
        yield ended(child)


def signalled(folder, names):
    for place, name in enumerate(names, 1):
        child = start(folder)
        # Until it has made some steps more.
        while len(lines(folder)) < 10 * place:
            time.sleep(0.01)
        os.kill(child, getattr(signal, name))
        yield ended(child)


def lines(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.is_file() else []


def main(folder, how, *arguments):
    if how == "kill":
        codes = list(killed(folder, *map(int, arguments)))
    else:
        codes = list(signalled(folder, arguments))
    codes.append(ended(start(folder)))
    print(*codes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
