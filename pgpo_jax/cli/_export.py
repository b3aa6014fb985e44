import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from flax import nnx

from pgpo_jax.cli._defaults import from_json
from pgpo_jax.errors import PGPOFileExistsError, PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.models import merged, save_pretrained
from pgpo_jax.training import Checkpoints, TrainConfig, init_state, load_policy, make_optimizer
from pgpo_jax.training.rollout._policy import model_folder
from pgpo_jax.training.run._checkpoint import free_buffers
from pgpo_jax.training.run._run_folder import open_run_folder
from pgpo_jax.training.update._state import student_weights, teacher_weights


@dataclass(frozen=True)
class ExportCommand:
    """Writes the trained model of a run as a Hugging Face folder, with its tokenizer."""

    run: tyro.conf.Positional[Path]
    """The run folder; its newest checkpoint is taken."""
    output: Path
    """The folder to write; must be new or empty."""
    weights: Literal["student", "teacher"] = "student"
    """The teacher is the slow average of the student, if the run has one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the stored weights."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo export`.

    Raises:
        FileNotFoundError: if there is no run or no checkpoint.
        RuntimeError: if the run is being trained.
        FileExistsError: if the output holds something.
        ValueError: if the run has no teacher weights of its own, or its model has changed.
    """
    command = tyro.cli(ExportCommand, prog="pgpo export", args=list(argv))
    path = command.run / "config.json"
    if not path.is_file():
        raise PGPOFileNotFoundError(f"there is no run in {command.run}: config.json is missing")
    if command.output.exists() and (
        not command.output.is_dir() or next(command.output.iterdir(), None) is not None
    ):
        raise PGPOFileExistsError(f"{command.output} exists and is not an empty folder")
    config = from_json(TrainConfig(), json.loads(path.read_text(encoding="utf-8")))
    if command.weights == "teacher" and config.teacher.kind == "live":
        raise PGPOValueError(
            "--weights teacher needs a teacher of its own, got a run with a live one"
        )
    policy, params = load_policy(config.model, dtype=config.dtype, param_dtype=config.param_dtype)
    template = init_state(params, make_optimizer(config), config.teacher, lora=config.lora)
    # Claimed, since opening the checkpoints of a live run would tidy away what it is writing.
    with (
        open_run_folder(command.run, config, resume=True) as folder,
        Checkpoints(
            folder.resolve() / "checkpoints", keep=max(1, config.keep_checkpoints)
        ) as checkpoints,
    ):
        state = checkpoints.restore(free_buffers(template))
    chosen = merged(
        student_weights(state.params, state.frozen, config.lora)
        if command.weights == "student"
        else teacher_weights(state)
    )
    policy.tokenizer.save_pretrained(command.output)
    endings = Path(model_folder(config.model)) / "generation_config.json"
    if endings.is_file():
        shutil.copy(endings, command.output)
    save_pretrained(nnx.merge(policy.graphdef, chosen), command.output, dtype=command.dtype)
    print(f"{command.weights} after {int(state.step)} steps -> {command.output}")
