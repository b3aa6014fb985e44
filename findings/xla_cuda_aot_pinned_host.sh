#!/usr/bin/env bash
# The compile-only CUDA client drops memory_kind="pinned_host" without a word.
#
# An optimizer step is compiled for eight devices, once with its moments in the devices' memory and
# once with them in the host's: arguments and results are sharded with memory_kind="pinned_host",
# and the step moves them with jax.device_put. XLA for TPU, also without a device, takes the moments
# off the device: they count as arguments of the host, and the peak falls by their size. XLA for
# CUDA compiles the same program without an error or a warning, but counts all on the device, and
# the text of the program has no memory space of the host. So figures of offloading that are
# compiled for a GPU without a GPU say nothing. A GPU that is there was not tried.
#
# Needs Python 3.11 to 3.13 and a package index; installs 1.2 GB into a temporary folder. It does
# not use this project. It ends with status 0 while the behaviour is as described, else with 1.
# Seen with jax 0.10.2, libtpu 0.0.42.1 and jax-cuda12-plugin 0.10.2 on a CPU (MB per device):
#   TPU, moments on the device: 100.7 of arguments, 0.0 of the host, peak 184.5
#   TPU, moments on the host: 67.1 of arguments, 33.6 of the host, peak 151.0
#   CUDA, moments on the device: 100.7 of arguments, 0.0 of the host, peak 100.7
#   CUDA, moments on the host: 100.7 of arguments, 0.0 of the host, peak 100.7
#   as described
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "jax==0.10.2" "jaxlib==0.10.2" "libtpu==0.0.42.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  "jax-cuda12-plugin==0.10.2" "jax-cuda12-pjrt==0.10.2"
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
export XLA_FLAGS="--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -5 "$folder/log"; exit 1; }
import sys

import jax
import jax.numpy as jnp
import jax_plugins.xla_cuda12  # registers the compiler
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 150754820096
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H200"
"""
describe = topologies.get_topology_desc
devices = {
    "TPU": describe(platform="tpu", topology_name="v5e:2x4").devices,
    "CUDA": describe(
        platform="cuda", topology_name="", topology="1x1x8", target_config=H200
    ).devices,
}
print(f"jax {jax.__version__}")


def memory(name, kind):
    mesh = Mesh(np.array(devices[name]), ("x",))
    here, there = NamedSharding(mesh, P("x")), NamedSharding(mesh, P("x"), memory_kind=kind)

    def step(params, moments, gradients):
        def move(tree, where):
            return jax.tree.map(lambda x: jax.device_put(x, where), tree)

        moments = jax.tree.map(
            lambda m, g: 0.9 * m + 0.1 * g, move(moments, here), gradients
        )
        params = jax.tree.map(lambda p, m: p - m, params, moments)
        return params, move(moments, there)

    def arrays(where):
        return [jax.ShapeDtypeStruct((4096, 4096), jnp.float32, sharding=where)] * 4

    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=([here] * 4, [there] * 4))
    lowered = jitted.lower(arrays(here), arrays(there), arrays(here))
    found = lowered.compile().memory_analysis()
    sizes = (
        found.argument_size_in_bytes,
        found.host_argument_size_in_bytes,
        found.peak_memory_in_bytes,
    )
    return tuple(round(size / 1e6, 1) for size in sizes)


seen = {}
for name in devices:
    for place, kind in (("device", "device"), ("host", "pinned_host")):
        seen[name, place] = memory(name, kind)
        text = "%s of arguments, %s of the host, peak %s" % seen[name, place]
        print(f"{name}, moments on the {place}: {text}")
moments = 4 * 4096 * 4096 * 4 / 8 / 1e6
kept, offloaded = seen["TPU", "device"], seen["TPU", "host"]
honoured = abs(offloaded[1] - moments) < 0.1 and kept[2] - offloaded[2] > 0.9 * moments
dropped = seen["CUDA", "device"] == seen["CUDA", "host"] and seen["CUDA", "host"][1] == 0
print("as described" if honoured and dropped else "CHANGED")
sys.exit(not (honoured and dropped))
PYTHON
