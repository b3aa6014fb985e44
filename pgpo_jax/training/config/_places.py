"""The paths of a run's model, questions and own files, which do not affect its numbers."""

import dataclasses
from pathlib import PurePath
from typing import Any

from pgpo_jax.models import absolute_model
from pgpo_jax.paths import local_path
from pgpo_jax.tasks import (
    absolute_grader,
    absolute_object,
    absolute_task,
    is_object_spec,
    is_synthetic,
    spec_without_place,
)
from pgpo_jax.training.config import TeacherConfig
from pgpo_jax.training.config._train_config import TrainConfig

# The address of a rollout server and the transfer of weights, which are those of the run.
_OF_A_SERVER = ("engine.url", "engine.model", "engine.folder", "engine.timeout")


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The same configuration, with paths that are valid from any folder.

    Names of shipped models, synthetic tasks and ids on the Hub do not change.

    Args:
        config: configuration as the user gave it.

    Raises:
        ValueError: an address such as `gs://bucket/run`.

    >>> with_absolute_paths(TrainConfig(model="tiny")).model
    'tiny'
    """
    held_out = config.eval_task
    return dataclasses.replace(
        config,
        model=_absolute_model(config.model),
        teacher=_absolute_teacher(config.teacher),
        task=absolute_task(config.task),
        eval_task=None if held_out is None else absolute_task(held_out),
        objective=absolute_object(config.objective),
        grader=dataclasses.replace(config.grader, name=absolute_grader(config.grader.name)),
        engine=dataclasses.replace(
            config.engine,
            name=absolute_object(config.engine.name),
            folder=_absolute_path(config.engine.folder, "engine.folder"),
        ),
        trackers=tuple(absolute_object(name) for name in config.trackers),
    )


def same_but_for_place(name: str, old: Any, new: Any) -> bool:
    """Whether two values of a field may name the same thing in two places.

    The contents decide whether they do; they are compared elsewhere.

    Args:
        name: dotted name of the field.
        old: one value.
        new: the other.

    >>> same_but_for_place("model", "tiny", "/models/tiny"), same_but_for_place("seed", 0, 1)
    (True, False)
    """
    if name == "model" or name in _OF_A_SERVER:
        return True
    if name in ("teacher.model", "teacher_model", "teacher.experience", "teacher.system"):
        return old is not None and new is not None
    if name in ("task", "eval_task"):
        return _kind(old) == _kind(new)
    own = name in ("objective", "grader.name", "engine.name")
    if own and isinstance(old, str) and isinstance(new, str):
        return spec_without_place(old) == spec_without_place(new)
    return False


def same_by_name(name: str, old: Any, new: Any) -> bool:
    """The same if contents cannot be compared: one path must end with the other.

    >>> same_by_name("model", "x/base", "/home/me/x/base"), same_by_name("model", "a/x", "b/x")
    (True, False)
    """
    if not same_but_for_place(name, old, new):
        return False
    if name not in ("model", "teacher.model", "task", "eval_task"):
        return True
    if old is None or new is None:
        return False
    one, other = PurePath(old).parts, PurePath(new).parts
    count = min(len(one), len(other))
    return one[-count:] == other[-count:]


def _absolute_teacher(settings: TeacherConfig) -> TeacherConfig:
    model = settings.model
    return dataclasses.replace(
        settings,
        model=None if model is None else _absolute_model(model),
        experience=_absolute_path(settings.experience, "teacher.experience"),
        system=_absolute_path(settings.system, "teacher.system"),
    )


def _absolute_path(path: str | None, what: str) -> str | None:
    return None if path is None else str(local_path(path, what).resolve())


def _absolute_model(name: str) -> str:
    return name if name == "tiny" else absolute_model(name)


def _kind(spec: str | None) -> str:
    """The part of a task that must be equal: a synthetic name, or the name in an own file."""
    if spec is not None and is_synthetic(spec):
        return spec
    if spec is not None and is_object_spec(spec):
        return spec_without_place(spec)
    return ""
