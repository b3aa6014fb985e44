"""What it takes to measure the same numbers again, in one line beside every table and figure."""

import importlib.metadata
import platform

import pgpo_jax
from sde.weak_order._config import Config

_PACKAGES = ("jax", "jaxlib", "optax", "diffrax", "numpy", "scipy")
_SHOWN = ("sde", "jax", "diffrax", "numpy")


def versions() -> dict[str, str]:
    """Of Python, of this package (`sde` comes with it) and of those that the numbers come from."""
    own = pgpo_jax.__version__
    found = {"python": platform.python_version(), "pgpo-jax": own, "sde": own}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def provenance(config: Config) -> str:
    """Versions, method and seed of a run, in one line.

    >>> provenance(Config(method="monte_carlo", seed=3)).split("; ")[1]
    'Monte Carlo, seed 3'
    """
    known = versions()
    packages = ", ".join(f"{name} {known[name]}" for name in _SHOWN)
    drawn = config.viscous or config.method == "monte_carlo"
    how = f"Monte Carlo, seed {config.seed}" if drawn else "exact engines, no seed"
    return f"{packages}; {how}"
