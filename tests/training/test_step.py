"""One training step against the plain composition of model, loss, estimator and optimizer."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec as P

import pgpo_jax as pgpo
from pgpo_jax.models import Qwen3, shardings
from pgpo_jax.training import LoRAConfig, MeshConfig, TeacherConfig, make_mesh
from pgpo_jax.training.devices._mesh import shard_rows
from pgpo_jax.training.update._state import update_teacher
from tests.training.conftest import (
    REMATERIALISED,
    SMALL_QWEN3,
    BagOfWords,
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)

_STEPS = {}


def compiled(graphdef, config):
    """One program per configuration and shape in the whole file: compiling is what costs."""
    key = graphdef, config
    if key not in _STEPS:
        _STEPS[key] = config_step(graphdef, config)
    return _STEPS[key]


def one_step(model, config, experience, state=None):
    graphdef, params = model
    if state is None:
        state = config_state(fresh(params), config)
    return compiled(graphdef, config)(state, jax.tree.map(jnp.asarray, experience))


@pytest.fixture(
    params=["bag of words", pytest.param("Qwen3", marks=pytest.mark.slow)], scope="module"
)
def model(request):
    """What is trained: the step asks no more of a model than the cheap one has."""
    if request.param == "Qwen3":
        return request.getfixturevalue("small_model")
    return nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)


# Jitted, since a composition run op by op compiles every op.
@ft.partial(jax.jit, static_argnums=0)
def response_logits(graphdef, params, prompt, prompt_mask, batch):
    tokens = jnp.concatenate([prompt, batch.response], axis=1)
    mask = jnp.concatenate([prompt_mask, batch.response_mask], axis=1)
    model = nnx.merge(graphdef, params)
    logits = model.hidden_states(tokens, mask) @ model.head()
    return logits[:, prompt.shape[1] - 1 : -1]


def plain_loss(graphdef, params, teacher, batch, config):
    """What the step should compute, with every logit in memory."""
    student = response_logits(graphdef, params, batch.prompt, batch.prompt_mask, batch)
    taught = response_logits(
        graphdef, teacher, batch.teacher_prompt, batch.teacher_prompt_mask, batch
    )
    per_token = pgpo.distillation.divergence(
        student,
        jax.lax.stop_gradient(taught),
        teacher_weight=config.loss.teacher_weight,
        support=config.loss.support,
        k=config.loss.k,
    )
    mask = jnp.asarray(batch.response_mask & batch.sequence_mask[:, None])
    lengths = jnp.maximum(mask.sum(1), 1).astype(jnp.float32)
    means = jnp.sum(jnp.where(mask, per_token, 0.0), 1) / lengths
    information = pgpo.information.entropy_gain(student, taught, mask)
    return means.sum() / config.rollout.rows, information


def perturbed(params, seed=3):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


@pytest.mark.parametrize("method", ["pgpo", pytest.param("sdpo", marks=pytest.mark.slow)])
def test_the_step_is_the_plain_composition(model, small_config, method):
    graphdef, params = model
    config = replaced(small_config, information={"alpha": 5.0 if method == "pgpo" else 0.0})
    batch = random_experience()
    teacher = perturbed(params)
    differentiate = jax.jit(
        jax.value_and_grad(plain_loss, argnums=1, has_aux=True), static_argnums=(0, 4)
    )
    (loss, information), grads = differentiate(graphdef, params, teacher, batch, config)
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.01))
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = plain.update(grads, plain.init(params), params)
    rho = pgpo.multiplier(information, config.alpha)
    expected = jax.tree.map(lambda p, u: p + rho * u, params, updates)

    state = config_state(fresh(params), config)
    state, metrics = one_step(model, config, batch, state._replace(teacher=fresh(teacher)))
    np.testing.assert_allclose(metrics["loss"], loss, rtol=2e-5)
    np.testing.assert_allclose(metrics["pgpo/information"], information, atol=2e-6)
    np.testing.assert_allclose(metrics["pgpo/rho"], rho, rtol=2e-4)
    assert (float(rho) == 1.0) == (method == "sdpo")
    # Adam's first update is sign-like, so a rounding error in a tiny gradient weighs more.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), state.params, expected)
    jax.tree.map(
        lambda t, e, p: np.testing.assert_allclose(t, 0.95 * e + 0.05 * p, atol=1e-6),
        state.teacher,
        teacher,
        state.params,
    )


def test_grpo_is_the_plain_policy_gradient(model, small_config):
    """In micro-batches, without a teacher: neither its prompts nor its weights are looked at."""
    graphdef, params = model
    config = replaced(
        small_config,
        objective="grpo",
        optimizer={"micro_batch": 4},
        loss={"rollout_clip": 2.0},
    )
    batch = random_experience(kept=8)
    batch = batch._replace(
        columns={"advantage": np.linspace(-0.7, 0.5, 8, dtype=np.float32)},
        teacher_prompt_mask=np.zeros_like(batch.teacher_prompt_mask),
    )

    def plain(params):
        logits = response_logits(graphdef, params, batch.prompt, batch.prompt_mask, batch)
        logprobs = jnp.take_along_axis(
            jax.nn.log_softmax(logits), jnp.asarray(batch.response)[..., None], -1
        )[..., 0]
        weights = pgpo.distillation.rollout_correction(
            jax.lax.stop_gradient(logprobs),
            jnp.asarray(batch.sampler_logprobs),
            jnp.asarray(batch.response_mask),
        )
        mean = (weights * logprobs).sum(1) / batch.response_mask.sum(1).astype(np.float32)
        return -jnp.sum(mean * batch.columns["advantage"]) / 8

    gradient = jax.jit(jax.grad(plain))(params)
    state, metrics = one_step(model, config, batch)
    assert state.teacher is None
    np.testing.assert_allclose(metrics["optimizer/grad_norm"], optax.tree.norm(gradient), rtol=1e-4)
    assert metrics["pgpo/rho"] == 1
    assert "pgpo/information" not in metrics
    # The direction, too: Adam's first step is the sign of the gradient wherever that is not tiny.
    for p, new, g in zip(*map(jax.tree.leaves, (params, state.params, gradient)), strict=True):
        large = jnp.abs(g) > 1e-4
        np.testing.assert_allclose((new - p)[large], -1e-2 * jnp.sign(g)[large], rtol=0.05)


@pytest.mark.slow
def test_dropping_rows_without_signal_is_exact(model, small_config):
    """Half the rows are masked; the step that never sees them must agree.

    Steps of gradient descent, whose difference is that of the gradients. Adam's first step is 1e-2
    for any gradient, so it shows the rounding of those that are nearly 0, and that of the machine.
    """
    descent = pgpo.pgpo(optax.sgd(1.0))
    graphdef, params = model
    step = config_step(graphdef, small_config, descent)
    full = random_experience(kept=4)
    kept = jax.tree.map(lambda x: x[:4], full)
    counted = full._replace(
        sequence_mask=np.ones(8, bool), response_mask=np.ones_like(full.response_mask)
    )

    def stepped(batch):
        state = config_state(fresh(params), small_config, descent)
        return step(state, jax.tree.map(jnp.asarray, batch))

    (one, a), (two, b), (other, whole) = map(stepped, (full, kept, counted))
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=2e-5)
    # A difference of entropies of some nats: float32 rounding is absolute.
    np.testing.assert_allclose(a["pgpo/information"], b["pgpo/information"], atol=2e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-8), one.params, two.params)
    # Negative control: the rows do count when their masks say so.
    assert float(whole["loss"]) > 1.2 * float(a["loss"])
    leaves = zip(*(jax.tree.leaves(state.params) for state in (one, other)), strict=True)
    assert all(jnp.abs(x - y).max() > 1e-7 for x, y in leaves)


def unchanged(before, after):
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), before, after)
    return all(jax.tree.leaves(same))


@pytest.mark.parametrize("fault", ["no signal", "nan"])
def test_a_step_that_cannot_learn_changes_only_the_counters(model, small_config, fault):
    config = replaced(small_config, loss={"rollout_clip": 2.0})
    batch = random_experience()
    if fault == "no signal":
        none = np.zeros(8, bool)
        batch = batch._replace(sequence_mask=none, signal_mask=none)
    else:
        batch.sampler_logprobs[0, 0] = np.nan
    before = config_state(fresh(model[1]), config)
    copy = fresh(before)
    after, metrics = one_step(model, config, batch, before)
    assert unchanged(copy[1:4], after[1:4])
    assert int(after.step) == 1
    assert int(after.skipped) == (fault == "nan")
    assert float(metrics["optimizer/applied"]) == 0.0
    assert float(metrics["optimizer/update_norm"]) == 0.0
    if fault == "no signal":
        assert float(metrics["loss"]) == 0.0
        assert float(metrics["pgpo/information"]) == 0.0
    # Negative control: the same call with a sound batch does move everything.
    moved, metrics = one_step(model, config, random_experience())
    assert float(metrics["optimizer/update_norm"]) > 0.0
    assert not unchanged(copy.params, moved.params)
    assert not unchanged(copy.teacher, moved.teacher)


@pytest.mark.parametrize("lora", [LoRAConfig(), LoRAConfig(rank=1)])
def test_a_teacher_stays_as_it_is_in_a_skipped_step(lora):
    """Even if the student has become NaN."""
    nan, settings = jnp.full((2, 1, 3), jnp.nan), TeacherConfig(rate=0.25)
    number = jnp.arange(18.0).reshape(2, 3, 3)
    if lora.rank:
        student = {"q": {"a": nnx.Param(nan.swapaxes(1, 2)), "b": nnx.Param(nan)}}
        teacher = {"q": nnx.Param(number)}
    else:
        student, teacher = {"q": number * jnp.nan}, {"q": number}

    @jax.jit
    def moved(applies):
        return update_teacher(teacher, student, applies, settings, lora)

    assert unchanged(moved(jnp.asarray(False)), teacher)
    # Negative control: a step that applies takes over what the student is.
    assert np.isnan(jax.tree.leaves(moved(jnp.asarray(True)))[0]).all()


@pytest.mark.slow
def test_teachers(model, small_config):
    graphdef, params = model
    batch = random_experience()
    losses, states = {}, {}
    for kind in ("ema", "live", "frozen", "trust_region"):
        rate = 0.25 if kind == "trust_region" else 0.05
        config = replaced(small_config, teacher={"kind": kind, "rate": rate})
        state = config_state(fresh(params), config)
        if kind != "live":
            state = state._replace(teacher=perturbed(params))
        states[kind], metrics = one_step(model, config, batch, state)
        losses[kind] = float(metrics["loss"])
    assert states["live"].teacher is None
    for kind in ("frozen", "trust_region"):
        assert unchanged(states[kind].teacher, perturbed(params))
    assert losses["ema"] == losses["frozen"] != losses["live"]

    def logits(weights):
        return response_logits(
            graphdef, weights, batch.teacher_prompt, batch.teacher_prompt_mask, batch
        )

    student = response_logits(graphdef, params, batch.prompt, batch.prompt_mask, batch)
    mixed = 0.75 * logits(perturbed(params)) + 0.25 * logits(params)
    divergence = jax.jit(ft.partial(pgpo.distillation.divergence, support="topk_tail", k=5))
    per_token = divergence(student, mixed)
    mask = batch.response_mask & batch.sequence_mask[:, None]
    means = np.where(mask, per_token, 0.0).sum(1) / np.maximum(mask.sum(1), 1)
    np.testing.assert_allclose(losses["trust_region"], means.sum() / 8, rtol=2e-5)


def test_one_program_per_shape(model, small_config):
    graphdef, params = model
    step = compiled(graphdef, small_config)
    state = config_state(fresh(params), small_config)
    programs = []
    for seed, width in ((0, 6), (1, 4), (2, 6), (3, 4), (4, 6)):
        state, _ = step(state, jax.tree.map(jnp.asarray, random_experience(seed, response=width)))
        programs.append(step.jitted._cache_size())
    # A new shape costs a program, a shape seen before does not.
    assert programs[1] == programs[2] == programs[4]
    assert programs[0] < programs[1]


@pytest.mark.slow
def test_rows_may_lie_on_several_devices(small_config):
    """Weights on each device; `test_the_step_is_the_same_on_a_mesh` cuts them, too."""
    graphdef, params = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    config = replaced(small_config, mesh=MeshConfig(data=4))
    mesh = make_mesh(config.mesh)
    placed = jax.device_put(fresh(params), NamedSharding(mesh, P()))
    state = config_state(placed, config, mesh=mesh)
    step = config_step(graphdef, config, layout=jax.tree.map(lambda x: x.sharding, state))
    alone = config_state(fresh(params), config)
    for seed in range(2):
        batch = random_experience(seed)
        rows = shard_rows(batch, mesh)
        assert len(rows.response.addressable_shards[0].data) == 2
        state, many = step(state, rows)
        alone, one = compiled(graphdef, small_config)(alone, jax.tree.map(jnp.asarray, batch))
        for name in ("loss", "pgpo/information", "pgpo/rho"):
            np.testing.assert_allclose(many[name], one[name], atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state.params, alone.params
    )
    assert not unchanged(params, alone.params)
    assert len(state.params["table"].get_value().devices()) == 4


def on_a_mesh(params, config, sizes, optimizer):
    """The mesh, the step on it and its state."""
    config = replaced(config, mesh=MeshConfig(*sizes))
    mesh = make_mesh(config.mesh)
    spread, _ = nnx.split(
        nnx.eval_shape(lambda: Qwen3(SMALL_QWEN3, rngs=nnx.Rngs(0), mesh=mesh)), nnx.Param
    )
    placed = jax.device_put(fresh(params), shardings(params, mesh))
    state = config_state(placed, config, optimizer, mesh)
    layout = jax.tree.map(lambda x: x.sharding, state)
    return mesh, config_step(spread, config, optimizer, layout=layout), state


@pytest.mark.parametrize("sizes", [(1, 4, 2), (2, 2, 2)])
@pytest.mark.slow
def test_the_step_is_the_same_on_a_mesh(small_model, small_config, sizes, capfd):
    graphdef, params = small_model
    config = small_config
    mesh, step, state = on_a_mesh(params, config, sizes, config.make_optimizer())
    alone = config_state(fresh(params), config)
    single = compiled(graphdef, small_config)
    for seed in range(3):
        batch = random_experience(seed)
        state, many = step(state, shard_rows(batch, mesh))
        alone, one = single(alone, jax.tree.map(jnp.asarray, batch))
        for name in ("loss", "pgpo/information", "pgpo/rho"):
            np.testing.assert_allclose(many[name], one[name], atol=1e-5)
    assert step.jitted._cache_size() == 1
    assert REMATERIALISED not in capfd.readouterr().err
    # Weights, moments and teacher are cut over fsdp x tensor, but for the gains.
    for held in (state.params, state.teacher, state.opt_state):
        leaves = jax.tree.leaves(held)
        own = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
        assert own < 1.2 * sum(leaf.nbytes for leaf in leaves) / (sizes[1] * sizes[2])


@pytest.mark.slow
def test_grpo_is_the_same_on_a_mesh(small_model, small_config, capfd):
    graphdef, params = small_model
    config = replaced(small_config, objective="grpo")
    batch = random_experience(kept=8)
    batch = batch._replace(columns={"advantage": np.linspace(-0.7, 0.5, 8, dtype=np.float32)})
    # Descent at rate 1, so that what the weights lose is the gradient.
    optimizer = optax.with_extra_args_support(optax.sgd(1.0))
    mesh, step, state = on_a_mesh(params, config, (1, 4, 2), optimizer)
    many, spread = step(state, shard_rows(batch, mesh))
    alone = config_state(fresh(params), config, optimizer)
    one, single = config_step(graphdef, config, optimizer)(alone, jax.tree.map(jnp.asarray, batch))
    np.testing.assert_allclose(spread["loss"], single["loss"], atol=1e-5)
    gradients = [jax.tree.map(jnp.subtract, params, x.params) for x in (one, jax.device_get(many))]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)
    # Against so large a gradient (and loss) 1e-5 is close; and another batch has another one.
    assert abs(float(single["loss"])) > 1e-2
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients[0])) > 1e-2
    assert REMATERIALISED not in capfd.readouterr().err
