"""Pre-trains the tiny model that PGPO-JAX ships, from a seed, on two CPU cores.

    python -m experiments.pretrain_tiny --seed 0 --output pgpo_jax/assets/tiny

The curriculum is in `_stages.py`, the rows in `_data.py`, the gate that the
result has to pass in `_gate.py`; docs/tiny.md tells why. A model that fails the gate is
written to `<output>-rejected`, and the exit status is 1.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
import tyro
from flax import nnx

from experiments.pretrain_tiny._data import Corpus
from experiments.pretrain_tiny._gate import GateReport, measure
from experiments.pretrain_tiny._loop import Learner, tiny_config
from experiments.pretrain_tiny._stages import CURRICULUM, MIX, Stage
from experiments.pretrain_tiny._tokenizer import END, PAD, build_tokenizer, save_tokenizer
from pgpo_jax.models import Qwen3, save_pretrained
from pgpo_jax.paths import with_local_paths

_LOG_EVERY = 25
# Weight of the past in the running loss and accuracy that end a stage.
_SMOOTHING = 0.8
_MIN_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the pre-training."""

    output: Path
    """Folder for the model, its tokenizer and pretraining.jsonl; must not hold a model yet."""
    seed: int = 0
    """Of the weights, the rows and the gate's sampling."""
    rate: float = 3e-3
    """Peak learning rate of Muon and Adam."""
    rounds: int = 3
    """The final mix is repeated until the gate is passed, so many times at most."""


class Log:
    """Lines of JSON into a file, and to the terminal."""

    def __init__(self, file: TextIO):
        self.file = file
        self.start = time.monotonic()

    def write(self, **fields: Any) -> None:
        """Writes one line, with the seconds since the start."""
        line = json.dumps({"seconds": round(time.monotonic() - self.start, 1), **fields})
        self.file.write(line + "\n")
        self.file.flush()
        print(line, flush=True)


def run_stage(stage: Stage, learner: Learner, corpus: Corpus, rate: float, log: Log) -> None:
    """Trains until the stage's goal or its last step.

    Args:
        stage: what to do.
        learner: weights and optimizer, changed in place.
        corpus: source of the rows.
        rate: peak learning rate.
        log: takes the running losses and accuracies.
    """
    running: dict[str, np.ndarray] = {}
    for step in range(stage.steps):
        batch = corpus.batch(dict(stage.rows), **stage.options)
        measured = learner.update(batch, rate * stage.rate(step))
        for name, values in measured.items():
            now = np.array([float(value) for value in values])
            running[name] = _SMOOTHING * running.get(name, now) + (1 - _SMOOTHING) * now
        reached = False
        if stage.watched is not None and step >= _MIN_STEPS:
            loss, accuracy = running[stage.watched]
            reached = bool(accuracy >= stage.accuracy or loss <= stage.loss)
        if reached or step % _LOG_EVERY == 0 or step == stage.steps - 1:
            values = {
                f"{name}/{what}": round(float(value), 4)
                for name, pair in running.items()
                for what, value in zip(("loss", "accuracy"), pair, strict=True)
            }
            log.write(stage=stage.name, step=step, **values)
        if reached:
            return


def pretrain(config: Config, log: Log) -> tuple[Qwen3, GateReport]:
    """The whole curriculum, then the mix until the gate is passed.

    Args:
        config: options.
        log: takes progress and the gate's figures.

    Returns:
        The model and the last report of the gate.
    """
    tokenizer = build_tokenizer()
    corpus = Corpus(tokenizer, config.seed)
    shape = tiny_config(
        tokenizer.get_vocab_size(), end=tokenizer.token_to_id(END), pad=tokenizer.token_to_id(PAD)
    )
    learner = Learner(Qwen3(shape, rngs=nnx.Rngs(config.seed)))
    log.write(
        # Where the model goes changes no number, and a path of one machine tells others nothing.
        config={k: v for k, v in dataclasses.asdict(config).items() if k != "output"},
        parameters=sum(leaf.size for leaf in jax.tree.leaves(learner.params)),
    )
    for stage in CURRICULUM:
        run_stage(stage, learner, corpus, config.rate, log)
    for left in range(config.rounds, 0, -1):
        run_stage(MIX, learner, corpus, config.rate, log)
        report = measure(learner.model(), tokenizer, seed=config.seed)
        log.write(gate=dataclasses.asdict(report), passed=report.passed)
        if report.passed or left == 1:
            return learner.model(), report
    raise AssertionError("the last round returns")


def main(argv: list[str] | None = None) -> int:
    """Pre-trains, and writes the model if it is good enough.

    Args:
        argv: the flags; by default those of the process.

    Returns:
        The exit status: 1 if the gate was not passed, 2 for a request that is refused.
    """
    config = with_local_paths(
        tyro.cli(Config, args=argv, prog="python -m experiments.pretrain_tiny", description=__doc__)
    )
    refused = None
    if config.rounds < 1:
        refused = f"rounds must be at least 1, got {config.rounds}"
    elif (config.output / "model.safetensors").exists():
        refused = f"output must not hold a model yet, got {config.output}"
    if refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    config.output.parent.mkdir(parents=True, exist_ok=True)
    log_path = config.output.with_name(config.output.name + "-pretraining.jsonl")
    with log_path.open("w", encoding="utf-8") as file:
        model, report = pretrain(config, Log(file))
    folder = config.output
    if not report.passed:
        folder = folder.with_name(folder.name + "-rejected")
        print(f"The gate was not passed; the model goes to {folder}.", file=sys.stderr)
    save_pretrained(model, folder)
    save_tokenizer(build_tokenizer(), folder)
    log_path.replace(folder / "pretraining.jsonl")
    return 0 if report.passed else 1
