"""The table of statements, measured: `python -m experiments.weak_order --all`.

The same as `python -m sde.weak_order` and `pgpo weak-order`.
"""

from collections.abc import Sequence

from sde import weak_order


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `sde.weak_order`, and returns its exit code."""
    return weak_order.main(argv, prog="python -m experiments.weak_order")


if __name__ == "__main__":
    raise SystemExit(main())
