"""The contract that optax asks of its contrib transforms, over a table of ours."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

import pgpo_jax as pgpo

TRANSFORMS = {
    "scale": lambda: pgpo.scale_by_information(),
    "filtered": lambda: pgpo.scale_by_information(
        lambda count: 1.0 + 0.1 * count.astype(jnp.float32), 3.0, rho_min=0.5, decay=0.9, delay=1
    ),
    "target": lambda: pgpo.scale_by_information_to_target(1.5, 3.0, decay=0.5),
    "adamw": lambda: pgpo.pgpo(optax.adamw(0.1)),
}
PARAMS = {"w": jnp.arange(16.0).reshape(8, 2) / 7, "b": jnp.array([0.5, -1.0])}
GRADS = jax.tree.map(lambda p: 0.3 * p - 0.1, PARAMS)
SIGNALS = [0.3, -0.2, float("nan"), 0.9, 0.1]

pytestmark = pytest.mark.usefixtures("lenient")
# What "scale" does is a part of what "adamw" does.
table = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name == "scale" else [])
        for name, make in TRANSFORMS.items()
    ],
)


def close(got, want, rtol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7), got, want)


def unrolled(tx, signals=SIGNALS, params=PARAMS, grads=GRADS):
    step = jax.jit(lambda p, s, i: tx.update(grads, s, p, information=i))
    state, updates = tx.init(params), None
    for signal in signals:
        updates, state = step(params, state, jnp.float32(signal))
        params = optax.apply_updates(params, updates)
    return params, state


@table
def test_chain_with_transforms_that_know_nothing_of_it(make):
    plain, _ = unrolled(make())
    tx = optax.chain(optax.clip_by_global_norm(1e6), make(), optax.identity())
    close(unrolled(tx)[0], plain)


@table
def test_unknown_extra_arguments_are_swallowed_without_recompiling(make):
    tx = make()
    step = jax.jit(
        lambda s, i: tx.update(GRADS, s, PARAMS, information=i, value=1.0, another="text")[1]
    )
    state = step(tx.init(PARAMS), jnp.float32(0.1))
    step(state, jnp.float32(0.2))
    assert step._cache_size() == 1


@table
def test_masked(make):
    mask = {"w": True, "b": False}
    tx = optax.masked(make(), mask)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, information=0.3)
    inner = make()
    want, _ = inner.update(GRADS, inner.init(PARAMS), PARAMS, information=0.3)
    close(updates, {"w": want["w"], "b": GRADS["b"]})


@table
def test_partition(make):
    tx = optax.partition({"ours": make(), "other": optax.sgd(0.5)}, {"w": "ours", "b": "other"})
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, information=0.3)
    inner = make()
    want, _ = inner.update(GRADS, inner.init(PARAMS), PARAMS, information=0.3)
    close(updates, {"w": want["w"], "b": -0.5 * GRADS["b"]})


@table
@pytest.mark.parametrize("idle", [float("nan"), float("inf"), -1e30])
def test_multi_steps(make, idle):
    """Mini-steps that emit nothing leave no trace, even with a signal that is not finite."""
    tx, inner = optax.MultiSteps(make(), 2), make()
    state, want_state = tx.init(PARAMS), inner.init(PARAMS)
    step = jax.jit(lambda s, g, i: tx.update(g, s, PARAMS, information=i))
    for signal in (0.3, 0.5):
        updates, state = step(state, jax.tree.map(lambda g: 2 * g, GRADS), jnp.float32(idle))
        close(updates, jax.tree.map(jnp.zeros_like, GRADS))
        zero = jax.tree.map(jnp.zeros_like, GRADS)
        updates, state = step(state, zero, jnp.float32(signal))
        want, want_state = inner.update(GRADS, want_state, PARAMS, information=signal)
        close(updates, want)
    close(state.inner_opt_state, want_state)


@table
def test_apply_if_finite(make):
    tx = optax.apply_if_finite(make(), 3)
    state = tx.init(PARAMS)
    nans = jax.tree.map(lambda g: g * jnp.nan, GRADS)
    updates, after = tx.update(nans, state, PARAMS, information=0.3)
    close(updates, jax.tree.map(jnp.zeros_like, GRADS))
    close(after.inner_state, state.inner_state)
    updates, after = tx.update(GRADS, state, PARAMS, information=float("nan"))
    assert all(jnp.isfinite(u).all() for u in jax.tree.leaves(updates))
    assert after.total_notfinite == 0


def test_inject_the_target():
    kw = {"target": 1.4, "rho_max": 1.5, "alpha": 2.0, "gain": 0.2, "rho_min": 0.5, "delay": 1}
    factory = pgpo.scale_by_information_to_target
    injected = optax.inject_hyperparams(factory)(**kw)
    close(unrolled(injected)[0], unrolled(factory(**kw))[0])
    assert set(injected.init(PARAMS).hyperparams) >= set(kw)


@pytest.mark.parametrize("factory", [pgpo.scale_by_information, pgpo.pgpo])
def test_inject_hyperparams(factory):
    args = () if factory is pgpo.scale_by_information else (optax.sgd(0.1),)
    kw = {"alpha": 0.7, "rho_max": 1.5, "rho_min": 0.5, "decay": 0.5, "delay": 1}
    injected = optax.inject_hyperparams(factory)(*args, **kw)
    close(unrolled(injected)[0], unrolled(factory(*args, **kw))[0])
    state = injected.init(PARAMS)
    assert set(state.hyperparams) == set(kw)
    state.hyperparams["alpha"] = jnp.float32(0.0)
    step = jax.jit(lambda s: injected.update(GRADS, s, PARAMS, information=0.3))
    for _ in range(2):
        updates, state = step(state)
    scale = jax.tree.leaves(updates)[0] / jax.tree.leaves(GRADS)[0]
    np.testing.assert_allclose(jnp.abs(scale), 0.1 if args else 1.0, rtol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    ("factory", "kw", "name"),
    [
        (pgpo.scale_by_information, {"decay": 0.999}, "alpha"),
        (pgpo.scale_by_information, {"alpha": optax.constant_schedule(0.3)}, "alpha|rho_max"),
        (pgpo.scale_by_information_to_target, {"target": 1.003}, "target"),
    ],
)
def test_injected_values_are_not_rounded(factory, kw, name, dtype, jit):
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    whole, wrapped = (
        optax.inject_hyperparams(factory, **settings)(**kw)
        for settings in ({"hyperparam_dtype": jnp.float32}, {})
    )
    init = jax.jit(wrapped.init) if jit else wrapped.init
    with pytest.raises(TypeError, match=rf"({name}) must not .*hyperparam_dtype=jnp.float32"):
        init(params)
    # The remedy gives what float32 parameters give.
    state, same = whole.init(params), whole.init(PARAMS)
    for signal in (0.1, 0.4):
        _, state = whole.update(params, state, params, information=signal)
        _, same = whole.update(PARAMS, same, PARAMS, information=signal)
    close(optax.tree.get(state, "rho"), optax.tree.get(same, "rho"))
    assert optax.tree.get(state, "rho") > 1
    # The control: this is what rounding would do to them.
    assert dtype(0.999) != np.float32(0.999)


def test_inject_a_schedule():
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    injected = optax.inject_hyperparams(pgpo.scale_by_information)(alpha=schedule)
    close(unrolled(injected)[0], unrolled(pgpo.scale_by_information(schedule))[0])


def test_injected_values_are_not_checked_inside_jit():
    """A concrete bad value is refused at once; a traced one cannot be, and must not raise."""
    injected = optax.inject_hyperparams(pgpo.scale_by_information)(alpha=1.0)
    state = injected.init(PARAMS)
    state.hyperparams["alpha"] = jnp.float32(-1.0)
    jax.jit(lambda s: injected.update(GRADS, s, PARAMS, information=0.1))(state)
    with pytest.raises(ValueError, match="alpha must be"):
        injected.update(GRADS, state, PARAMS, information=0.1)


@table
def test_scan_equals_the_loop(make):
    tx = make()

    def body(carry, signal):
        params, state = carry
        updates, state = tx.update(GRADS, state, params, information=signal)
        return (optax.apply_updates(params, updates), state), None

    carry, _ = jax.lax.scan(body, (PARAMS, tx.init(PARAMS)), jnp.array(SIGNALS))
    close(carry, unrolled(tx))


@pytest.mark.slow
@table
def test_cond_with_any_type_of_signal(make):
    """Both branches must agree in every shape and dtype, whatever the signal's."""
    tx = make()
    for signal in (0.3, jnp.bfloat16(0.3), np.float32(0.3), jnp.int32(1)):
        updates, _ = jax.jit(
            lambda s, skip, signal=signal: jax.lax.cond(
                skip,
                lambda s: (GRADS, s),
                lambda s: tx.update(GRADS, s, PARAMS, information=signal),
                s,
            )
        )(tx.init(PARAMS), False)
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, GRADS)


