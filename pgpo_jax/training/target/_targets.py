"""Accelerators to compile for on a machine without them."""

import importlib
import importlib.util
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from pgpo_jax.errors import PGPOImportError, PGPOValueError
from pgpo_jax.training.target._chips import CHIPS, Chip

# The chips of a host along each axis. The sizes of a topology must be multiples of them.
_HOST: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"v5e": (2, 2), "v5p": (2, 2, 1), "v6e": (2, 2)}
)
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "JAX_PLATFORMS": "cpu",
        # No metadata server of a cloud is queried, and several processes may compile.
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_MIN_LOG_LEVEL": "3",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Otherwise the CUDA compiler would measure kernels on a device.
        "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0",
    }
)
"""Environment variables of a process that compiles. The compilers read them when loaded.

Added in version 0.2.0.
"""


class Target(NamedTuple):
    """Accelerators to compile for.

    Attributes:
        name: name of the target, such as `tpu:v5e:2x4`.
        kind: "tpu" or "cuda".
        topology: topology for the compiler.
        size: number of devices.
        chip: figures of the chip.

    Added in version 0.2.0.
    """

    name: str
    kind: str
    topology: str
    size: int
    chip: Chip


def parse_target(text: str) -> Target:
    """Parse the name of a target.

    Args:
        text: `tpu:CHIP:TOPOLOGY`, or `cuda:h200:DEVICES` for those of one machine.

    Returns:
        The target.

    Raises:
        ValueError: an unknown kind, chip or topology.

    >>> parse_target("tpu:v5p:2x2x2").size, parse_target("cuda:h200:8").topology
    (8, '1x1x8')

    Added in version 0.2.0.
    """
    kind, _, rest = text.partition(":")
    chip, _, size = rest.partition(":")
    known = {"tpu": tuple(_HOST), "cuda": ("h200",)}
    if kind not in known or chip not in known[kind]:
        raise PGPOValueError(
            f"a target must be tpu:{'|'.join(known['tpu'])}:TOPOLOGY or cuda:h200:DEVICES, "
            f"got {text!r}: tpu:v5e:2x4 and cuda:h200:8 are two"
        )
    if kind == "cuda":
        if not re.fullmatch(r"[1-8]", size):
            raise PGPOValueError(f"a machine has 1 to 8 H200, so cuda:h200:1 to :8, got {text!r}")
        return Target(text, kind, f"1x1x{size}", int(size), CHIPS[chip])
    host = _HOST[chip]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size) or size.count("x") != len(host) - 1:
        example = "x".join(["4"] * len(host))
        raise PGPOValueError(
            f"a topology of {chip} has {len(host)} sizes above 0, as in tpu:{chip}:{example}, "
            f"got {text!r}"
        )
    sides = [int(one) for one in size.split("x")]
    even = [math.ceil(side / step) * step for side, step in zip(sides, host, strict=True)]
    if even != sides:
        sizes = "x".join(map(str, host))
        raise PGPOValueError(
            f"a topology of {chip} is made of hosts of {sizes} chips, got {text!r}: the nearest "
            f"is tpu:{chip}:{'x'.join(map(str, even))}"
        )
    return Target(text, kind, f"{chip}:{size}", math.prod(sides), CHIPS[chip])


def target_devices(target: Target) -> list[Any]:
    """The descriptions of a target's devices, for a mesh whose programs are only compiled.

    Args:
        target: result of `parse_target`.

    Returns:
        As many as the target has.

    Raises:
        ImportError: its compiler is not installed. The message says what to install.
        ValueError: the compiler does not know the topology.

    Added in version 0.2.0.
    """
    package = {"tpu": "libtpu", "cuda": "jax_plugins.xla_cuda12"}[target.kind]
    try:
        missing = importlib.util.find_spec(package) is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise PGPOImportError(
            f"--target {target.name} needs {package.rpartition('.')[2]}: "
            "pip install 'pgpo-jax[aot]'"
        )
    options: dict[str, Any] = {"platform": target.kind, "topology_name": target.topology}
    if target.kind == "cuda":
        importlib.import_module(package)  # Registers the compiler.
        config = Path(__file__).with_name("h200.txtpb").read_text(encoding="utf-8")
        options |= {"topology_name": "", "topology": target.topology, "target_config": config}
    try:
        devices = list(topologies.get_topology_desc(**options).devices)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PGPOValueError(
            f"the compiler does not know the topology of {target.name}: {reason}"
        ) from error
    if len(devices) != target.size:
        raise PGPOValueError(f"{target.name} has {len(devices)} devices, not {target.size}")
    return devices
