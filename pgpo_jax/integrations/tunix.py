"""Integration with Tunix: our transform in its trainers, its Qwen3 in our step.

Tunix is https://github.com/google/tunix; we read version 0.1.7.

This module needs the extra `tunix`. Tunix's *sampler* is not used, for two reasons. It accepts text
only, so prompts would be tokenised again. It also returns responses without their end token and its
log-probability, which the loss needs. `to_pgpo` gives the weights to our sampler instead.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, ScalarLike, Shaped
from tunix.models.qwen3 import model as tunix_qwen3  # pyright: ignore[reportMissingImports]  # extra
from tunix.sft import peft_trainer  # pyright: ignore[reportMissingImports]  # extra

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.models import Qwen3, Qwen3Config
from pgpo_jax.models._decoder import attention_mask, positions

ROPE_THETA = 1_000_000
"""The base of `apply_rope` in Tunix's Qwen3, whatever its config says."""


def with_information(
    trainer: type[Any] = peft_trainer.PeftTrainer,
    information: Callable[[Any], ScalarLike] = itemgetter("information"),
) -> type[Any]:
    """A Tunix trainer that passes the information of each batch to its optimizer.

    Tunix calls `optimizer.update(model, grads)` only. The class returned here also passes
    `information=`, taken from the auxiliary output of the loss. Use it with an optimizer made by
    `pgpo_jax.pgpo` and with a loss that has auxiliary output:

        Trainer = with_information()
        trainer = Trainer(model, pgpo.pgpo(optax.adamw(1e-5)), config)
        trainer.with_loss_fn(loss, has_aux=True)    # loss(model, ...) -> loss, {"information": I}

    The information and the multiplier are logged with Tunix's own metrics.

    Args:
        trainer: `PeftTrainer` or a subclass that keeps its training step, for example the
            trainer of Tunix's reinforcement learning.
        information: a function that returns the signal, in nats, from the auxiliary output.

    Returns:
        A subclass of `trainer`. Its constructor raises `ValueError` for a config with gradient
        accumulation: `optax.MultiSteps` would scale the whole step by the signal of the last part.
        The first step raises `ValueError` for a loss without auxiliary output.

    Raises:
        TypeError: a class that is not a `PeftTrainer`, or has a training step of its own.
    """
    base = peft_trainer.PeftTrainer
    if not (isinstance(trainer, type) and issubclass(trainer, base)):
        raise PGPOTypeError(f"trainer must be a subclass of Tunix's PeftTrainer, got {trainer!r}.")
    if trainer._train_step is not base._train_step:
        raise PGPOTypeError(
            f"trainer must keep PeftTrainer's training step, {trainer.__name__} has its own."
        )

    class Informed(trainer):
        def __init__(self, model: nnx.Module, optimizer: Any, training_config: Any, *args, **kw):
            parts = training_config.gradient_accumulation_steps
            if parts is not None and parts > 1:
                raise PGPOValueError(
                    "gradient_accumulation_steps must be None or 1, got "
                    f"{parts}: the signal of the last part alone would scale the step of all."
                )
            super().__init__(model, optimizer, training_config, *args, **kw)

        def _train_step(self, model: nnx.Module, optimizer: nnx.Optimizer, inputs: Any):
            if not self._has_aux:
                raise PGPOValueError(
                    "The loss must return the signal: with_loss_fn(..., has_aux=True)."
                )
            gradient = nnx.value_and_grad(
                self.loss_fn,
                argnums=nnx.DiffState(0, nnx.LoRAParam) if self._lora_enabled else 0,
                has_aux=True,
            )
            (loss, aux), grads = gradient(model, **self.gen_model_input_fn(inputs))
            optimizer.update(model, grads, information=information(aux))
            return loss, aux, optax.global_norm(grads)

        def _post_process_train_step(self, aux: Any) -> None:
            super()._post_process_train_step(aux)
            metrics = self._buffered_train_metrics.additional_metrics
            metrics["pgpo/information"] = ([information(aux)], np.mean)
            rho = optax.tree.get(nnx.pure(nnx.state(self.optimizer)), "rho")
            metrics["pgpo/rho"] = ([rho], np.mean)

    Informed.__name__ = f"Informed{trainer.__name__}"
    Informed.__qualname__ = Informed.__name__
    return Informed


