"""Optimizers by name: each runs on our parameters, wrong arguments are named, Muon is Muon."""

import doctest
import functools as ft
import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo
from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.models import LORA_TARGETS, init_lora, muon_dimension_numbers
from pgpo_jax.training.config import TeacherConfig
from pgpo_jax.training.update import _named_optimizers, _optimizer_arguments
from pgpo_jax.training.update._check_optimizer import (
    check_orthogonalises,
    check_takes_information,
    muon_without_kernels,
)
from pgpo_jax.training.update._named_optimizers import OPTIMIZERS, UNSUITABLE, named_optimizer
from pgpo_jax.training.update._optimizer_arguments import parse_arguments, settable
from pgpo_jax.training.update._state import init_state

STEPS = 4
MUON = {"muon_weight_dimension_numbers": muon_dimension_numbers}


@pytest.fixture(scope="module")
def params(small_model):
    return small_model[1]


@pytest.fixture(scope="module")
def factors(params):
    return init_lora(params, 2, ["q_proj", "down_proj"], key=jax.random.key(0))


def gradients(tree):
    # Drawn by NumPy, which compiles nothing.
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), tree)


def trained(optimizer, tree, steps=STEPS):
    """Parameters after some steps with gradients that change, and the last updates."""

    @jax.jit
    def run(tree, first):
        def step(carry, number):
            tree, state = carry
            gradient = jax.tree.map(lambda g: g * jnp.cos(number), first)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(
                    gradient, state, tree, information=jnp.float32(0.1), value=jnp.float32(1.0)
                )
            return (optax.apply_updates(tree, updates), state), updates

        start = (tree, optimizer.init(tree))
        carry, updates = jax.lax.scan(step, start, np.arange(steps, dtype=np.float32))
        return carry[0], jax.tree.map(lambda x: x[-1], updates)

    return run(tree, gradients(tree))


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype.name), tree)


# Of each way of being built one: moments, kernels by name, a constant rate, a rate of its own.
FAST = {"lion", "muon", "rprop", "prodigy"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS],
)
def test_each_optimizer_trains_the_model_and_the_factors(name, params, factors):
    # One weight of each kind: each leaf more is compiled, too.
    layers = {key: params["layers"][key] for key in ("input_norm", "q_proj")}
    model = {"embedding": params["embedding"], "layers": layers}
    tree = {"model": model, "factors": {"down_proj": factors["down_proj"]}}
    # A warm-up from 0, as the trainer has it, unless the optimizer cannot follow it.
    constant = name in ("rprop", "sm3", "prodigy", "dadapt_adamw")
    size = 1.0 if name in ("dadapt_adamw", "dog", "dowg", "prodigy", "cocob") else 0.01
    rate = size if constant else optax.linear_schedule(0.0, size, 2)
    optimizer = named_optimizer(name, rate)
    assert check_takes_information(optimizer, tree) is False
    moved, updates = trained(optimizer, tree)
    assert shapes(updates) == shapes(tree)
    for leaf in jax.tree.leaves((moved, updates)):
        assert np.isfinite(leaf).all()
    changed = jax.tree.map(lambda a, b: (np.asarray(a) != np.asarray(b)).any(), moved, tree)
    assert all(jax.tree.leaves(changed))


def test_every_optimizer_of_optax_is_in_the_table_or_has_a_reason():
    if optax.__version__ != "0.2.8":
        pytest.skip("a newer optax may have more")
    known = {
        name
        for module in (optax, optax.contrib)
        for name, made in vars(module).items()
        if isinstance(made, types.FunctionType | ft.partial)
        and not name.startswith(("scale_by", "_"))
        and {"learning_rate", "max_learning_rate"} & set(inspect.signature(made).parameters)
    }
    assert known - {"sam"} == set(OPTIMIZERS) | set(UNSUITABLE) - {"sam"}


def test_adamw_is_that_of_optax_to_the_bit(params):
    settings = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    rate = optax.linear_schedule(0.0, 1e-2, 2)
    got, _ = trained(named_optimizer("adamw", rate, settings), params)
    wanted, _ = trained(optax.with_extra_args_support(optax.adamw(rate, **settings)), params)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, got, wanted)))
    other, _ = trained(named_optimizer("adamw", rate, settings | {"b2": 0.9}), params)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, got, other)))


