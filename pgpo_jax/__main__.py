"""Runs `pgpo` as `python -m pgpo_jax`."""

import sys

from pgpo_jax.cli import main

sys.exit(main())
