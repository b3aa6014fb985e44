import json
from pathlib import Path

import numpy as np
import pytest

from experiments.sweeps import _compare, _sweep


def write_run(config, folder, accuracies, *, questions=None, rho=None, steps=None, signal=None):
    """A run folder as training writes it, with accuracies that are given at each evaluation.

    Every question gets the accuracy of its evaluation, moved a little by a number of its own.
    `signal` holds the information of each step, by default 0.1 nats; rho is then that of it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    rng = np.random.default_rng([config.seed, len(accuracies)])
    questions = questions or [f"q{i:02d}" for i in range(16)]
    moves = rng.uniform(-0.05, 0.05, len(questions))
    rho = rho or float(np.exp(config.alpha * 0.1))
    with (
        (folder / "metrics.jsonl").open("w") as metrics,
        (folder / "evaluations.jsonl").open("w") as evaluations,
    ):
        for place, accuracy in enumerate(accuracies):
            step = place * config.evaluation.every
            scores = {
                name: float(accuracy + move) for name, move in zip(questions, moves, strict=True)
            }
            row = {"step": step, "eval/accuracy": float(np.mean(list(scores.values())))}
            metrics.write(json.dumps(row) + "\n")
            evaluations.write(json.dumps({"step": step, "scores": scores}) + "\n")
        for step in range(1, (steps or config.steps) + 1):
            information = signal[step - 1] if signal else 0.1
            followed = min(float(np.exp(config.alpha * information)), config.information.rho_max)
            row = {
                "step": step,
                "pgpo/rho": followed if signal else rho,
                "pgpo/information": information,
                "pgpo/clipped_count": 0.0,
                "optimizer/applied": 1.0,
                "rollout/response_length": 9.0,
                "self_distillation/student_entropy": 0.2,
                "self_distillation/teacher_entropy": 0.1,
            }
            metrics.write(json.dumps(row) + "\n")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """The experiments' million draws are for p-values near their limit."""
    monkeypatch.setattr(_compare, "_RESAMPLES", 4000)


@pytest.fixture
def pretend(monkeypatch):
    """Replaces training by a rule: `pretend(accuracies)`, where `accuracies(config)` is a list."""

    def install(accuracies):
        def train(config, folder):
            write_run(config, folder, accuracies(config))

        monkeypatch.setattr(_sweep, "train", train)

    return install