def test_muon_by_name_orthogonalises_the_kernels(params):
    tree = {"layers": {name: params["layers"][name] for name in ("q_proj", "down_proj")}}
    _, updates = trained(named_optimizer("muon", 1.0), tree, steps=1)
    _, plain = trained(optax.with_extra_args_support(optax.contrib.muon(1.0)), tree, steps=1)
    for name in ("q_proj", "down_proj"):
        got, wrong = (x["layers"][name].get_value() for x in (updates, plain))
        scale = max(1.0, got.shape[-1] / got.shape[-2]) ** 0.5
        values = np.linalg.svd(got, compute_uv=False) / scale
        assert values.min() > 0.5
        assert values.max() < 1.25
        assert np.linalg.svd(wrong, compute_uv=False).max() > 2.0


def test_a_name_that_is_unknown_or_unsuitable_says_why():
    with pytest.raises(PGPOValueError, match=r"'moun' is unknown\. Did you mean 'muon'.*adamw"):
        named_optimizer("moun", 0.1)
    with pytest.raises(PGPOValueError, match="'sophia' cannot be chosen by name: it evaluates the"):
        named_optimizer("sophia", 0.1)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("adamw", {"weight_decai": 0.9}, r"b1=0\.9, b2=0\.999.*\(did you mean 'weight_decay'"),
        ("sgd", {"nesterov": 1}, "'nesterov' .* must be true or false, got 1"),
        ("sgd", {"momentum": True}, "must be a finite number or none, got True"),
        ("adamw", {"b1": "high"}, "must be a finite number, got 'high'"),
        ("adamw", {"b1": None}, "must be a finite number, got None"),
        ("adamw", {"eps": float("nan")}, "must be a finite number, got nan"),
        ("adamw", {"mu_dtype": "int8"}, "must be the name of a float dtype or none, got 'int8'"),
        ("adamw", {"mu_dtype": "bf17"}, "must be the name of a float dtype or none, got 'bf17'"),
        ("adamw", {"mask": True}, "must be one of: b1"),
        ("muon", {"ns_steps": 5.5}, "must be an integer, got 5.5"),
        ("muon", {"preconditioning": "magic"}, "must be one of frobenius, spectral, aol, schatten"),
        ("muon", {"ns_coeffs": "tanh"}, "must be one of standard, dion, got 'tanh'"),
        ("sign_sgd", {"b1": 0.9}, "must be one of: none; got 'b1'"),
    ],
)
def test_a_wrong_argument_is_named(name, arguments, message):
    with pytest.raises(PGPOValueError, match=message):
        named_optimizer(name, 0.1, arguments)


def test_arguments_reach_optax(params):
    arguments = {"momentum": 0.9, "nesterov": True, "accumulator_dtype": "bfloat16"}
    state = named_optimizer("sgd", 1, arguments).init(params)
    assert {x.dtype.name for x in jax.tree.leaves(optax.tree.get(state, "trace"))} == {"bfloat16"}
    named_optimizer("muon", 0.1, {"ns_coeffs": "dion", "consistent_rms": 0.2, "beta": 1})
    named_optimizer("adafactor", 0.1, {"clipping_threshold": None, "decay_offset": 3})
    assert {"b1", "mu_dtype"} < set(settable(optax.adamw))
    assert not {"mask", "learning_rate"} & set(settable(optax.adamw))


