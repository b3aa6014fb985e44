"""The inputs of a run, as plain values for the record of a checkpoint."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from pgpo_jax._version import __version__
from pgpo_jax.paths import local_path
from pgpo_jax.tasks import Question, is_object_spec
from pgpo_jax.training.run._digest import combined, digests

# Records of another format are not compared.
FORMAT = 1
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers")
_MODEL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
# Keys that libraries write into a model's files and that have no effect.
_IDLE_FIELDS = {"_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype"}
# Number of questions compared of an endless source, and of a lazy one.
_SOME_QUESTIONS = 64


def model_inputs(weights: Any, folder: str, end_ids: Sequence[int]) -> dict[str, Any]:
    """The identity of a model: its weights as loaded, and the other files of its folder.

    Args:
        weights: arrays before the first step, on the devices.
        folder: folder that it was read from; empty if that is not known.
        end_ids: ids of the tokens that end a response.
    """
    paths = jax.tree_util.tree_flatten_with_path(weights)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
    files = {}
    for name in _MODEL_FILES if folder else ():
        path = Path(folder) / name
        if path.is_file():
            files[name] = _file_digest(path)
    return {
        "weights": combined(digests(named, purpose="of the initial model")),
        "model_files": files,
        "end_tokens": [int(id) for id in end_ids],
    }


def question_inputs(train: Sequence[Question], held_out: Sequence[Question]) -> dict[str, Any]:
    """The identity of a run's questions, independent of the paths of their files."""
    return {"questions": _questions(train), "held_out_questions": _questions(held_out)}


def run_inputs(config: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run.

    Args:
        config: as in `config.json`.
        parts: results of `model_inputs` and `question_inputs`, or a part of them.

    Returns:
        Plain values for JSON.
    """
    plain = json.loads(json.dumps(config))
    versions = {"pgpo-jax": __version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in _PACKAGES}
    device = jax.devices()[0]
    machine: dict[str, Any] = {"device": device.device_kind}
    if device.platform == "cpu":
        machine["cores"] = _cores()
    return {
        "format": FORMAT,
        "config": plain,
        **parts,
        "code": _code(plain),
        "versions": versions | machine,
    }


def _questions(questions: Sequence[Question]) -> dict[str, Any]:
    count = len(questions)
    whole = isinstance(questions, list | tuple)
    looked_at = count if whole else min(count, _SOME_QUESTIONS)
    digest = hashlib.sha256()
    # They carry no further information, and former versions did not have them.
    implied = getattr(questions, "implied", ())
    for position in range(looked_at):
        digest.update(_line(questions[position], implied).encode("utf-8", "surrogatepass") + b"\n")
    return {
        "count": "endless" if count == sys.maxsize else count,
        "digest": digest.hexdigest()[:16],
    }


def _line(question: Question, implied: Collection[str]) -> str:
    """The contents of a question. Its id and domain may come from the name of its file."""
    said = {
        entry.name: getattr(question, entry.name)
        for entry in dataclasses.fields(question)
        if entry.name not in ("id", "domain", "history", "columns", *implied)
    }
    # Empty fields of later versions do not change the digest.
    said = {name: value for name, value in said.items() if value not in (None, "")}
    said["history"] = [(turn.role, turn.content) for turn in question.history]
    said["columns"] = {str(name): value for name, value in question.columns.items()}
    return json.dumps(said, sort_keys=True, default=lambda value: type(value).__name__)


def _code(config: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the user's files that a configuration names."""
    grader, engine = config.get("grader"), config.get("engine")
    specs = [config.get("task"), config.get("objective")]
    if isinstance(engine, dict):
        specs.append(engine.get("name"))
    if isinstance(grader, dict):
        specs += [part.rpartition("=")[0] or part for part in str(grader.get("name")).split(",")]
    return dict(_file_digests(spec for spec in specs if isinstance(spec, str)))


def _file_digests(specs: Iterable[str]) -> Iterable[tuple[str, str]]:
    for spec in specs:
        if is_object_spec(spec):
            path = local_path(spec.rpartition(":")[0])
            if path.is_file():
                yield path.name, _file_digest(path)


def _file_digest(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            values = json.loads(data)
        except ValueError:
            values = None
        if isinstance(values, dict):
            kept = {name: value for name, value in values.items() if name not in _IDLE_FIELDS}
            data = json.dumps(kept, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    # It can be imported but was not installed as a package.
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
