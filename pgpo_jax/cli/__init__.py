"""The command line: `pgpo COMMAND`, also `python -m pgpo_jax COMMAND`."""

from pgpo_jax.cli._main import main as main
