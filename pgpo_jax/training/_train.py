from pathlib import Path
from typing import Any, NamedTuple

from pgpo_jax._json_files import read_object
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.training._trainer import Trainer
from pgpo_jax.training.config._json import from_json
from pgpo_jax.training.config._places import with_absolute_paths
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._search import refuse_too_large
from pgpo_jax.training.update._state import TrainState


class TrainResult(NamedTuple):
    """The trainer and the final state of a run. All numbers are in the run folder."""

    trainer: Trainer
    state: TrainState


def make_trainer(config: TrainConfig) -> Trainer:
    """The trainer of a configuration.

    Raises:
        ValueError, FileNotFoundError: the model, task, mesh or length is invalid. Raised before any
            work.

    >>> from pgpo_jax.training import PRESETS
    >>> make_trainer(PRESETS["tiny"]).rollout_settings.samples
    8

    Added in version 0.2.0.
    """
    refuse_too_large(config)
    # A server that cannot be reached is reported before the model is loaded.
    engine = config.make_engine()
    return Trainer(*config.build(), **config.trainer_settings(engine))


def train(config: TrainConfig, folder: str | Path, *, resume: bool = False) -> TrainResult:
    """Run a configuration: build its parts and train.

    After the first SIGTERM, SIGINT, SIGHUP or SIGUSR1 the current step is finished and the state is
    saved. The process then ends with 128 + the signal's number, and `resume` continues from there.
    A second signal ends the process at once. With several processes (see `connect`) all call this
    with the same arguments.

    Args:
        config: the configuration.
        folder: the run folder, which is created if it does not exist.
        resume: continue the run in the folder. A finished run can be continued with more `steps`.
            The metrics are then equal, digit for digit, to those of a run without interruption. The
            evaluation at the former end is kept.

    Raises:
        FileExistsError, FileNotFoundError, RuntimeError, ValueError: if the folder does not fit
            the request (see `Trainer.fit`), or if model, task or mesh are bad.
        FloatingPointError: after `optimizer.max_skipped` non-finite gradients in a row.

    >>> from pgpo_jax.training import PRESETS  # train(PRESETS["tiny"], "runs/tiny")
    """
    folder = local_path(folder, "a run folder")
    # The run can be resumed from any folder.
    config = with_absolute_paths(config)
    # The model and the questions are checked before the folder is created, so that an error in them
    # leaves no incomplete run.
    trainer = make_trainer(config)
    settings = config.fit_settings()

    def today(values: dict[str, Any]) -> dict[str, Any]:
        return from_json(type(config)(), values).to_json()

    state = trainer.fit(folder, resume=resume, config=config.to_json(), today=today, **settings)
    return TrainResult(trainer, state)


def read_config(folder: str | Path) -> TrainConfig:
    """Read the configuration of a run folder, including those of older versions.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: `config.json` is not that of a run of the command line.

    Added in version 0.2.0.
    """
    path = local_path(folder, "a run folder") / "config.json"
    if not path.is_file():
        raise PGPOFileNotFoundError(f"there is no run in {folder}: config.json is missing")
    values = read_object(path)
    if values.get("made_by") == "Trainer":
        raise PGPOValueError(
            f"the run in {folder} was made by a Trainer in Python, so its parts are in no file. "
            "Continue it with Trainer.fit and resume=True. Write its weights with export_model"
        )
    return from_json(TrainConfig(), values)
