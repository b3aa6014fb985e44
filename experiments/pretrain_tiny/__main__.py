"""Runs `python -m experiments.pretrain_tiny`."""

from experiments.pretrain_tiny import main

if __name__ == "__main__":
    raise SystemExit(main())
