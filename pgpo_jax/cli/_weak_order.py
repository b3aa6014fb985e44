from collections.abc import Sequence

from pgpo_jax.cli._experiment import forward


def main(argv: Sequence[str]) -> int | None:
    """Runs `pgpo weak-order [options]`, the experiment `weak_order`."""
    return forward("weak_order", argv)