class TunixQwen3(nnx.Module):
    """Tunix's Qwen3 behind the two methods that the objectives `SDPO` and `GRPO` call.

    `graphdef, params = nnx.split(TunixQwen3(model), nnx.Param)` replaces our own model in
    `training.make_train_step`. The parameters stay Tunix's, so `nnx.update` can write them back
    into `model`.

    Args:
        model: a dense Qwen3 of Tunix.

    Raises:
        ValueError: a mixture of experts, or a `rope_theta` other than 1e6, which Tunix ignores.
    """

    def __init__(self, model: Any):
        check_model(model)
        self.model = model

    def hidden_states(
        self, tokens: Int[Array | np.ndarray, "B T"], mask: Shaped[Array | np.ndarray, "B T"]
    ) -> Float[Array, "B T D"]:
        """Hidden states after the final norm.

        Args:
            tokens: token ids; any valid id at padding.
            mask: 1 or True at real tokens; padding may stand on either side.

        Returns:
            The hidden states that `head` multiplies.
        """
        mask = jnp.asarray(mask).astype(jnp.bool_)
        # The logits that it also returns are not used, so XLA removes them.
        self.model(
            jnp.asarray(tokens),
            positions(mask),
            None,
            attention_mask(mask)[:, 0],
            output_hidden_states=True,
        )
        (states,) = jax.tree.leaves(nnx.pop(self.model, nnx.Intermediate))
        return states

    def head(self) -> Float[Array, "D V"]:
        """The output head in the compute dtype: the embedding transposed when tied."""
        return _head(self.model).astype(self.model.config.dtype)


def to_pgpo(model: Any, **kw: Any) -> Qwen3:
    """Our Qwen3 with the weights of Tunix's, for example to `sample` from.

    Args:
        model: a dense Qwen3 of Tunix.
        kw: further arguments of `Qwen3`, such as `dtype`.

    Returns:
        A new model with a copy of the weights.

    Raises:
        ValueError: as `TunixQwen3`.
    """
    check_model(model)
    theirs = model.config
    config = Qwen3Config(
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.embed_dim,
        intermediate_size=theirs.hidden_dim,
        num_hidden_layers=theirs.num_layers,
        num_attention_heads=theirs.num_heads,
        num_key_value_heads=theirs.num_kv_heads,
        head_dim=theirs.head_dim,
        rope_theta=float(ROPE_THETA),
        rms_norm_eps=theirs.norm_eps,
        tie_word_embeddings=theirs.use_tied_embedding,
    )
    kw = {"dtype": theirs.dtype, "param_dtype": theirs.param_dtype} | kw
    # Only the structure is needed, so no weights are initialised.
    ours = nnx.eval_shape(lambda: Qwen3(config, rngs=nnx.Rngs(0), **kw))
    graphdef, abstract = nnx.split(ours, nnx.Param)
    found = {
        "embedding": model.embedder.input_embedding[...],
        "final_norm": model.final_norm.w[...],
        "lm_head": _head(model),
    }
    layers = [_layer(layer) for layer in model.layers]
    found |= {name: jnp.stack([layer[name] for layer in layers]) for name in layers[0]}
    filled = [
        (path, leaf.replace(jnp.array(found[str(path[-1])].reshape(leaf.shape), leaf.dtype)))
        for path, leaf in nnx.to_flat_state(abstract)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def check_model(model: Any) -> None:
    """Refuse a model that would not compute what its config says.

    Args:
        model: a model of Tunix.

    Raises:
        TypeError: not Tunix's Qwen3.
        ValueError: a mixture of experts, or a `rope_theta` other than 1e6.
    """
    if not isinstance(model, tunix_qwen3.Qwen3):
        raise PGPOTypeError(f"model must be a Qwen3 of Tunix, got {type(model).__name__}.")
    if model.config.rope_theta != ROPE_THETA:
        raise PGPOValueError(
            f"rope_theta must be {ROPE_THETA}, got {model.config.rope_theta}: Tunix's Qwen3 "
            "ignores it and uses 1000000, which does not fit these weights. "
            "Load them with pgpo_jax.models.load_pretrained."
        )
    if model.config.num_experts is not None:
        raise PGPOValueError(
            f"num_experts must be None (a dense model), got {model.config.num_experts}."
        )


def _head(model: Any) -> Float[Array, "D V"]:
    if model.config.use_tied_embedding:
        return model.embedder.input_embedding[...].T
    return model.lm_head.w[...]


def _layer(layer: Any) -> dict[str, Array]:
    """One layer's weights by our names; heads are joined when they are put in place."""
    return {
        "input_norm": layer.input_layernorm.w[...],
        "q_proj": layer.attn.q_proj.w[...],
        "k_proj": layer.attn.k_proj.w[...],
        "v_proj": layer.attn.v_proj.w[...],
        "q_norm": layer.attn.q_norm.w[...],
        "k_norm": layer.attn.k_norm.w[...],
        "o_proj": layer.attn.o_proj.w[...],
        "post_norm": layer.post_attention_layernorm.w[...],
        "gate_proj": layer.mlp.gate_proj.kernel[...],
        "up_proj": layer.mlp.up_proj.kernel[...],
        "down_proj": layer.mlp.down_proj.kernel[...],
    }