@pytest.mark.slow
@table
def test_vmap_over_runs(make):
    tx = make()
    signals = jnp.array([0.3, -0.4, jnp.nan])
    state = tx.init(PARAMS)
    updates, states = jax.vmap(lambda i: tx.update(GRADS, state, PARAMS, information=i))(signals)
    for n, signal in enumerate(signals):
        want = tx.update(GRADS, state, PARAMS, information=signal)
        close(jax.tree.map(lambda x, n=n: x[n], (updates, states)), want)


@table
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dtype_is_preserved(make, dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    tx = make()
    state = tx.init(params)
    updates, after = jax.jit(lambda s: tx.update(params, s, params, information=0.3))(state)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)


@table
def test_tree_map_params(make):
    """Of the transform's own state nothing is parameter-like, so nothing is touched."""
    tx = make()
    state = tx.init(PARAMS)
    marked = optax.tree.map_params(tx, lambda p: p + 7.0, state)
    single = (pgpo.ScaleByInformationState, pgpo.ScaleByInformationToTargetState)
    own = state if isinstance(state, single) else state[-1]
    own_marked = marked if isinstance(marked, single) else marked[-1]
    close(own_marked, own)


@table
def test_sharded_updates(make):
    """Eight devices give what one gives, and every update stays where its parameter is."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    where = {"w": NamedSharding(mesh, P("x")), "b": NamedSharding(mesh, P())}
    params, grads = jax.device_put(PARAMS, where), jax.device_put(GRADS, where)
    tx = make()
    state = jax.jit(tx.init)(params)
    step = jax.jit(lambda g, p, s, i: tx.update(g, s, p, information=i))
    for signal in SIGNALS:
        updates, state = step(grads, params, state, jnp.float32(signal))
        assert updates["w"].sharding.is_equivalent_to(where["w"], 2)
        params = optax.apply_updates(params, updates)
    close((params, state), unrolled(make()))


@pytest.mark.parametrize("averaged", [True, False], ids=["with pmean", "without"])
def test_a_signal_per_device_is_averaged_or_the_replicas_part(averaged):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    tx = pgpo.pgpo(optax.sgd(0.1))

    def step(params, state, grads, information):
        signal = information[0]
        if averaged:
            signal = jax.lax.pmean(signal, "data")
        updates, state = tx.update(grads, state, params, information=signal)
        return optax.apply_updates(params, updates), state[-1].rho[None]

    def sharded(**check):
        specs = {"in_specs": (P(), P(), P(), P("data")), "out_specs": (P(), P("data"))}
        return jax.jit(jax.shard_map(step, mesh=mesh, **specs, **check))

    signals = jnp.linspace(-0.3, 0.4, 8)
    arguments = (PARAMS, tx.init(PARAMS), GRADS, signals)
    if not averaged:
        # Only jax's check of the replicas, which pmap does not have, sees it.
        with pytest.raises(ValueError, match="replicat"):
            sharded()(*arguments)
    params, rho = sharded(check_vma=averaged)(*arguments)
    replicas = [np.asarray(shard.data) for shard in params["w"].addressable_shards]
    assert all(np.array_equal(replicas[0], x) for x in replicas) is averaged
    assert bool(np.ptp(rho) == 0) is averaged
    if averaged:
        updates, _ = tx.update(GRADS, arguments[1], PARAMS, information=jnp.mean(signals))
        close(params, optax.apply_updates(PARAMS, updates))


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1, momentum=0.9), optax.adamw(0.1)])
def test_converges_on_a_parabola(optimizer):
    tx = pgpo.pgpo(optimizer)

    def body(carry, key):
        params, state = carry
        grads = jax.grad(lambda p: sum(jnp.sum(x**2) for x in jax.tree.leaves(p)))(params)
        signal = jax.random.normal(key)
        updates, state = tx.update(grads, state, params, information=0.3 * signal)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), 400)
    (params, _), _ = jax.lax.scan(body, (PARAMS, tx.init(PARAMS)), keys)
    assert max(float(jnp.abs(p).max()) for p in jax.tree.leaves(params)) < 1e-2
