"""The shapes of the models of a run, without their weights."""

from pathlib import Path

from pgpo_jax._json_files import read_object
from pgpo_jax.errors import PGPOFileNotFoundError
from pgpo_jax.models import PUBLISHED_SHAPES, DecoderConfig
from pgpo_jax.models._load import find_folder
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.rollout._policy import model_folder


def model_shape(model: str) -> DecoderConfig:
    """The shape of a model: of a folder, a config.json, or a published name.

    Args:
        model: a path or a name.

    Raises:
        FileNotFoundError: if it is none of these; nothing is downloaded.

    Added in version 0.2.0.
    """
    path = Path(model_folder(model))
    if path.is_dir():
        return DecoderConfig.from_folder(path)
    if path.is_file():
        return DecoderConfig.from_dict(read_object(path))
    for name, shape in PUBLISHED_SHAPES.items():
        if path.name.lower() == name.lower():
            return shape
    raise PGPOFileNotFoundError(
        f"{model!r} is no folder, no config.json and none of {', '.join(PUBLISHED_SHAPES)}"
    )


def teacher_shape(config: TrainConfig) -> DecoderConfig | None:
    """The shape of another model that is the teacher, or `None`; a Hub id is fetched.

    Args:
        config: the run.

    Raises:
        FileNotFoundError: if there is no such model.
    """
    model = config.teacher.model
    if model is None:
        return None
    try:
        return model_shape(model)
    except PGPOFileNotFoundError:
        return fetched_shape(model)


def fetched_shape(model: str) -> DecoderConfig:
    """The shape of a model: of a folder, or of a Hub id, which is fetched.

    Args:
        model: a path or an id.

    Raises:
        FileNotFoundError: if there is no such model.
    """
    return DecoderConfig.from_folder(find_folder(model_folder(model)))
