"""The makers' figures of their chips, for an estimate of time."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pgpo_jax.training.memory._estimate import GIGABYTE

_TERA = 10**12


class Chip(NamedTuple):
    """One device.

    Attributes:
        memory: bytes of memory.
        flops: FLOPs of dense bfloat16 products, per second.
        memory_bandwidth: bytes of memory traffic per second.
        link_bandwidth: bytes per second that a device sends to others of its slice or machine, in
            one direction, over all links together.
        source: source of the figures.

    Added in version 0.2.0.
    """

    memory: int
    flops: float
    memory_bandwidth: float
    link_bandwidth: float
    source: str


CHIPS: Mapping[str, Chip] = MappingProxyType(
    {
        "v5e": Chip(
            16 * GIGABYTE,
            197 * _TERA,
            819 * GIGABYTE,
            200 * GIGABYTE,
            "docs.cloud.google.com/tpu/docs/v5e",
        ),
        "v5p": Chip(
            95 * GIGABYTE,
            459 * _TERA,
            2765 * GIGABYTE,
            600 * GIGABYTE,
            "docs.cloud.google.com/tpu/docs/v5p",
        ),
        "v6e": Chip(
            32 * GIGABYTE,
            918 * _TERA,
            1638 * GIGABYTE,
            400 * GIGABYTE,
            "docs.cloud.google.com/tpu/docs/v6e",
        ),
        "h200": Chip(
            141 * GIGABYTE,
            989 * _TERA,
            4800 * GIGABYTE,
            450 * GIGABYTE,
            "nvidia.com/en-us/data-center/h200",
        ),
    }
)
"""Chips by name.

Added in version 0.2.0.
"""
