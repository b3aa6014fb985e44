from collections.abc import Sequence

from pgpo_jax.cli._train import run


def main(argv: Sequence[str]) -> None:
    """Run `pgpo sft`, which is `pgpo train` with the preset `sft`."""
    run(argv, "pgpo sft", "sft")
