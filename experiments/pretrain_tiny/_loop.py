"""One update of pre-training: Muon on the kernels, Adam on the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from experiments.pretrain_tiny._data import Rows
from pgpo_jax.models import Qwen3, Qwen3Config


def tiny_config(vocab_size: int, *, end: int | None, pad: int | None) -> Qwen3Config:
    """The shape of the shipped model: about 0.66 M parameters.

    Args:
        vocab_size: rows of the embedding.
        end: id of the end token.
        pad: id of the padding token.

    Returns:
        The configuration.
    """
    return Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        rope_theta=1e4,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        eos_token_id=end,
        pad_token_id=pad,
    )


def _muon(rate: Any) -> optax.GradientTransformation:
    """Muon on the layers' kernels [layer, in, out], Adam on embedding and norms."""

    def axes(params: Any) -> Any:
        matrix = optax.contrib.MuonDimensionNumbers(1, 2)
        return jax.tree.map(lambda leaf: matrix if leaf.ndim == 3 else None, params)

    return optax.contrib.muon(rate, adam_b2=0.98, muon_weight_dimension_numbers=axes)


def weighted_loss(
    graphdef: nnx.GraphDef[Qwen3], params: nnx.State, batch: Mapping[str, Rows]
) -> tuple[Float[Array, ""], dict[str, tuple[Array, Array]]]:
    """Weighted mean cross-entropy over all rows, and loss and accuracy by row type.

    Args:
        graphdef: of the model.
        params: its weights.
        batch: rows by type.

    Returns:
        The loss in nats per weighted token, and `{type: (loss, accuracy)}`.
    """
    model = nnx.merge(graphdef, params)
    total = jnp.zeros(())
    weight = jnp.zeros(())
    by_type = {}
    for name, rows in batch.items():
        tokens, weights = rows.tokens[:, :-1], rows.weights[:, 1:]
        targets = rows.tokens[:, 1:]
        # Padding stands on the right, so that a causal model needs no mask.
        logits = model(tokens, jnp.ones_like(tokens))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        hits = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
        summed, count = jnp.sum(losses * weights), jnp.sum(weights)
        by_type[name] = (summed / count, jnp.sum(hits * weights) / count)
        total, weight = total + summed, weight + count
    return total / weight, by_type


class Learner:
    """A model's weights and its optimizer.

    Args:
        model: where to start.
    """

    def __init__(self, model: Qwen3):
        self.graphdef, self.params = nnx.split(model, nnx.Param)
        self.tx = optax.chain(
            optax.clip_by_global_norm(1.0), optax.inject_hyperparams(_muon)(rate=0.0)
        )
        self.state = self.tx.init(self.params)
        self._step = jax.jit(self._pure_step, donate_argnums=(0, 1))

    def model(self) -> Qwen3:
        """The model with the present weights."""
        return nnx.merge(self.graphdef, self.params)

    def update(self, batch: Mapping[str, Rows], rate: float) -> dict[str, tuple[Array, Array]]:
        """One update.

        Args:
            batch: rows by type.
            rate: the learning rate.

        Returns:
            Loss in nats per weighted token and accuracy, by row type.
        """
        self.params, self.state, by_type = self._step(
            self.params, self.state, dict(batch), jnp.asarray(rate, jnp.float32)
        )
        return by_type

    def _pure_step(
        self,
        params: nnx.State,
        state: Any,
        batch: dict[str, Rows],
        rate: Float[Array, ""],
    ) -> tuple[Any, optax.OptState, dict[str, tuple[Array, Array]]]:
        gradient = jax.grad(weighted_loss, argnums=1, has_aux=True)
        grads, by_type = gradient(self.graphdef, params, batch)
        clip, muon = state
        muon.hyperparams["rate"] = rate
        updates, state = self.tx.update(grads, (clip, muon), params)
        return optax.apply_updates(params, updates), state, by_type
