import shutil
from pathlib import Path
from typing import Any

from flax import nnx

from pgpo_jax.errors import PGPOFileExistsError
from pgpo_jax.models import merged, save_pretrained
from pgpo_jax.paths import local_path
from pgpo_jax.training.rollout._policy import Policy


def export_model(
    policy: Policy, weights: Any, folder: str | Path, *, dtype: str = "float32"
) -> None:
    """Writes weights as a Hugging Face folder, with the tokenizer of their policy.

    Args:
        policy: structure and tokenizer.
        weights: of the model, for example `Trainer.student(state)`; LoRA's additions are summed.
        folder: must be new or empty.
        dtype: of the stored weights: float32, bfloat16 or float16.

    Raises:
        FileExistsError: if the folder holds something.
        ValueError: a dtype that cannot hold a weight.
    """
    folder = local_path(folder, "the folder of a model")
    check_new_folder(folder)
    policy.tokenizer.save_pretrained(folder)
    endings = Path(policy.folder) / "generation_config.json"
    if endings.is_file():
        shutil.copy(endings, folder)
    save_pretrained(nnx.merge(policy.graphdef, merged(weights)), folder, dtype=dtype)


def check_new_folder(folder: Path) -> None:
    """Refuses a folder that holds something.

    Raises:
        FileExistsError: naming it.
    """
    if folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None) is not None):
        raise PGPOFileExistsError(f"{folder} exists and is not an empty folder")
