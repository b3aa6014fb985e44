"""`pgpo weak-order`: measures the weak order of equations."""

from collections.abc import Sequence

from sde import weak_order


def main(argv: Sequence[str]) -> int:
    """Runs `pgpo weak-order [options]`."""
    return weak_order.main(argv, prog="pgpo weak-order")