def test_a_rate_that_an_optimizer_cannot_follow_is_refused():
    rise = optax.linear_schedule(0.0, 1.0, 10)
    for name in ("rprop", "sm3"):
        with pytest.raises(PGPOValueError, match="needs a constant learning rate"):
            named_optimizer(name, rise)
    for name in ("prodigy", "dadapt_adamw"):
        with pytest.raises(PGPOValueError, match=f"'{name}' divides by the learning rate"):
            named_optimizer(name, rise)
        named_optimizer(name, optax.cosine_decay_schedule(1.0, 10))
    named_optimizer("prodigy", rise, {"safeguard_warmup": True})
    with pytest.raises(PGPOValueError, match="would not follow the schedule"):
        named_optimizer("muon", rise, {"adam_learning_rate": 0.1})
    named_optimizer("muon", 0.1, {"adam_learning_rate": 0.1})


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adamw"])
def test_optax_gives_nan_under_a_warm_up_from_zero(name):
    """The reason for the rule above; should it fail, optax was mended and the rule can go."""

    def after(first_rate):
        optimizer = OPTIMIZERS[name](optax.linear_schedule(first_rate, 1.0, 10))
        return trained(optax.with_extra_args_support(optimizer), jnp.ones(2), steps=2)[0]

    assert np.isnan(after(0.0)).all()
    assert np.isfinite(after(0.1)).all()


def test_arguments_are_read_from_text():
    text = "momentum=0.9 nesterov=true ns_steps=5 mu_dtype=none preconditioning=aol eps=1e-3"
    wanted = {
        "momentum": 0.9,
        "nesterov": True,
        "ns_steps": 5,
        "mu_dtype": None,
        "preconditioning": "aol",
        "eps": 1e-3,
    }
    for pairs in (text, [text], text.split()):
        got = parse_arguments(pairs)
        assert got == wanted
        assert list(map(type, got.values())) == list(map(type, wanted.values()))
    assert parse_arguments([]) == {}


@pytest.mark.parametrize("pairs", [["b1"], ["=0.9"], ["b1="], ["b1", "=", "0.9"]])
def test_a_pair_without_key_or_value_is_refused(pairs):
    with pytest.raises(PGPOValueError, match="must be written KEY=VALUE"):
        parse_arguments(pairs)


def test_an_argument_given_twice_is_refused():
    with pytest.raises(PGPOValueError, match="'b1' must be given once"):
        parse_arguments(["b1=0.9", "b2=0.99", "b1=0.8"])


def transparent(optimizer):
    return {
        "itself": optimizer,
        "chain": optax.chain(optax.clip_by_global_norm(1.0), optimizer),
        "apply_if_finite": optax.apply_if_finite(optimizer, 3),
        "inject_hyperparams": optax.chain(
            optax.inject_hyperparams(optax.sgd)(0.1),
            optax.inject_hyperparams(pgpo.scale_by_information)(alpha=1.0),
        ),
        "MultiSteps": optax.MultiSteps(optimizer, 2).gradient_transformation(),
        "to a target": optax.chain(optax.sgd(0.1), pgpo.scale_by_information_to_target(1.5)),
    }


@pytest.mark.parametrize("wrapper", transparent(optax.identity()))
def test_information_passes_through_what_optax_wraps_around(wrapper, params):
    optimizer = transparent(pgpo.pgpo(optax.contrib.muon(0.1, **MUON)))[wrapper]
    assert check_takes_information(optimizer, params)
    shape_only = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert check_takes_information(optimizer, shape_only)


def test_optax_types_multi_steps_as_taking_no_extra_arguments(params):
    """Why `with_extra_arguments` treats it apart; inside a chain nothing can be done for it."""
    steps = optax.MultiSteps(pgpo.pgpo(optax.sgd(0.1)), 2)
    assert check_takes_information(steps, params)
    transform = steps.gradient_transformation()
    assert not isinstance(transform, optax.GradientTransformationExtraArgs)
    with pytest.raises(PGPOTypeError, match="`information` does not reach it"):
        check_takes_information(optax.chain(optax.clip(1.0), transform), params)


def test_an_optimizer_without_a_multiplier_is_allowed(params):
    init, update = optax.sgd(0.1)
    plain = optax.GradientTransformation(init, lambda g, s, p=None: update(g, s, p))
    assert check_takes_information(plain, params) is False


def dropping(optimizer):
    """A wrapper written before extra arguments existed."""
    return optax.GradientTransformation(
        optimizer.init, lambda g, state, params=None: optimizer.update(g, state, params)
    )


