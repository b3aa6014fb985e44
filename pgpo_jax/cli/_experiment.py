import importlib
import pkgutil
from collections.abc import Sequence

from pgpo_jax.errors import PGPOValueError


def main(argv: Sequence[str]) -> int | None:
    """Runs `pgpo experiment NAME [options]`, as `python -m experiments.NAME [options]` does."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: pgpo experiment NAME [options]\n")
        print(f"experiments: {', '.join(experiments()) or 'none'}\n")
        print("`pgpo experiment NAME --help` lists the options of one.")
        return None
    return forward(argv[0].replace("-", "_"), argv[1:])


def experiments() -> list[str]:
    """The experiments that are installed."""
    package = importlib.import_module("experiments")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def forward(name: str, argv: Sequence[str]) -> int | None:
    """Calls `main(argv)` of one of them.

    Returns:
        Its exit code.

    Raises:
        ValueError: if there is none of this name.
    """
    names = experiments()
    if name not in names:
        raise PGPOValueError(
            f"there is no experiment {name!r}; there are {', '.join(names) or 'none'}"
        )
    return importlib.import_module(f"experiments.{name}").main(list(argv))
