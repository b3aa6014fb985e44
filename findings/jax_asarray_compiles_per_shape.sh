#!/usr/bin/env bash
# jnp.asarray of a NumPy array compiles a program for every new shape, unless it is given the dtype.
#
# It looks like a transfer, and jax.device_put is one. Without dtype= it runs a jitted function, so
# each shape is traced and compiled by XLA. jnp.array does the same. With dtype= equal to the
# array's own, nothing is compiled. A loader of weights pays some milliseconds for each shape, and a
# count of compilations sees these programs, too.
#
# Needs Python 3.11 or newer and a package index; installs into a temporary folder. It does not use
# this project. It ends with status 0 while the behaviour is as described, and 1 once it changes.
# Seen with jax 0.10.2 on a CPU, programs compiled for 5 arrays of different shapes:
#   jnp.asarray(x): 5
#   jnp.array(x): 5
#   jnp.asarray(x, x.dtype): 0
#   jax.device_put(x): 0
#   as described
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "jax==0.10.2" "jaxlib==0.10.2"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np

print(f"jax {jax.__version__}")
compiled = []
lengths = itertools.count(3)


def listen(event, seconds, **facts):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(facts)


jax.monitoring.register_event_duration_secs_listener(listen)


def programs(convert):
    """How many programs 5 arrays of new shapes need."""
    compiled.clear()
    for length in itertools.islice(lengths, 5):
        jax.block_until_ready(convert(np.ones((length, 5), np.float32)))
    return len(compiled)


seen = {
    "jnp.asarray(x)": programs(jnp.asarray),
    "jnp.array(x)": programs(jnp.array),
    "jnp.asarray(x, x.dtype)": programs(lambda x: jnp.asarray(x, x.dtype)),
    "jax.device_put(x)": programs(jax.device_put),
}
for title, count in seen.items():
    print(f"{title}: {count}")
same = list(seen.values()) == [5, 5, 0, 0]
print("as described" if same else "CHANGED")
sys.exit(not same)
PYTHON
