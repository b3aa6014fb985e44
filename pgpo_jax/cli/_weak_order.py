from collections.abc import Sequence

from pgpo_jax.cli._experiment import forward


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo weak-order [options]`, the experiment `weak_order`."""
    forward("weak_order", argv)
