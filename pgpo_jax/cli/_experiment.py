import importlib
import importlib.util
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pgpo_jax.errors import PGPOImportError, PGPOValueError

_WHERE = (
    "the experiments are in the source repository of pgpo-jax, not in the wheel: clone it, install "
    "it with `pip install -e '.[all]'` and run `python -m experiments.NAME` there"
)


def main(argv: Sequence[str]) -> int | None:
    """Run `pgpo experiment NAME [options]`, the same as `python -m experiments.NAME [options]`."""
    if not argv or argv[0] in ("-h", "--help"):
        names = experiments()
        print("usage: pgpo experiment NAME [options]\n")
        print(f"experiments: {', '.join(names) or 'none'}\n")
        print("`pgpo experiment NAME --help` lists the options of one.")
        return None
    return forward(argv[0].replace("-", "_"), argv[1:])


def experiments() -> list[str]:
    """The experiments of this checkout: modules and packages that can be run.

    Raises:
        PGPOImportError: this is not a checkout, or another package of that name comes first.
    """
    _check_package()
    folders = [Path(folder) for folder in importlib.import_module("experiments").__path__]
    modules = {path.stem for folder in folders for path in folder.glob("[!_]*.py")}
    packages = {path.parent.name for folder in folders for path in folder.glob("*/__main__.py")}
    return sorted(modules | packages)


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


def _check_package() -> None:
    """Refuse another package named `experiments` before its code runs."""
    spec = importlib.util.find_spec("experiments")
    if spec is None:
        raise PGPOImportError(_WHERE)
    ours = _checkout() / "experiments" / "__init__.py"
    if _is_ours() and spec.origin is not None and Path(spec.origin).resolve() == ours:
        return
    found = spec.origin or ", ".join(spec.submodule_search_locations or ())
    raise PGPOImportError(f"{found} is another package called `experiments`; {_WHERE}")


def _checkout() -> Path:
    """The folder that contains `pgpo_jax`: the checkout, or else `site-packages`."""
    return Path(__file__).resolve().parents[2]


def _is_ours() -> bool:
    project = _checkout() / "pyproject.toml"
    if not project.is_file():
        return False
    return tomllib.loads(project.read_text())["project"]["name"] == "pgpo-jax"
