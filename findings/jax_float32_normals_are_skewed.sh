#!/usr/bin/env bash
# jax.random.normal of float32 has 2^23 values. They are not symmetric: their mean is -3.3e-7.
#
# A normal is the inverse error function of a uniform number. Those are 2^23 equally likely points of
# (-1, 1): nearly -1 is one of them, and nothing is as near to 1. So the least normal is -5.42 and the
# largest 5.22. The mean and the odd moments are not 0. A sum of n draws is off by 3.3e-7 n, which
# passes its standard deviation at n of about 9e12. A simulation of 1e8 paths sees it in their mean
# after a million steps. All values were listed here, so the moments are exact. float64 draws from
# 2^52 values.
#
# Needs Python 3.11 or newer and a package index; installs into a temporary folder. It does not use
# this project. It ends with status 0 while the behaviour is as described, and 1 once it changes.
# Seen with jax 0.10.2 on a CPU:
#   8388608 values from -5.420 to 5.220; draws are among them: True
#   mean -3.31e-07, variance - 1: -1.12e-07, third moment -1.02e-05
#   as described
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "jax==0.10.2" "jaxlib==0.10.2"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np

print(f"jax {jax.__version__}")


@jax.jit
def listed():
    """The normal of each of the 2^23 possible uniform numbers."""
    steps = jnp.arange(2**23, dtype=jnp.uint32)
    one = jnp.float32(1)
    share = jax.lax.bitcast_convert_type(steps | jnp.uint32(0x3F800000), jnp.float32) - one
    least = jnp.nextafter(-one, jnp.float32(0))
    uniform = jnp.maximum(least, share * (one - least) + least)
    return jnp.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


values = np.asarray(listed())
draws = np.asarray(jax.jit(lambda key: jax.random.normal(key, (100_000,)))(jax.random.key(0)))
among = bool(np.isin(draws, values).all())
exact = values.astype(np.float64)
mean, variance, third = (float(np.mean(exact**order)) for order in (1, 2, 3))
found = f"{len(np.unique(values))} values from {exact.min():.3f} to {exact.max():.3f}"
print(f"{found}; draws are among them: {among}")
print(f"mean {mean:.2e}, variance - 1: {variance - 1:.2e}, third moment {third:.2e}")
skewed = -4e-7 < mean < -3e-7 and -2e-5 < third < -5e-6
expected = among and skewed and exact.max() < 5.3 < 5.4 < -exact.min()
print("as described" if expected else "CHANGED")
sys.exit(not expected)
PYTHON
