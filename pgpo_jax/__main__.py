import sys

from pgpo_jax.cli import main

sys.exit(main())
