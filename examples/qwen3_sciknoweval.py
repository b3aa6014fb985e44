"""PGPO on SciKnowEval as the paper trains Qwen3, and the same on a small checkpoint made here.

    python examples/qwen3_sciknoweval.py                       # a minute on two cores, small
    python examples/qwen3_sciknoweval.py MODEL QUESTIONS RUN   # the paper's settings, on its size

MODEL is a Qwen3 folder or Hub id, QUESTIONS the path of a `train.json` with a `test.json` beside
it, as published with SDPO (docs/data.md). Both ways make the same two calls; only sizes differ.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pgpo_jax
from pgpo_jax import models
from pgpo_jax.tasks.synthetic import SyntheticQuestions
from pgpo_jax.training import PRESETS, TrainConfig, read_jsonl, train


def paper(model: str, questions: str) -> TrainConfig:
    """The paper's settings, on a model and questions of yours."""
    return replace(PRESETS["paper-qwen3-8b"], model=model, task=questions)


def small(folder: Path, steps: int) -> TrainConfig:
    """The same for a checkpoint and questions that are made here: a batch of 4 x 4 responses."""
    model, questions = small_checkpoint(folder / "model"), small_questions(folder / "physics")
    tiny = PRESETS["tiny"]
    return replace(
        paper(str(model), str(questions)),
        steps=steps,
        dtype=tiny.dtype,
        remat=tiny.remat,
        trackers=(),
        rollout=replace(tiny.rollout, questions=4, samples=4, row_buckets=1),
        teacher=tiny.teacher,
        loss=tiny.loss,
        optimizer=tiny.optimizer,
        evaluation=replace(tiny.evaluation, every=steps, questions=16, batch=4),
    )


def small_checkpoint(folder: Path) -> Path:
    """A Qwen3 in Hugging Face layout: the shipped weights, written as any checkpoint is."""
    shipped = Path(pgpo_jax.__file__).parent / "assets" / "tiny"
    models.save_pretrained(models.load_pretrained(shipped), folder)
    for file in shipped.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return folder


def small_questions(folder: Path) -> Path:
    """`train.json` and `test.json` in the layout of SciKnowEval; none of its questions is here."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 64), ("test", 16)):
        source = SyntheticQuestions("physics", split=split)
        rows = [
            {"idx": i, "system": q.system, "prompt": q.prompt, "answer": q.answer, "kind": q.kind}
            for i, q in enumerate(source[i] for i in range(count))
        ]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder / "train.json"


def run(config: TrainConfig, folder: Path) -> list[dict]:
    """Trains, and gives the rows of steps and evaluations."""
    train(config, folder)
    rows = read_jsonl(folder / "metrics.jsonl")
    for row in rows:
        if "eval/accuracy" in row:
            print(f"step {row['step']}: accuracy {row['eval/accuracy']:.2f}")
    return rows


def main(folder: str = "runs/qwen3-sciknoweval", steps: int = 20) -> list[dict]:
    """The small run."""
    return run(small(Path(folder), steps), Path(folder) / "run")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        run(paper(sys.argv[1], sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
