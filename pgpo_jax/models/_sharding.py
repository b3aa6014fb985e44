"""One table that maps logical axis names to mesh axes, for weights and activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._config import DecoderConfig

MESH_AXES = ("data", "fsdp", "tensor")

SHARDING_RULES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "batch": ("data", "fsdp"),
        "embed": ("fsdp",),
        "heads": ("tensor",),
        "kv_heads": ("tensor",),
        "mlp": ("tensor",),
        "vocab": ("tensor",),
        # The input axes of kernels that map to the width. A kernel that is cut there is gathered as
        # it is stored. If it were cut along the width, XLA for GPU would hold a transposed copy of
        # all layers.
        "heads_in": ("tensor", "fsdp"),
        "mlp_in": ("tensor", "fsdp"),
        # For the products of the loss with the head, so that no device holds a whole head or its
        # gradient.
        "loss_vocab": ("tensor", "fsdp"),
        # Never cut: the scanned layer axis, the width of a head, positions, and the width of
        # activations.
        "layers": (),
        "head_dim": (),
        "length": (),
        "width": (),
    }
)
"""The mesh axes of each logical axis. Weights are cut over "tensor" along heads, feed-forward and
vocabulary. They are cut over "fsdp" along their first axis, but the embedding along the width.
Activations are cut over "data" and "fsdp" along the batch."""

# The logical axis of a weight after it is gathered over "fsdp".
GATHERED: MappingProxyType[str | None, str | None] = MappingProxyType(
    {"embed": None, "heads_in": "heads", "mlp_in": "mlp"}
)

# The sizes of a model that each mesh axis must divide.
CUT_FIELDS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "tensor": (
            "num_attention_heads",
            "num_key_value_heads",
            "intermediate_size",
            "vocab_size",
        ),
        "fsdp": ("hidden_size",),
    }
)


def make_mesh(
    data: int = 1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[Any] | None = None
) -> Mesh:
    """A mesh with the axes of the table, all automatic (GSPMD).

    Args:
        data: number of copies of the model.
        fsdp: number of shards of the weights along the width. They are also shards of the batch.
        tensor: number of shards of heads, feed-forward and vocabulary.
        devices: the devices to use; all of them by default.

    Returns:
        The mesh.

    Raises:
        ValueError: a size is below 1, or their product is not the number of devices.

    >>> make_mesh(data=1, devices=jax.devices()[:1]).axis_names
    ('data', 'fsdp', 'tensor')
    """
    shape = (data, fsdp, tensor)
    found = list(jax.devices() if devices is None else devices)
    if min(shape) < 1:
        raise PGPOValueError(f"Mesh axes must be at least 1, got data, fsdp, tensor = {shape}.")
    if math.prod(shape) != len(found):
        raise PGPOValueError(
            f"A mesh of data x fsdp x tensor = {data} x {fsdp} x {tensor} needs "
            f"{math.prod(shape)} devices, got {len(found)}."
        )
    kinds = (AxisType.Auto,) * 3
    try:
        return jax.make_mesh(shape, MESH_AXES, kinds, devices=found)
    except NotImplementedError:
        # The sizes are no products of the sides of a TPU's torus, so some sides are shared.
        placed = mesh_utils.create_device_mesh(shape, found, allow_split_physical_axes=True)
        return Mesh(placed, MESH_AXES, axis_types=kinds)


def abstract_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> AbstractMesh:
    """The same mesh as `make_mesh`, without devices, for shapes and shardings.

    Args:
        data: number of copies of the model.
        fsdp: number of shards of the weights along the width.
        tensor: number of shards of heads, feed-forward and vocabulary.

    Returns:
        The mesh. Its axes are automatic in all versions of JAX, whose default has changed.

    >>> abstract_mesh(fsdp=8).size
    8

    Added in version 0.2.0.
    """
    return AbstractMesh((data, fsdp, tensor), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def partition_spec(axes: Sequence[str | None], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """Map logical axis names to the axes that the mesh has.

    Args:
        axes: one logical name (a key of `SHARDING_RULES`) or None per dimension.
        mesh: the mesh.

    Returns:
        The partition spec.

    Raises:
        ValueError: a name that is not in the table.
    """
    entries = []
    for name in axes:
        if name is not None and name not in SHARDING_RULES:
            raise PGPOValueError(
                f"{name!r} is not a logical axis; known are {', '.join(SHARDING_RULES)}."
            )
        rule = () if name is None else SHARDING_RULES[name]
        present = tuple(axis for axis in rule if axis in mesh.axis_names)
        entries.append(present if len(present) > 1 else present[0] if present else None)
    return PartitionSpec(*entries)


def check_mesh(config: DecoderConfig, mesh: Mesh | AbstractMesh) -> None:
    """Refuse a mesh that the model cannot be cut over.

    Args:
        config: the model's shape.
        mesh: the mesh.

    Raises:
        ValueError: the mesh has unknown or explicit axes, or an axis that does not divide heads,
            feed-forward, vocabulary or width.
    """
    unknown = set(mesh.axis_names) - set(MESH_AXES)
    if unknown:
        raise PGPOValueError(f"Mesh axes must be among {MESH_AXES}, got {mesh.axis_names}.")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise PGPOValueError(
            f"Mesh axes must be AxisType.Auto, got {mesh.axis_types}; build it with "
            "pgpo_jax.models.make_mesh."
        )
    for axis, fields in CUT_FIELDS.items():
        size = mesh.shape.get(axis, 1)
        for field in fields:
            if getattr(config, field) % size:
                raise PGPOValueError(
                    f"The mesh axis {axis!r} of size {size} must divide {field}, "
                    f"got {getattr(config, field)}{_nearest(size, getattr(config, field))}."
                )
    inputs = {
        "heads_in": ("num_attention_heads x head_dim", config.num_attention_heads, config.head_dim),
        "mlp_in": ("intermediate_size", config.intermediate_size),
    }
    for axis, (field, *sizes) in inputs.items():
        size, parts = math.prod(sizes), axis_parts(axis, mesh)
        if size % parts:
            raise PGPOValueError(
                f"The mesh axes 'tensor' x 'fsdp' of size {parts} must divide {field}, got "
                f"{size}{_nearest(parts, size)}."
            )


def _nearest(parts: int, size: int) -> str:
    """The numbers closest to `parts` that divide `size`, for a message."""
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    below = [n for n in divisors if n < parts][-1:]
    near = below + [n for n in divisors if n > parts][:1]
    return f" ({' and '.join(map(str, near))} {'do' if len(near) > 1 else 'does'})"


def target_platform(mesh: Mesh | None) -> str:
    """The platform that a program is compiled for, which may differ from this machine's.

    Args:
        mesh: mesh with the devices of the program, or None for JAX's default device.

    Returns:
        "cpu", "gpu" or "tpu", the name that the devices report.
    """
    if mesh is not None:
        return mesh.devices.flat[0].platform
    # jax defines its options at run time only.
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return jax.default_backend() if chosen is None else getattr(chosen, "platform", chosen)


def axis_parts(name: str | None, mesh: Mesh | AbstractMesh | None) -> int:
    """The number of parts into which the mesh cuts a logical axis; 1 without a mesh.

    Args:
        name: a key of `SHARDING_RULES`, or None.
        mesh: the mesh, or None.

    Returns:
        The number of parts.
    """
    if mesh is None:
        return 1
    return math.prod(mesh.shape.get(axis, 1) for axis in SHARDING_RULES.get(name or "", ()))


def constrain(
    x: jax.Array, axes: Sequence[str | None], mesh: Mesh | None, *, rows: str = "batch"
) -> jax.Array:
    """Pin an activation to the mesh; without a mesh, do nothing.

    Args:
        x: any array.
        axes: one logical name or None per dimension.
        mesh: the mesh, or None.
        rows: the meaning of the batch axis, for the message.

    Returns:
        `x` with the sharding constraint.

    Raises:
        ValueError: the batch does not divide over the mesh.
    """
    if mesh is None:
        return x
    for size, name in zip(x.shape, axes, strict=True):
        parts = axis_parts(name, mesh)
        if size % parts:
            raise PGPOValueError(
                f"The {rows if name == 'batch' else name} of {size} must divide over the mesh: "
                f"{' x '.join(SHARDING_RULES[name or ''])} = {parts}."
            )
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, partition_spec(axes, mesh)))
