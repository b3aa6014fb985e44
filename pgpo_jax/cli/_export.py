import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pgpo_jax._printable import printable_line
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from pgpo_jax.training import (
    BestCheckpoint,
    Checkpoints,
    Policy,
    TrainConfig,
    TrainState,
    from_json,
    init_state,
    load_policy,
    read_config,
)
from pgpo_jax.training.run._check_inputs import check_inputs
from pgpo_jax.training.run._checkpoint import free_buffers
from pgpo_jax.training.run._export import check_new_folder, export_model
from pgpo_jax.training.run._inputs import model_inputs, run_inputs
from pgpo_jax.training.run._lock import claimed_run_folder
from pgpo_jax.training.run._run_folder import free_fields
from pgpo_jax.training.update._state import student_weights, teacher_weights

_log = logging.getLogger("pgpo_jax")


@dataclass(frozen=True)
class ExportCommand:
    """Writes the trained model of a run as a Hugging Face folder, with its tokenizer."""

    run: tyro.conf.Positional[Path]
    """The run folder, whose newest checkpoint is used."""
    output: Path
    """The folder to write, which must be new or empty."""
    model: str | None = None
    """Current folder of the model that the run started from, if it has moved."""
    checkpoint: Literal["newest", "best"] = "newest"
    """`best` is the checkpoint of the best evaluation, for a run with --selection.keep-best."""
    weights: Literal["student", "teacher"] = "student"
    """Weights of the student or of the teacher. The teacher is the slow average of the student, if
    the run has one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the stored weights."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo export`.

    Raises:
        FileNotFoundError: if there is no run or no checkpoint.
        RuntimeError: if the run is being trained.
        FileExistsError: if the output holds something.
        ValueError: if the run has no teacher weights of its own, or the checkpoint was made from
            other weights or with another configuration.
    """
    command = with_local_paths(parse(ExportCommand, "pgpo export", argv))
    config = read_config(command.run)
    if command.model is not None:
        config = dataclasses.replace(config, model=command.model)
    check_new_folder(command.output)
    teacher = config.make_objective().teacher_settings
    if command.weights == "teacher" and (teacher is None or teacher.kind in ("live", "external")):
        raise PGPOValueError(
            "--weights teacher needs a teacher whose weights the run keeps, got a run with "
            + ("no teacher" if teacher is None else f"teacher.kind {teacher.kind!r}")
        )
    policy, params = load_policy(config.model, dtype=config.dtype, param_dtype=config.param_dtype)
    template = init_state(params, config.make_optimizer(), teacher, lora=config.lora)
    kept = "checkpoints" if command.checkpoint == "newest" else BestCheckpoint.FOLDER
    # The folder is locked, because opening the checkpoints of a live run would delete a file that
    # it is writing.
    with (
        claimed_run_folder(command.run) as folder,
        Checkpoints(folder.resolve() / kept, keep=max(1, config.keep_checkpoints)) as checkpoints,
    ):
        _check(checkpoints, config, policy, template)
        state = checkpoints.restore(free_buffers(template))
    student = command.weights == "student"
    chosen = (
        student_weights(state.params, state.frozen, config.lora)
        if student
        else teacher_weights(state)
    )
    export_model(policy, chosen, command.output, dtype=command.dtype)
    told = f"{command.weights} after {int(state.step)} steps -> {command.output}"
    print(printable_line(told))


def _check(
    checkpoints: Checkpoints, config: TrainConfig, policy: Policy, start: TrainState
) -> None:
    """Refuse a model or a configuration other than those of the checkpoint."""
    where = f"checkpoint {checkpoints.latest}"
    saved = checkpoints.inputs()
    if saved is None:
        _log.warning(
            "%s was made by an older version, which did not record what a run is made from: the "
            "model is not compared",
            where,
        )
        return
    weights = start.params if start.frozen is None else start.frozen
    now = run_inputs(config.to_json(), model_inputs(weights, policy.folder, policy.eos_ids))
    # No step follows, so versions and rewards of your own do not matter.
    kept = {name: value for name, value in now.items() if name not in ("versions", "code")}
    saved = saved | {"config": from_json(TrainConfig(), saved.get("config", {})).to_json()}
    check_inputs(saved, kept, where, free=free_fields(config.to_json()))