def test_a_wrapper_that_drops_information_is_refused(params):
    inner = pgpo.pgpo(optax.sgd(0.1))
    with pytest.raises(PGPOTypeError, match=r"`information` does not reach it.*dropping.*outside"):
        check_takes_information(dropping(inner), params)
    with pytest.raises(PGPOTypeError, match="`information` does not reach it"):
        check_takes_information(optax.chain(optax.clip(1.0), dropping(inner)), params)
    assert check_takes_information(pgpo.pgpo(dropping(optax.sgd(0.1))), params)


def with_update(update, init=lambda params: ()):
    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (3, PGPOTypeError, "must be an optax.GradientTransformation, got 3"),
        (
            with_update(lambda g, s, p, **_: (g, s), init=lambda params, key: ()),
            PGPOTypeError,
            "init must take the parameters alone",
        ),
        (
            with_update(lambda g, s, p: (g, s)),
            PGPOTypeError,
            "must ignore extra arguments.*unexpected keyword",
        ),
        (optax.lbfgs(0.1), PGPOTypeError, "it failed.*value_fn"),
        (
            with_update(lambda g, s, p, **_: (jax.tree.leaves(g), s)),
            PGPOValueError,
            "updates must have the structure of the parameters",
        ),
        (
            with_update(lambda g, s, p, **_: (optax.tree.cast(g, jnp.bfloat16), s)),
            PGPOValueError,
            r"embedding.*must have the shape and dtype.*float32, got .* bfloat16",
        ),
        (
            with_update(lambda g, s, p, **_: (jax.tree.map(lambda x: x[:1], g), s)),
            PGPOValueError,
            r"must have the shape and dtype of the parameters, \(32, 16\).*got \(1, 16\)",
        ),
        (
            with_update(lambda g, s, p, **_: (g, (jnp.zeros(()),))),
            PGPOValueError,
            "new state must have the structure of the state before",
        ),
    ],
)
def test_an_optimizer_that_the_step_could_not_run_is_refused(optimizer, error, message, params):
    with pytest.raises(error, match=f"(?s){message}"):
        check_takes_information(optimizer, params)


@pytest.mark.parametrize("trained_part", ["params", "factors"])
@pytest.mark.parametrize("wrapper", ["itself", "chain", "apply_if_finite", "MultiSteps"])
def test_a_muon_without_dimension_numbers_is_refused(trained_part, wrapper, request):
    tree = request.getfixturevalue(trained_part)
    good = transparent(pgpo.pgpo(optax.contrib.muon(2e-4, **MUON)))[wrapper]
    bad = transparent(pgpo.pgpo(optax.contrib.muon(2e-4)))[wrapper]
    check_orthogonalises(good, tree)
    check_orthogonalises(optax.adamw(1e-3), tree)
    with pytest.raises(PGPOValueError, match=r"muon_weight_dimension_numbers=pgpo_jax\.models"):
        check_orthogonalises(bad, tree)


def test_muon_of_matrices_that_are_not_stacked_needs_no_numbers():
    matrices = {"q_proj": jnp.ones((4, 3)), "scale": jnp.ones(3)}
    assert not muon_without_kernels(optax.contrib.muon(0.1).init(matrices), matrices)
    foreign = {"mine": jnp.ones((2, 4, 3)), "table": jnp.ones((4, 3))}
    assert muon_without_kernels(optax.contrib.muon(0.1).init(foreign), foreign)
    assert set(LORA_TARGETS).isdisjoint(foreign)


def test_no_optimizer_holds_the_arrays_that_the_step_donates(params):
    """Prodigy keeps the first parameters; given away twice, XLA would refuse them."""
    optimizer = named_optimizer("prodigy", 1.0)
    raw = optimizer.init(params)
    assert any(a is b for a in jax.tree.leaves(raw) for b in jax.tree.leaves(params))
    state = init_state(params, optimizer, TeacherConfig(kind="live"))
    held = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state) if x.size]
    assert len(held) == len(set(held))


@pytest.mark.parametrize("module", [_named_optimizers, _optimizer_arguments])
def test_the_examples_in_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert (result.attempted > 0, result.failed) == (True, 0)
