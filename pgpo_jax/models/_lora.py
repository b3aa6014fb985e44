"""Low-rank adapters (LoRA, arXiv:2106.09685) as kernels of an unchanged model.

The parameters of a model are a tree. Here some of its kernels become a frozen kernel W with an
addition. The layers compute `x @ kernel` in both cases, and a scan over the layers cuts both alike.
So the rest of the model does not change.
"""

from __future__ import annotations

import abc
import dataclasses
import functools as ft
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Key

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._sharding import constrain, partition_spec

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The kernels of a layer that may have low-rank factors."""


class AdaptedKernel(abc.ABC):
    """A kernel and an addition to it, which are not summed while the model runs.

    If a small change were added to a bfloat16 kernel, it would be rounded away. A separate product
    keeps its precision in any dtype.
    """

    base: Float[Array, "*layers in out"]

    @abc.abstractmethod
    def addition(self) -> Float[Array, "*layers in out"]:
        """The addition as a full matrix in float32."""

    @abc.abstractmethod
    def __rmatmul__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """`x @ (base + addition)`."""

    @abc.abstractmethod
    def constrained(self, axes: tuple[str | None, ...], mesh: Mesh | None) -> AdaptedKernel:
        """One layer's parts, placed on the mesh by the logical axes of input and output."""

    def merged(self) -> Float[Array, "*layers in out"]:
        """The sum of both as one float32 kernel."""
        return self.base.astype(jnp.float32) + self.addition()

    def astype(self, dtype: Any) -> AdaptedKernel:
        """The same with all parts cast."""
        return jax.tree.map(lambda part: part.astype(dtype), self)

    def __getitem__(self, index: Any) -> AdaptedKernel:
        """The part of one layer; `...` gives the whole."""
        return jax.tree.map(lambda part: part[index], self)


_pytree = ft.partial(jax.tree_util.register_dataclass, meta_fields=[])


@ft.partial(_pytree, data_fields=["base", "a", "b"])
@dataclasses.dataclass(frozen=True)
class LowRank(AdaptedKernel):
    """W + A B with low-rank factors A and B; B includes the scale."""

    base: Float[Array, "*layers in out"]
    a: Float[Array, "*layers in rank"]
    b: Float[Array, "*layers rank out"]

    def addition(self) -> Float[Array, "*layers in out"]:
        return _product(self.a.astype(jnp.float32), self.b.astype(jnp.float32))

    def __rmatmul__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return x @ self.base + (x @ self.a) @ self.b

    def constrained(self, axes: tuple[str | None, ...], mesh: Mesh | None) -> LowRank:
        return LowRank(
            constrain(self.base, axes, mesh),
            constrain(self.a, (axes[0], None), mesh),
            constrain(self.b, (None, axes[1]), mesh),
        )


@ft.partial(_pytree, data_fields=["base", "delta"])
@dataclasses.dataclass(frozen=True)
class Shifted(AdaptedKernel):
    """W + D with D as large as W, because an average of low-rank additions is not of low rank."""

    base: Float[Array, "*layers in out"]
    delta: Float[Array, "*layers in out"]

    def addition(self) -> Float[Array, "*layers in out"]:
        return self.delta.astype(jnp.float32)

    def __rmatmul__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return x @ self.base + x @ self.delta

    def constrained(self, axes: tuple[str | None, ...], mesh: Mesh | None) -> Shifted:
        return Shifted(constrain(self.base, axes, mesh), constrain(self.delta, axes, mesh))


def init_lora(
    params: Any,
    rank: int,
    targets: Sequence[str] = LORA_TARGETS,
    *,
    key: Key[Array, ""],
    mesh: Mesh | None = None,
) -> dict[str, dict[str, nnx.LoRAParam]]:
    """Low-rank factors for the kernels of a model: A is normal with variance 1 / in, B is zero.

    Args:
        params: parameters of the model, `nnx.split(model, nnx.Param)[1]`.
        rank: number of columns of A and rows of B.
        targets: the kernels of the layers, of `LORA_TARGETS`.
        key: key for the random numbers of A.
        mesh: mesh for the factors: A is cut along the axis of the input, B along that of the
            output.

    Returns:
        `{target: {"a": [layers, in, rank], "b": [layers, rank, out]}}`, float32.

    Raises:
        ValueError: a rank below 1 or above a side of a kernel, or an unknown or absent target.

    >>> from pgpo_jax.models import Qwen3, Qwen3Config
    >>> config = Qwen3Config(vocab_size=32, hidden_size=16, intermediate_size=32,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    >>> params = nnx.split(Qwen3(config, rngs=nnx.Rngs(0)), nnx.Param)[1]
    >>> factors = init_lora(params, 4, ["up_proj"], key=jax.random.key(0))
    >>> factors["up_proj"]["a"].shape, factors["up_proj"]["b"].shape
    ((2, 16, 4), (2, 4, 32))
    """
    if rank < 1:
        raise PGPOValueError(f"The rank of LoRA must be at least 1, got {rank}.")
    unknown = [name for name in targets if name not in LORA_TARGETS]
    if unknown or not targets:
        raise PGPOValueError(
            f"The targets of LoRA must be one or more of {', '.join(LORA_TARGETS)}, got "
            f"{', '.join(map(repr, unknown or targets)) or 'none'}."
        )
    factors = {}
    for number, name in enumerate(LORA_TARGETS):
        if name not in targets:
            continue
        kernel = params["layers"][name]
        layers, inputs, outputs = kernel.shape
        if rank > min(inputs, outputs):
            raise PGPOValueError(
                f"The rank of LoRA must be at most {min(inputs, outputs)}, the smaller side of "
                f"{name}, got {rank}."
            )

        def factor(value: Array, axes: tuple[str | None, ...]) -> nnx.LoRAParam:
            if mesh is not None:
                value = jax.device_put(value, NamedSharding(mesh, partition_spec(axes, mesh)))
            return nnx.LoRAParam(value, axes=axes)

        draw = jax.random.normal(
            jax.random.fold_in(key, number), (layers, inputs, rank), jnp.float32
        )
        along, across = kernel.axes[1:]
        factors[name] = {
            "a": factor(draw.astype(jnp.float32) * inputs**-0.5, ("layers", along, None)),
            "b": factor(jnp.zeros((layers, rank, outputs), jnp.float32), ("layers", None, across)),
        }
    return factors


