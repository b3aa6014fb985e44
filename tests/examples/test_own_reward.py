"""The example of an own reward: it has few lines, and the model learns from it."""

import ast
import importlib.util
from pathlib import Path

import pytest

from pgpo_jax.cli import main
from pgpo_jax.training import read_jsonl

FILE = Path(__file__).parents[2] / "examples" / "own_reward.py"


def lines_of_code():
    """The lines that a user writes: the class and the body of `main`."""
    tree = ast.parse(FILE.read_text())
    task, run = (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    nodes = [task, *run.body]
    held = [n for node in nodes for n in range(node.lineno, (node.end_lineno or 0) + 1)]
    text = FILE.read_text().splitlines()
    return [text[number - 1] for number in held if text[number - 1].strip()]


def test_it_is_short():
    assert len(lines_of_code()) <= 15


@pytest.mark.slow
def test_the_model_learns_from_python_and_from_the_command_line(tmp_path):
    spec = importlib.util.spec_from_file_location("own_reward", FILE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(str(tmp_path / "python"), steps=10)
    flags = ("--optimizer.name", "muon", "--optimizer.learning-rate", "3e-4", "--steps", "10")
    output = ("--output", str(tmp_path / "command"), "--evaluation.questions", "0")
    assert main(["train", "--task", f"{FILE}:Science", *flags, *output]) == 0
    for name in ("python", "command"):
        rows = read_jsonl(tmp_path / name / "metrics.jsonl")
        accuracy = [row["eval/accuracy"] for row in rows if "eval/accuracy" in row]
        assert accuracy[-1] > accuracy[0] + 0.1
