#!/usr/bin/env bash
# A CPU mesh does not show what a decoding loop sends on a TPU, nor what it copies there.
#
# Both programs below are compiled for eight devices: virtual CPU devices, and a TPU v5e:2x4 that
# need not be there (libtpu compiles without one).
# 1. A while loop multiplies by a weight that is cut over the devices and pinned to be whole inside
#    the loop. The gather does not depend on the loop. XLA for CPU moves it ahead of the loop. XLA
#    for TPU leaves it inside, so that it runs once for every token.
# 2. A while loop over tokens writes a donated cache, bfloat16[8, 8, 128, slots], in place. With
#    8191 slots XLA for TPU gives the argument another layout than the loop and copies the whole
#    cache before and after it. With 8192 slots it copies nothing.
# The remedy is to gather ahead of the loop and pass the result in, and to round the slots up.
#
# Needs Python 3.11 to 3.13 and a package index; installs 0.9 GB into a temporary folder. It does
# not use this project. It ends with status 0 while the behaviour is as described, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "jax==0.10.2" "jaxlib==0.10.2" "libtpu==0.0.42.1"
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8 TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -5 "$folder/log"; exit 1; }
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

print(f"jax {jax.__version__}")
tpu = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices


def in_loop(text, kind):
    """Instructions of a kind in the bodies of while loops, and in all."""
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    name, inside, every = "", 0, 0
    for line in text.splitlines():
        if match := re.match(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = match[1]
        if re.search(rf" {kind}(-start)?\(", line):
            every, inside = every + 1, inside + (name in bodies)
    return inside, every


def gathers(devices):
    mesh = Mesh(np.array(devices[:8]), ("x",))
    cut, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())

    @jax.jit
    def decode(weight, state, limit):
        def step(carry):
            state, done = carry
            state = jnp.tanh(state @ jax.lax.with_sharding_constraint(weight, whole))
            return jax.lax.with_sharding_constraint(state, cut), done + 1

        return jax.lax.while_loop(lambda carry: carry[1] < limit, step, (state, 0))

    arguments = (
        jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16, sharding=cut),
        jax.ShapeDtypeStruct((64, 1024), jnp.bfloat16, sharding=cut),
        jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    )
    return in_loop(decode.lower(*arguments).compile().as_text(), "all-gather")


def copies(slots):
    mesh = Mesh(np.array(tpu[:1]), ("x",))
    one = NamedSharding(mesh, P())

    def decode(keys, values, query):
        def step(carry):
            keys, values, query, at = carry
            scores = jnp.einsum("rkqh,rkhl->rkql", query, keys).astype(jnp.float32)
            weights = jax.nn.softmax(scores).astype(jnp.bfloat16)
            query = jnp.einsum("rkql,rklh->rkqh", weights, values)
            token = query[:, :, 0]
            # The write waits for the read, so that it can be made in place.
            place = at + jnp.minimum(jnp.int32(jnp.max(jnp.abs(query))), 0)
            keys = jax.lax.dynamic_update_slice(keys, token[..., None], (0, 0, 0, place))
            values = jax.lax.dynamic_update_slice(values, token[:, :, None], (0, 0, place, 0))
            return keys, values, query, at + 1

        return jax.lax.while_loop(lambda carry: carry[3] < slots, step, (keys, values, query, 0))

    arguments = (
        jax.ShapeDtypeStruct((8, 8, 128, slots), jnp.bfloat16, sharding=one),
        jax.ShapeDtypeStruct((8, 8, slots, 128), jnp.bfloat16, sharding=one),
        jax.ShapeDtypeStruct((8, 8, 2, 128), jnp.bfloat16, sharding=one),
    )
    text = jax.jit(decode, donate_argnums=(0, 1)).lower(*arguments).compile().as_text()
    shape = rf"bf16\[8,8,(?:128,{slots}|{slots},128)\]"
    return len(re.findall(rf"= {shape}\S* copy\(", text))


seen = {
    "gathers in the loop, CPU": gathers(jax.devices("cpu"))[0],
    "gathers in the loop, TPU": gathers(tpu)[0],
    "copies of a cache of 8191 slots, TPU": copies(8191),
    "copies of a cache of 8192 slots, TPU": copies(8192),
}
for name, number in seen.items():
    print(f"{name}: {number}")
cpu, loop, odd, even = seen.values()
described = cpu == 0 and loop > 0 and odd >= 2 and even == 0
print("as described" if described else "CHANGED")
sys.exit(not described)
PYTHON
