#!/usr/bin/env bash
# optax.contrib.prodigy and dadapt_adamw give NaN if the learning rate of the first update is 0.
#
# Both divide their estimate of the distance by the absolute sum of learning rate times gradient
# over the updates so far. With a linear warm-up from 0 that sum is 0 at first, so the estimate is
# 0/0. All parameters are NaN after two updates at the latest. A schedule that begins above 0 avoids
# it, and for prodigy so does safeguard_warmup=True. optax raises no error and gives no warning.
#
# Needs Python 3.11 or newer and a package index; installs into a temporary folder. It does not use
# this project. It ends with status 0 while the behaviour is as described, and 1 once it changes.
# Seen with optax 0.2.8 and jax 0.10.2 on a CPU:
#   prodigy, from 0: nan
#   prodigy, from 0, safeguard_warmup: 0.9999997
#   prodigy, from 0.01: 0.9999997
#   dadapt_adamw, from 0: nan
#   dadapt_adamw, from 0.01: 0.9999998
#   as described
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "optax==0.2.8" "jax==0.10.2" "jaxlib==0.10.2"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import optax

print(f"optax {optax.__version__}, jax {jax.__version__}")


def moved(optimizer):
    """A parameter after three updates."""
    params = jnp.ones(())
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(jnp.ones(()), state, params)
        params = optax.apply_updates(params, updates)
    return float(params)


zero, above = optax.linear_schedule(0.0, 1.0, 10), optax.linear_schedule(0.01, 1.0, 10)
seen = {
    "prodigy, from 0": moved(optax.contrib.prodigy(zero)),
    "prodigy, from 0, safeguard_warmup": moved(optax.contrib.prodigy(zero, safeguard_warmup=True)),
    "prodigy, from 0.01": moved(optax.contrib.prodigy(above)),
    "dadapt_adamw, from 0": moved(optax.contrib.dadapt_adamw(zero)),
    "dadapt_adamw, from 0.01": moved(optax.contrib.dadapt_adamw(above)),
}
for title, value in seen.items():
    print(f"{title}: {value:.7f}")
nan = [title for title, value in seen.items() if value != value]
expected = ["prodigy, from 0", "dadapt_adamw, from 0"]
print("as described" if nan == expected else f"CHANGED: NaN with {nan}")
sys.exit(nan != expected)
PYTHON
