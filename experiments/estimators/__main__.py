"""Runs `python -m experiments.estimators`."""

from experiments.estimators import main

if __name__ == "__main__":
    raise SystemExit(main())
