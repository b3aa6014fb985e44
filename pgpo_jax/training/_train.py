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
    """The end of a run: its trainer and its final state; all numbers are in the run folder."""

    trainer: Trainer
    state: TrainState


def make_trainer(config: TrainConfig) -> Trainer:
    """The trainer of a configuration.

    Raises:
        ValueError, FileNotFoundError: for a bad model, task, mesh or length, before any work.

    >>> from pgpo_jax.training import PRESETS
    >>> make_trainer(PRESETS["tiny"]).rollout_settings.samples
    8

    Added in version 0.2.0.
    """
    refuse_too_large(config)
    # A server that cannot be reached is better known before the model is loaded.
    engine = config.make_engine()
    return Trainer(*config.build(), **config.trainer_settings(engine))


def train(config: TrainConfig, folder: str | Path, *, resume: bool = False) -> TrainResult:
    """Runs a configuration: builds its parts and fits them.

    The first SIGTERM, SIGINT, SIGHUP or SIGUSR1 lets the step in progress finish, saves the state
    and ends the process with 128 + the signal's number; `resume` continues from there. A second
    one ends it at once. With several processes (see `connect`) all call this with the same
    arguments.

    Args:
        config: what to run.
        folder: the run folder; created if need be.
        resume: continue the run in it, which may be one that has come to its end if `steps` are
            more now. The metrics are then, digit for digit, those of a run that was never
            interrupted; what its former end has been evaluated for stays.

    Raises:
        FileExistsError, FileNotFoundError, RuntimeError, ValueError: if the folder does not fit
            the request (see `Trainer.fit`), or if model, task or mesh are bad.
        FloatingPointError: after `optimizer.max_skipped` non-finite gradients in a row.

    >>> from pgpo_jax.training import PRESETS  # train(PRESETS["tiny"], "runs/tiny")
    """
    folder = local_path(folder, "a run folder")
    # The run goes on from any folder.
    config = with_absolute_paths(config)
    # The model and the questions are checked before the folder is claimed: an error in them
    # must not leave a half-made run behind.
    trainer = make_trainer(config)
    settings = config.fit_settings()

    def today(values: dict[str, Any]) -> dict[str, Any]:
        return from_json(type(config)(), values).to_json()

    state = trainer.fit(folder, resume=resume, config=config.to_json(), today=today, **settings)
    return TrainResult(trainer, state)


def read_config(folder: str | Path) -> TrainConfig:
    """The configuration of a run folder, of an older version, too.

    Raises:
        FileNotFoundError: if there is no run in it.
        ValueError: if `config.json` is not that of a run of the command line.

    Added in version 0.2.0.
    """
    path = local_path(folder, "a run folder") / "config.json"
    if not path.is_file():
        raise PGPOFileNotFoundError(f"there is no run in {folder}: config.json is missing")
    values = read_object(path)
    if values.get("made_by") == "Trainer":
        raise PGPOValueError(
            f"the run in {folder} was made by a Trainer in Python, whose parts are in no file: "
            "call Trainer.fit with resume=True to continue it, and export_model for its weights"
        )
    return from_json(TrainConfig(), values)
