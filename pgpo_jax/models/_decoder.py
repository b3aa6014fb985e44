"""The decoder of Llama, Mistral, Qwen2 and Qwen3: grouped queries, RoPE, SwiGLU, scanned layers.

Differences of the families, such as the norm of queries and keys, are fields of the config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped

from pgpo_jax._precision import product_precision
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._accumulate_layers import Accumulated, through_layers
from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._embed import look_up
from pgpo_jax.models._feed_forward import feed_forward
from pgpo_jax.models._layers import (
    FirstTokens,
    LayerWeights,
    Rotary,
    attend,
    attention_output,
    bound_to_layer,
    check_attention,
    project_qkv,
    rms_norm,
    rotary,
)
from pgpo_jax.models._sharding import check_mesh, constrain, target_platform

# Tensor cores take rows in multiples of eight. Other numbers of rows are copied around every
# product.
_EVEN_LENGTH = 8


class Layers(nnx.Module):
    """The weights of all blocks, stacked on a leading layer axis. Kernels are [layer, in, out]."""

    def __init__(self, config: DecoderConfig, param_dtype: Any, rngs: nnx.Rngs):
        depth, width = config.num_hidden_layers, config.hidden_size
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        mlp = config.intermediate_size

        def kernel(shape: tuple[int, int], axes: tuple[str, str]) -> nnx.Param:
            draw = jax.random.normal(rngs.params(), (depth, *shape), jnp.float32)
            return nnx.Param(
                (config.initializer_range * draw).astype(param_dtype), axes=("layers", *axes)
            )

        def scale(size: int, axis: str) -> nnx.Param:
            return nnx.Param(jnp.ones((depth, size), param_dtype), axes=("layers", axis))

        def bias(size: int, axis: str) -> nnx.Param:
            return nnx.Param(jnp.zeros((depth, size), param_dtype), axes=("layers", axis))

        self.input_norm = scale(width, "width")
        self.q_proj = kernel((width, queries), ("embed", "heads"))
        self.k_proj = kernel((width, keys), ("embed", "kv_heads"))
        self.v_proj = kernel((width, keys), ("embed", "kv_heads"))
        self.q_norm = scale(config.head_dim, "head_dim") if config.qk_norm else None
        self.k_norm = scale(config.head_dim, "head_dim") if config.qk_norm else None
        self.o_proj = kernel((queries, width), ("heads_in", "width"))
        self.post_norm = scale(width, "width")
        self.gate_proj = kernel((width, mlp), ("embed", "mlp"))
        self.up_proj = kernel((width, mlp), ("embed", "mlp"))
        self.down_proj = kernel((mlp, width), ("mlp_in", "width"))
        self.q_bias = bias(queries, "heads") if config.qkv_bias else None
        self.k_bias = bias(keys, "kv_heads") if config.qkv_bias else None
        self.v_bias = bias(keys, "kv_heads") if config.qkv_bias else None

    def weights(self) -> LayerWeights:
        """The stacked arrays by name; None for weights that the family does not have."""

        def held(name: str) -> Any:
            weight = getattr(self, name)
            return None if weight is None else weight[...]

        return LayerWeights(**{name: held(name) for name in LayerWeights._fields})


class Decoder(nnx.Module):
    """A language model: it holds the weights and calls pure functions.

    `Qwen3` is another name of this class.

    `graphdef, params = nnx.split(model, nnx.Param)` gives the parameters as a tree of arrays, with
    one leaf per weight and stacked layers. `nnx.merge(graphdef, params)` gives the model back,
    inside jit too. Padding may be anywhere. Positions count the real tokens only, and no query
    attends to padding. Outputs at padding are finite and meaningless.

    Args:
        config: the shape of the model.
        rngs: source of the random weights (`nnx.Rngs(0)`).
        dtype: dtype of activations and products. Norms, rotary angles and softmax are float32. If
            it is float32, the products of attention and the logits are float32 on every platform.
            All other products have JAX's default precision. For float32 that is bfloat16 on a TPU
            and may be TF32 on an NVIDIA GPU; `jax.default_matmul_precision("highest")` changes it.
        param_dtype: dtype of the stored weights. Each layer casts them to `dtype` when it is used.
        remat: whether to recompute each layer in the backward pass: False, True (nothing is saved),
            or the name of a policy in `jax.checkpoint_policies`.
        attention: "xla" runs on any machine. "chunked" is the same with the scores of 256 queries
            in memory at a time. "cudnn" is flash attention on NVIDIA GPUs and needs a 16-bit
            `dtype`. In all three the softmax is float32.
        mesh: mesh on which `SHARDING_RULES` place the activations; None for one device.

    Raises:
        ValueError: a mesh that the model cannot be cut over, an unknown remat policy or attention,
            or attention "cudnn" with a wider `dtype`.

    >>> config = DecoderConfig(vocab_size=32, hidden_size=16, intermediate_size=32,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    >>> model = Decoder(config, rngs=nnx.Rngs(0))
    >>> tokens = jnp.array([[1, 2, 3]])
    >>> model(tokens, jnp.ones_like(tokens)).shape
    (1, 3, 32)

    Added in version 0.2.0.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        remat: bool | str = False,
        attention: str = "xla",
        mesh: Mesh | None = None,
    ):
        if mesh is not None:
            check_mesh(config, mesh)
        if isinstance(remat, str) and not hasattr(jax.checkpoint_policies, remat):
            raise PGPOValueError(
                f"remat must be a bool or the name of a policy in jax.checkpoint_policies, "
                f"got {remat!r}."
            )
        check_attention(attention, dtype)
        self.config = config
        self.attention = attention
        self.dtype = jnp.dtype(dtype)
        self.remat = remat
        self.mesh = mesh
        shape = (config.vocab_size, config.hidden_size)

        def table() -> Array:
            draw = jax.random.normal(rngs.params(), shape, jnp.float32)
            return (config.initializer_range * draw).astype(param_dtype)

        self.embedding = nnx.Param(table(), axes=("vocab", "embed"))
        self.layers = Layers(config, param_dtype, rngs)
        self.final_norm = nnx.Param(jnp.ones(config.hidden_size, param_dtype), axes=("width",))
        self.lm_head = (
            None if config.tie_word_embeddings else nnx.Param(table().T, axes=("embed", "vocab"))
        )

    def embed(self, tokens: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B T D"]:
        """Token embeddings in the compute dtype.

        Args:
            tokens: ids in [0, vocab_size).

        Returns:
            The rows of the embedding.
        """
        return look_up(self.embedding[...].astype(self.dtype), jnp.asarray(tokens), self.mesh)

    def head(self, vocabulary: str = "vocab") -> Float[Array, "D V"]:
        """The output head in the compute dtype: the embedding transposed when tied.

        Args:
            vocabulary: the logical axis of its columns: "vocab", or "loss_vocab" for a loss with
                the products of `pgpo_jax.distillation.HeadSharding`.

        Returns:
            The matrix that maps final hidden states to logits.
        """
        weights = self.embedding[...].T if self.lm_head is None else self.lm_head[...]
        # It is pinned twice. Otherwise XLA would cast after the transfer and send twice the bytes.
        weights = constrain(weights.astype(self.dtype), ("embed", "vocab"), self.mesh)
        return constrain(weights, (None, vocabulary), self.mesh)

    def hidden_states(
        self, tokens: Int[Array | np.ndarray, "B T"], mask: Shaped[Array | np.ndarray, "B T"]
    ) -> Float[Array, "B T D"]:
        """Hidden states after the final norm, in the compute dtype.

        Args:
            tokens: token ids; any valid id at padding.
            mask: 1 or True at real tokens; padding may stand on either side.

        Returns:
            The states that `head` multiplies, so that a loss can take the vocabulary in chunks.
        """
        length = tokens.shape[1]
        missing = 0 if target_platform(self.mesh) == "cpu" else -length % _EVEN_LENGTH
        tokens, mask = (
            jnp.pad(x, ((0, 0), (0, missing))) for x in (tokens, jnp.asarray(mask, jnp.bool_))
        )
        if self.attention == "cudnn":
            return self._packed_states(tokens, mask)[:, :length]
        return self._states(tokens, mask, attention_mask(mask))[:, :length]

    def _states(self, tokens: Array, mask: Array, allowed: Array | FirstTokens) -> Array:
        rope = rotary(positions(mask), self.config)

        def layer(x: Array, weights: LayerWeights) -> Array:
            return self.block(x, weights, rope, allowed)[0]

        x = self._through_layers(layer, self.embed(tokens))
        return rms_norm(x, self.final_norm[...], self.config.rms_norm_eps)

    def _packed_states(self, tokens: Array, mask: Array) -> Array:
        """The same, with the real tokens of each row moved to its front inside the layers."""
        order = jnp.argsort(~mask, axis=1, stable=True)
        tokens, packed = (jnp.take_along_axis(x, order, axis=1) for x in (tokens, mask))
        number = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.int32), 1)
        x = self._states(tokens, packed, FirstTokens(number))
        return jnp.take_along_axis(x, jnp.argsort(order, axis=1)[..., None], axis=1)

    def continuation_states(
        self,
        prompts: Int[Array | np.ndarray, "U P"],
        prompt_mask: Shaped[Array | np.ndarray, "U P"],
        owner: Int[Array | np.ndarray, " R"],
        tokens: Int[Array | np.ndarray, "R T"],
        mask: Shaped[Array | np.ndarray, "R T"],
    ) -> Float[Array, "R T+1 D"]:
        """Hidden states from each row's last prompt token on, with every prompt read only once.

        The result is that of `hidden_states` for `prompts[owner]` followed by `tokens`. It needs
        much less work if many rows continue one prompt. The gradient of a prompt is summed over its
        rows.

        Args:
            prompts: the different prompts; padding may stand on either side.
            prompt_mask: 1 or True at real tokens. Each prompt that a row continues has at least
                one.
            owner: index of the prompt that each row continues.
            tokens: token ids of the continuations; any valid id at padding.
            mask: 1 or True at the real tokens of the continuations.

        Returns:
            The state at the last real token of the row's prompt, then those of its own tokens.
        """
        known, own = (jnp.asarray(x).astype(jnp.bool_) for x in (prompt_mask, mask))
        prompt_rope = rotary(positions(known), self.config)
        before = jnp.sum(known, axis=1, dtype=jnp.int32)[owner]
        rope = rotary(before[:, None] + positions(own), self.config)
        length = own.shape[1]
        visible = jnp.broadcast_to(
            known[owner][:, None, None, :], (own.shape[0], 1, length, known.shape[1])
        )
        allowed = jnp.concatenate([visible, attention_mask(own)], axis=-1)

        def layer(streams: tuple[Array, Array], weights: LayerWeights) -> tuple[Array, Array]:
            x, y = streams
            x, (k, v) = self.block(x, weights, prompt_rope, attention_mask(known))
            return x, self.block(y, weights, rope, allowed, before=(k[owner], v[owner]))[0]

        x, y = self._through_layers(layer, (self.embed(prompts), self.embed(tokens)))
        last = jnp.max(jnp.where(known, jnp.arange(known.shape[1], dtype=jnp.int32), 0), axis=1)
        x = jnp.take_along_axis(x, last[:, None, None], axis=1)[owner]
        x = jnp.concatenate([x, y], axis=1)
        return rms_norm(x, self.final_norm[...], self.config.rms_norm_eps)

    def _through_layers(self, layer: Callable[[Any, LayerWeights], Any], x: Any) -> Any:
        """Scan over the layers; each is recomputed in the backward pass if `remat`."""

        weights = self.layers.weights()
        if isinstance(weights.input_norm, Accumulated):
            return through_layers(layer, x, weights)

        def body(x: Any, weights: LayerWeights) -> tuple[Any, None]:
            return layer(x, weights), None

        if self.remat:
            policy = (
                getattr(jax.checkpoint_policies, self.remat)
                if isinstance(self.remat, str)
                else None
            )
            # A scan already prevents XLA from merging the recomputation with the forward pass.
            body = jax.checkpoint(body, policy=policy, prevent_cse=False)
        return jax.lax.scan(body, x, weights)[0]

    def block(
        self,
        x: Float[Array, "B T D"],
        weights: LayerWeights,
        rope: Rotary,
        allowed: Bool[Array, "B 1 T S"] | FirstTokens,
        before: tuple[Float[Array, "B P K H"], Float[Array, "B P K H"]] | None = None,
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T K H"], Float[Array, "B T K H"]]]:
        """One layer over whole sequences.

        Args:
            x: residual stream.
            weights: one layer's weights, in any dtype.
            rope: cosines and sines of the rotary angles.
            allowed: True where the query may see the key; the keys of `before` come first.
            before: rotated keys and values of the tokens that the sequences continue, if any.

        Returns:
            The residual stream, and the layer's keys and values (rotated), for a cache.
        """
        if target_platform(self.mesh) == "tpu":
            weights = bound_to_layer(weights)
        weights = weights.astype(self.dtype)
        q, k, v = project_qkv(x, weights, rope, self.config)
        q = constrain(q, ("batch", "length", "heads", "head_dim"), self.mesh)
        k = constrain(k, ("batch", "length", "kv_heads", "head_dim"), self.mesh)
        v = constrain(v, ("batch", "length", "kv_heads", "head_dim"), self.mesh)
        keys, values = (k, v)
        if before is not None:
            keys, values = (
                jnp.concatenate([x, y], axis=1) for x, y in zip(before, (k, v), strict=True)
            )
        heads = attend(q, keys, values, allowed, self.attention)
        x = x + attention_output(heads, weights)
        x = x + feed_forward(x, weights, self.config)
        return constrain(x, ("batch", "length", "width"), self.mesh), (k, v)

    def __call__(
        self, tokens: Int[Array | np.ndarray, "B T"], mask: Shaped[Array | np.ndarray, "B T"]
    ) -> Float[Array, "B T V"]:
        """Next-token logits in float32.

        Args:
            tokens: ids; anything valid at padding.
            mask: 1 or True at real tokens; padding may stand on either side.

        Returns:
            Logits; row t predicts token t + 1.
        """
        logits = jnp.matmul(
            self.hidden_states(tokens, mask),
            self.head(),
            precision=product_precision(self.dtype),
            preferred_element_type=jnp.float32,
        )
        return constrain(logits, ("batch", "length", "vocab"), self.mesh)


Qwen3 = Decoder
"""The former name of `Decoder`, from when Qwen3 was the only family."""


def positions(mask: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """Positions that count real tokens from 0, with padding on either side.

    Args:
        mask: True at real tokens.

    Returns:
        int32 positions; 0 at padding before the first token.
    """
    return jnp.maximum(jnp.cumsum(mask.astype(jnp.int32), axis=-1) - 1, 0)


def attention_mask(mask: Bool[Array, "B T"]) -> Bool[Array, "B 1 T T"]:
    """A causal mask over real keys. A padded query without any key averages evenly, without NaN.

    Args:
        mask: True at real tokens.

    Returns:
        True where the query (third axis) may see the key (fourth axis).
    """
    causal = jnp.tril(jnp.ones((mask.shape[1], mask.shape[1]), jnp.bool_))
    return causal[None, None] & mask[:, None, None, :]
