#!/usr/bin/env bash
# optax.contrib.muon leaves kernels that are stacked over the layers to Adam, without a word.
#
# A model that scans over its layers keeps each kernel as one array, [layers, in, out]. Without
# dimension numbers, optax.contrib.muon orthogonalises exactly the leaves with two axes. Those are
# then the embedding and the stacked scales of the norms, [layers, width], which Muon's authors
# advise against. The kernels are updated by Adam. There is no error and no warning.
#
# The remedy is muon_weight_dimension_numbers, here MuonDimensionNumbers(-2, -1) for the kernel.
#
# Needs Python 3.11 or newer and a package index; installs into a temporary folder. It does not use
# this project. It ends with status 0 while the behaviour is as described, and 1 once it changes.
# Seen with optax 0.2.8 and jax 0.10.2 on a CPU:
#   without dimension numbers: singular values of embedding: 0.68 to 1.13
#   without dimension numbers: singular values of kernel: 1.20 to 10.12
#   without dimension numbers: singular values of norm: 1.05 to 1.11
#   with dimension numbers: singular values of embedding: 2.73 to 13.07
#   with dimension numbers: singular values of kernel: 0.68 to 1.13
#   with dimension numbers: singular values of norm: 1.95 to 2.21
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
params = {
    "embedding": jnp.zeros((32, 16)),
    "kernel": jnp.zeros((2, 16, 24)),  # [layers, in, out]
    "norm": jnp.ones((2, 16)),  # [layers, width]
}
key = jax.random.key(0)
gradient = {name: jax.random.normal(key, value.shape) for name, value in params.items()}


def update(**arguments):
    muon = optax.contrib.muon(1.0, **arguments)
    return muon.update(gradient, muon.init(params), params)[0]


def singular(matrix, shape):
    values = jnp.linalg.svd(matrix, compute_uv=False) / max(1.0, shape[-1] / shape[-2]) ** 0.5
    return float(values.min()), float(values.max())


numbers = {"embedding": None, "kernel": optax.contrib.MuonDimensionNumbers(-2, -1), "norm": None}
orthogonal = {}
for title, updates in (
    ("without dimension numbers", update()),
    ("with dimension numbers", update(muon_weight_dimension_numbers=numbers)),
):
    for name, value in updates.items():
        least, most = singular(value, value.shape)
        orthogonal[title, name] = 0.5 < least and most < 1.3
        print(f"{title}: singular values of {name}: {least:.2f} to {most:.2f}")

expected = {
    ("without dimension numbers", "embedding"): True,
    ("without dimension numbers", "kernel"): False,
    ("without dimension numbers", "norm"): True,
    ("with dimension numbers", "embedding"): False,
    ("with dimension numbers", "kernel"): True,
    ("with dimension numbers", "norm"): False,
}
print("as described" if orthogonal == expected else f"CHANGED: {orthogonal}")
sys.exit(orthogonal != expected)
PYTHON
