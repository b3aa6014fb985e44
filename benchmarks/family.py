"""Seconds a step and memory of each objective relative to SDPO, on the shipped model.

    python -m benchmarks.family --rounds 8

The trainers stand side by side and take one step each in turns, so that what else the machine does
falls on all alike. The first step of each, which compiles, is not counted. A step's answers, and so
its shapes, are its own; the update alone is given as well. The task's grader says nothing, and rltf
has no second turn without its words, so there it tells wrong answers that they are wrong.

Memory is `pgpo plan`'s: what a run holds at most, with the compiler's figure for the step.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from pgpo_jax.tasks import Grade, Question, Task
from pgpo_jax.training import (
    PRESETS,
    PUBLISHED,
    TeacherConfig,
    TrainConfig,
    Trainer,
    memory_plan,
    model_shape,
    with_published,
)

OBJECTIVES = ("sdpo", "grpo", *PUBLISHED)


class Told:
    """A task whose grader tells wrong answers that they are wrong."""

    def __init__(self, task: Task):
        self.task = task

    def questions(self, split: str, seed: int) -> Sequence[Question]:
        return self.task.questions(split, seed)

    def grade(self, question: Question, response: str) -> Grade:
        grade = self.task.grade(question, response)
        words = "" if grade.score else "This answer is wrong."
        return grade._replace(feedback=words)


def make_config(name: str) -> TrainConfig:
    """The objective with its published settings on the preset `tiny`, without a multiplier.

    Where the teacher is another model, that is the shipped one; a context of the task is one line.
    """
    config = PRESETS["tiny"]
    if name in ("opd", "reopold"):
        config = replace(config, teacher=TeacherConfig(kind="external", model="tiny"))
    config = with_published(config, name)
    if name == "rltf":
        # Its default is for long answers.
        config = replace(config, rltf=replace(config.rltf, max_prompt=192))
    if name == "opcd":
        lessons = Path(tempfile.mkdtemp()) / "lessons.txt"
        lessons.write_text("- EXPERIENCE ITEM: Read every option before you answer.\n")
        config = replace(config, teacher=replace(config.teacher, experience=str(lessons)))
    return replace(config, information=replace(config.information, alpha=0.0))


def make_trainer(config: TrainConfig) -> Trainer:
    """The trainer of a configuration."""
    policy, task, objective, optimizer = config.build()
    if config.objective == "rltf":
        task = Told(task)
    return Trainer(policy, task, objective, optimizer, **config.trainer_settings())


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Seconds a step, in turns, and memory of each objective relative to SDPO."
    )
    parser.add_argument("--rounds", type=int, default=8, help="counted steps of each objective")
    parser.add_argument("--only", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--json", help="write the figures to this file, too")
    args = parser.parse_args()
    names = ["sdpo", *(name for name in args.only if name != "sdpo")]
    configs = {name: make_config(name) for name in names}
    peaks = {
        name: memory_plan(config, model_shape(config.model)).peak
        for name, config in configs.items()
    }
    trainers = {name: make_trainer(config) for name, config in configs.items()}
    states = {name: trainer.initial_state for name, trainer in trainers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    updates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(args.rounds + 1):
        for name in names:
            start = time.perf_counter()
            states[name], report = trainers[name].step(states[name])
            jax.block_until_ready(states[name])
            if turn:
                seconds[name].append(time.perf_counter() - start)
                updates[name].append(report.timings["time/update"])
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {args.rounds} rounds")
    print(
        f"{'objective':10} {'s a step':>9} {'over sdpo':>10} {'s an update':>12} {'over sdpo':>10}"
        f" {'peak MB':>8} {'over sdpo':>10}"
    )
    rows = {}
    for name in names:
        row = {}
        for key, taken in (("step", seconds), ("update", updates)):
            ratios = [a / b for a, b in zip(taken[name], taken["sdpo"], strict=True)]
            row[key] = statistics.median(taken[name])
            row[f"{key} over sdpo"] = statistics.median(ratios)
        row["peak MB"] = peaks[name] / 1e6
        row["peak over sdpo"] = peaks[name] / peaks["sdpo"]
        rows[name] = row
        print(
            f"{name:10} {row['step']:9.3f} {row['step over sdpo']:10.3f} "
            f"{row['update']:12.3f} {row['update over sdpo']:10.3f} "
            f"{row['peak MB']:8.1f} {row['peak over sdpo']:10.3f}"
        )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
