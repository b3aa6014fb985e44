from collections.abc import Sequence

from pgpo_jax.cli._train import run


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo sft`: `pgpo train` with the preset `sft` to start from."""
    run(argv, "pgpo sft", "sft")
