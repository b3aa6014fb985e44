import importlib.util
from types import MappingProxyType

from pgpo_jax.errors import PGPOImportError

# The packages of each extra of pyproject.toml, by the names under which they are imported.
EXTRAS = MappingProxyType(
    {
        "train": (
            "flax",
            "orbax",
            "transformers",
            "tokenizers",
            "jinja2",
            "safetensors",
            "huggingface_hub",
            "tyro",
            "tensorboardX",
            "tqdm",
            "matplotlib",
        ),
        "gguf": ("gguf",),
        # diffrax depends on equinox.
        "sde": ("diffrax", "equinox", "scipy", "matplotlib", "tyro", "tqdm"),
    }
)


def require_extra(extra: str) -> None:
    """Checks that every package of an extra is installed, without importing any of them.

    Args:
        extra: a key of `EXTRAS`.

    Raises:
        PGPOImportError: packages are missing. The message names all of them and the command that
            installs the extra.

    >>> require_extra("sde")
    """
    missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise PGPOImportError(f"this needs {', '.join(missing)}: pip install 'pgpo-jax[{extra}]'")
