#!/usr/bin/env bash
# XLA:CPU copies the donated moments of AdamW if a step that is not finite is skipped.
#
# Parameters and optimizer state are donated, so AdamW writes its results over its arguments. The
# usual skip is a jnp.where(finite, new, old) over every array of the new state. With it the CPU
# program begins with copies of all donated moments, and its temporary memory grows from 0.7 times
# the parameters to more than twice. Nothing warns: the arguments are reported as aliased all the
# same. A compilation for a TPU (v5p, libtpu 0.0.42.1) needs 1.03 times the parameters either way.
#
# Needs Python 3.11 or newer and a package index; installs into a temporary folder. It does not use
# this project. It ends with status 0 while the behaviour is as described, and 1 once it changes.
# Seen with optax 0.2.8 and jax 0.10.2 on a CPU; temporary arrays over parameters, copied arguments:
#   adamw: 0.70, 2 copies
#   adamw, skipped if not finite: 2.33, 6 copies
#   as described
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "optax==0.2.8" "jax==0.10.2" "jaxlib==0.10.2"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import re
import sys

import jax
import jax.numpy as jnp
import optax

print(f"optax {optax.__version__}, jax {jax.__version__}")
WIDTH = 2048
params = {name: jnp.ones((WIDTH, WIDTH)) for name in "abc"}
size = sum(array.nbytes for array in params.values())


def loss(params, x):
    hidden = jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"])
    return jnp.sum(hidden @ params["c"])


def plain(params, state, gradient):
    updates, new = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), new


def skipped(params, state, gradient):
    finite = jnp.isfinite(optax.tree.norm(gradient))
    new = plain(params, state, gradient)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, (params, state))


def measured(update):
    """Temporary memory over that of the parameters, and copies of whole arguments."""

    def step(params, state, x):
        return update(params, state, jax.grad(loss)(params, x))

    program = jax.jit(step, donate_argnums=(0, 1))
    program = program.lower(params, optimizer.init(params), jnp.ones((64, WIDTH))).compile()
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes >= 3 * size  # parameters and both moments
    copies = re.findall(rf"f32\[{WIDTH},{WIDTH}\]\S* copy\(%?(?:params|state)", program.as_text())
    return memory.temp_size_in_bytes / size, len(copies)


optimizer = optax.adamw(1e-3)
seen = {"adamw": measured(plain), "adamw, skipped if not finite": measured(skipped)}
for title, (memory, copies) in seen.items():
    print(f"{title}: {memory:.2f}, {copies} copies")
(less, few), (more, many) = seen.values()
expected = less < 1 and more > 2 and few <= 2 and many >= 6
print("as described" if expected else "CHANGED")
sys.exit(not expected)
PYTHON