def with_lora(params: Any, factors: Any, scale: float) -> Any:
    """The model's parameters with `scale * A B` added to the kernels that have factors.

    Args:
        params: parameters of the frozen model.
        factors: factors from `init_lora` or from training.
        scale: scale of A B, usually alpha / rank.

    Returns:
        Parameters for `nnx.merge`, in which these kernels are `LowRank`.
    """
    base = params["layers"]
    kernels = {
        name: LowRank(base[name].get_value(), pair["a"].get_value(), scale * pair["b"].get_value())
        for name, pair in factors.items()
    }
    return _replaced(params, kernels)


def with_deltas(params: Any, deltas: Any) -> Any:
    """The model's parameters with a full matrix added to some kernels.

    Args:
        params: parameters of the frozen model.
        deltas: `{target: [layers, in, out]}`.

    Returns:
        Parameters for `nnx.merge`, in which these kernels are `Shifted`.
    """
    base = params["layers"]
    kernels = {
        name: Shifted(base[name].get_value(), delta.get_value()) for name, delta in deltas.items()
    }
    return _replaced(params, kernels)


def zero_deltas(params: Any, factors: Any) -> dict[str, nnx.Param]:
    """A float32 delta of zero for each kernel with factors, with the sharding of the kernel."""
    return {
        name: params["layers"][name].replace(
            jnp.zeros_like(params["layers"][name].get_value(), jnp.float32)
        )
        for name in factors
    }


def averaged_deltas(deltas: Any, factors: Any, scale: float, rate: float | int | Array) -> Any:
    """One step of the moving average of the factors' addition: (1 - rate) D + rate * scale A B.

    The average is that of the products, not of the factors. So the average of W + scale A B over
    the steps is exactly W + D. One layer's product is in memory at a time.

    Args:
        deltas: the average so far.
        factors: the current factors.
        scale: scale of A B, see `with_lora`.
        rate: weight of the current factors, in [0, 1]. With 0 the average does not change by a bit,
            even if the factors are not finite.

    Returns:
        The average, as `deltas`.
    """

    def moved(delta: Array, a: Array, b: Array) -> Array:
        def layer(i: Array, delta: Array) -> Array:
            new = _product(a[i], scale * b[i])
            mean = rate * new + (1 - rate) * delta[i]
            # 0 times NaN is NaN.
            return delta.at[i].set(jnp.where(jnp.asarray(rate) > 0, mean, delta[i]))

        return jax.lax.fori_loop(0, delta.shape[0], layer, delta)

    return {
        name: delta.replace(
            moved(
                delta.get_value(),
                factors[name]["a"].get_value(),
                factors[name]["b"].get_value(),
            )
        )
        for name, delta in deltas.items()
    }


def merged(params: Any) -> Any:
    """Ordinary parameters: adapted kernels are summed in float32, other weights do not change."""
    return jax.tree.map(
        lambda leaf: (
            leaf.replace(leaf.get_value().merged())
            if isinstance(leaf.get_value(), AdaptedKernel)
            else leaf
        ),
        params,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )


def _product(
    a: Float[Array, "*layers in rank"], b: Float[Array, "*layers rank out"]
) -> Float[Array, "*layers in out"]:
    """A B in full float32; by default accelerators round the factors to TF32 or bfloat16 first."""
    # The name distinguishes it from the layers' products in a compiled program.
    with jax.named_scope("low_rank_product"):
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _replaced(params: Any, kernels: Mapping[str, AdaptedKernel]) -> Any:
    """A new tree with some of the layers' kernels replaced."""
    changed = jax.tree.map(lambda leaf: leaf, params)
    for name, kernel in kernels.items():
        changed["layers"][name] = changed["layers"][name].replace(kernel)
    return changed
