"""Our transform in Tunix's trainer and Tunix's Qwen3 in our step, where Tunix is installed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pgpo_jax as pgpo
from pgpo_jax.models import sample
from pgpo_jax.training import PRESETS, SDPO, Experience, init_state, make_train_step

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("tunix", reason="the extra 'tunix' is not installed", exc_type=ImportError)
    from pgpo_jax.integrations import tunix as bridge

from tunix.models.qwen3.model import ModelConfig, Qwen3 as TheirQwen3
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig

# Tunix mixes dtypes and calls what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def their_regime():
    with jax.numpy_dtype_promotion("standard"):
        yield


def config(**changes):
    settings = {
        "num_layers": 2,
        "vocab_size": 32,
        "embed_dim": 16,
        "hidden_dim": 24,
        "num_heads": 4,
        "head_dim": 8,
        "num_kv_heads": 2,
        "rope_theta": 1_000_000,
        "norm_eps": 1e-6,
        "use_tied_embedding": True,
    }
    return ModelConfig(**(settings | changes))


def model(**changes):
    made = TheirQwen3(config(**changes), rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    # Theirs start with feed-forward weights of zero, which would hide much.
    state = nnx.state(made, nnx.Param)
    nnx.update(
        made,
        jax.tree.map(lambda x: jnp.asarray(x + 0.3 * rng.standard_normal(x.shape), x.dtype), state),
    )
    return made


@pytest.fixture
def padded():
    tokens = np.random.default_rng(1).integers(1, 32, (3, 7), dtype=np.int32)
    mask = np.arange(7)[None] >= np.array([0, 3, 5])[:, None]
    return jnp.asarray(tokens), jnp.asarray(mask)


@pytest.mark.parametrize("tied", [True, False])
def test_both_models_say_the_same(tied, padded):
    theirs = model(use_tied_embedding=tied)
    adapter, ours = bridge.TunixQwen3(theirs), bridge.to_pgpo(theirs)
    real = padded[1][..., None]
    expected = jnp.where(real, ours(*padded), 0.0)
    logits = adapter.hidden_states(*padded) @ adapter.head()
    np.testing.assert_allclose(jnp.where(real, logits, 0.0), expected, atol=2e-4)
    assert not jax.tree.leaves(nnx.state(theirs, nnx.Intermediate))
    # The control: it is the weights that agree.
    other = bridge.to_pgpo(TheirQwen3(theirs.config, rngs=nnx.Rngs(1)))
    assert jnp.abs(jnp.where(real, other(*padded), 0.0) - expected).max() > 1e-2


def test_what_tunix_would_compute_wrongly_is_refused():
    with pytest.raises(ValueError, match="rope_theta must be 1000000, got 10000: Tunix's Qwen3"):
        bridge.TunixQwen3(model(rope_theta=10_000))
    with pytest.raises(ValueError, match="rope_theta must be 1000000, got 5000000"):
        bridge.to_pgpo(model(rope_theta=5_000_000))
    with pytest.raises(TypeError, match="must be a Qwen3 of Tunix, got int"):
        bridge.to_pgpo(3)


def test_their_model_takes_our_step(padded):
    """The same loss, signal and weights as our own model after one step."""
    tokens, mask = padded
    tiny = PRESETS["tiny"]
    objective = SDPO(tiny.teacher, tiny.loss, tiny.information)
    batch = Experience(
        tokens,
        mask,
        tokens[:, 2:],
        mask[:, 2:],
        response=tokens[:, ::-1],
        response_mask=jnp.ones(tokens.shape, bool),
        sampler_logprobs=jnp.full(tokens.shape, -3.0),
        sequence_mask=jnp.ones(3, bool),
        signal_mask=jnp.ones(3, bool),
        score=jnp.ones(3),
    )
    results = []
    theirs = model()
    for wrapped in (bridge.TunixQwen3(theirs), bridge.to_pgpo(theirs)):
        graphdef, params = nnx.split(wrapped, nnx.Param)
        optimizer = pgpo.pgpo(optax.sgd(0.1))
        state = init_state(jax.tree.map(jnp.copy, params), optimizer, tiny.teacher)
        step = make_train_step(graphdef, optimizer, objective, sequences=3)
        state, metrics, _ = step(state, batch)
        moved = nnx.merge(graphdef, state.params)
        results.append((metrics, moved.hidden_states(tokens, mask)))
    (one, after), (other, expected) = results
    assert one["pgpo/information"] != 0
    for name in ("loss", "pgpo/information", "pgpo/rho", "optimizer/grad_norm"):
        np.testing.assert_allclose(one[name], other[name], rtol=2e-4)
    real = mask[..., None]
    np.testing.assert_allclose(
        jnp.where(real, after, 0.0), jnp.where(real, expected, 0.0), atol=2e-3
    )


def test_our_sampler_draws_from_their_weights(key):
    out = sample(
        bridge.to_pgpo(model()),
        np.array([[1, 2, 3]]),
        np.ones((1, 3)),
        key,
        max_new_tokens=4,
        eos_id=0,
        pad_id=0,
    )
    assert out.tokens.shape == (1, 4)


def trained(trainer, tmp_path, *, has_aux=True, **changes):
    made = model()
    before = jax.tree.map(jnp.copy, nnx.state(made, nnx.Param))
    settings = TrainingConfig(eval_every_n_steps=100, max_steps=1, **changes)

    def loss(model, tokens, information):
        mask = jnp.ones(tokens.shape, bool)
        logits = bridge.TunixQwen3(model).hidden_states(tokens, mask)
        value = jnp.mean(logits**2)
        return (value, {"information": information[0]}) if has_aux else value

    optimizer = pgpo.pgpo(optax.sgd(0.1), alpha=1.0, rho_max=10.0)
    run = trainer(made, optimizer, settings).with_loss_fn(loss, has_aux=has_aux)
    run.with_gen_model_input_fn(lambda x: x)
    logged = {}
    log = run.metrics_logger.log
    run.metrics_logger.log = lambda prefix, name, value, *rest: (
        logged.update({name: float(value)}),
        log(prefix, name, value, *rest),
    )
    return before, made, run, logged


def test_the_multiplier_reaches_their_optimizer(tmp_path):
    steps = {}
    for information in (0.0, 0.5):
        before, made, run, logged = trained(bridge.with_information(), tmp_path)
        tokens = np.arange(8, dtype=np.int32).reshape(1, 8)
        run.train([{"tokens": tokens, "information": np.full(1, information, np.float32)}])
        after = nnx.state(made, nnx.Param)
        steps[information] = jax.tree.map(lambda a, b: a - b, after, before)
        assert logged["pgpo/information"] == pytest.approx(information)
        assert logged["pgpo/rho"] == pytest.approx(np.exp(information))
    for one, other in zip(*map(jax.tree.leaves, steps.values()), strict=True):
        np.testing.assert_allclose(np.exp(0.5) * one, other, atol=1e-5)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(steps[0.0])) > 1e-3


def test_their_own_step_does_not_pass_the_signal(tmp_path):
    """The control: without the subclass our transform is never told, and says so."""
    *_, run, _ = trained(PeftTrainer, tmp_path)
    with pytest.raises(TypeError, match="information"):
        run.train([{"tokens": np.ones((1, 4), np.int32), "information": np.ones(1, np.float32)}])


def test_what_cannot_be_scaled_is_refused(tmp_path):
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be None or 1, got 2"):
        trained(bridge.with_information(), tmp_path, gradient_accumulation_steps=2)
    *_, run, _ = trained(bridge.with_information(), tmp_path, has_aux=False)
    with pytest.raises(ValueError, match="has_aux=True"):
        run.train([{"tokens": np.ones((1, 4), np.int32), "information": np.ones(1, np.float32)}])
    with pytest.raises(TypeError, match="subclass of Tunix's PeftTrainer, got <class 'int'>"):
        bridge.with_information(int)

    class Own(PeftTrainer):
        def _train_step(self, model, optimizer, inputs):
            return super()._train_step(model, optimizer, inputs)

    with pytest.raises(TypeError, match="Own has its own"):
        bridge.with_information(Own)
