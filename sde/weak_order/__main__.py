"""Runs `python -m sde.weak_order`."""

from sde.weak_order import main

if __name__ == "__main__":
    raise SystemExit(main())
