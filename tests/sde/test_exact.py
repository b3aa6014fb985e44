"""The exact engines: known values, two engines against each other, and refusals."""

import dataclasses
import itertools
import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import sde
from sde.exact import _process, as_observable, half_order, rational_moments
from sde.exact._grids import Chebyshev, Fine, Pieces
from sde.exact._layout import Layout
from sde.exact._lifted import lifted_values
from sde.exact._process import Process

MOMENTS = ("mean", "m2", "m3", "m4")
QUADRATIC = sde.PROBLEMS["quadratic"]

# E theta, E theta^2, E theta^3, E theta^4 at T = 1, |B| = 1, derived independently of this code.
KNOWN = [
    ("sgd", None, 1 / 8, (0.366723954757, 0.250302484270, 0.181036956011, 0.154657730899)),
    ("sgd", None, 1 / 32, (0.401102793105, 0.187380023707, 0.096682275472, 0.053956634896)),
    ("sgd", "eq7", 1 / 8, (0.411919815212, 0.274154038134, 0.214586125490, 0.198039096102)),
    ("sgd", "eq7", 1 / 32, (0.411919815212, 0.195525988582, 0.102781120176, 0.058733704092)),
    (
        "sgd",
        "second_order",
        1 / 8,
        (0.371269065572, 0.232858483176, 0.170206630499, 0.147801453600),
    ),
    (
        "sgd",
        "thm2i_literal",
        1 / 8,
        (0.411919815212, 1.093750281089, 2.549053307872, 9.744325138636),
    ),
    (
        "pgpo_population",
        None,
        1 / 8,
        (0.392266371157, 0.265562101965, 0.195583278511, 0.166991724699),
    ),
    (
        "pgpo_population",
        "thm2ii",
        1 / 8,
        (0.435935516930, 0.300262813910, 0.244101537678, 0.233153368343),
    ),
]


def process(problem, chain, equation, eta, **kwargs):
    equation = None if equation is None else sde.as_equation(equation)
    return Process(sde.as_problem(problem), sde.as_chain(chain), equation, eta, **kwargs)


@pytest.mark.parametrize(("chain", "equation", "eta", "expected"), KNOWN)
def test_known_moments(chain, equation, eta, expected):
    for name, value in zip(MOMENTS, expected, strict=True):
        got = sde.exact_expectation(
            QUADRATIC,
            equation or chain,
            name,
            eta=eta,
            chain=chain if equation else None,
        )
        assert abs(got - value) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chain", "equation", "eta", "expected"), [row for row in KNOWN if row[1] != "thm2i_literal"]
)
def test_known_moments_by_the_spectral_engine(chain, equation, eta, expected):
    observables = tuple(as_observable(name) for name in MOMENTS)
    who = process("quadratic", chain, equation, eta)
    got = lifted_values(who, Layout(1, None, 0), observables, round(1 / eta), 4)[-1]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("equation", "eta"), [("thm2i_literal", 1.0), ("eq7", 1 / 8)])
def test_known_moments_by_integrating_their_differential_equations(equation, eta):
    # The noise of the theorem as printed has tails too heavy for a grid: its moments obey
    # m_p' = p E[b x^(p-1)] + p(p-1)/2 E[a x^(p-2)], here from the a_n and c_n alone.
    a, c = np.asarray(QUADRATIC.curvatures), np.asarray(QUADRATIC.centres)
    constant, linear, square = (
        eta * np.cov([-a * c, a], bias=True)[i] for i in ((0, 0), (0, 1), (1, 1))
    )

    def rate(_, m):
        m = np.concatenate([[0.0, 1.0], m])
        return [
            p * (np.mean(a * c) * m[p] - np.mean(a) * m[p + 1])
            + p * (p - 1) / 2 * (constant * m[p - 1] + 2 * linear * m[p] + square * m[p + 1])
            for p in range(1, 5)
        ]

    start = [QUADRATIC.theta0[0] ** p for p in range(1, 5)]
    got = scipy.integrate.solve_ivp(
        rate, (0.0, 1.0), start, method="DOP853", rtol=1e-13, atol=1e-13
    ).y[:, -1]
    (expected,) = (row[3] for row in KNOWN if row[1] == equation and row[2] == 1 / 8)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


def test_ornstein_uhlenbeck():
    # a = 1, sigma = 0.8: two examples with gradients theta +- 0.8.
    problem = dataclasses.replace(
        QUADRATIC, curvatures=(1.0, 1.0), centres=(0.8, -0.8), information_values=(0.0, 0.0)
    )
    for who, eta, mean, variance in (
        ("sgd", 1 / 8, 0.515413373709, 0.037629137620),
        ("eq7", 1 / 8, 0.551819161757, 0.034586588671),
        ("second_order", 1 / 8, 0.518386128865, 0.033150758842),
        ("sgd", 1 / 32, 0.543082933884, 0.008827082845),
        ("eq7", 1 / 32, 0.551819161757, 0.008646647168),
        ("second_order", 1 / 32, 0.543263998621, 0.008554619527),
    ):
        chain = None if who == "sgd" else "sgd"
        m1, m2 = (
            sde.exact_expectation(problem, who, name, eta=eta, chain=chain)
            for name in ("mean", "m2")
        )
        assert abs(m1 - mean) < 1e-11
        assert abs(m2 - m1**2 - variance) < 1e-11


def test_rational_arithmetic_and_floats_agree():
    moments = rational_moments(QUADRATIC, eta=Fraction(1, 8), steps=8, degree=4)
    assert moments[1] == Fraction(3225738019513, 8796093022208)
    assert moments[2] == Fraction(37824641993517449859835, 151115727451828646838272)
    for degree, name in enumerate(MOMENTS, start=1):
        got = sde.exact_expectation(QUADRATIC, "sgd", name, eta=1 / 8)
        assert abs(got - float(moments[degree])) < 1e-14
    without = rational_moments(QUADRATIC, eta=1 / 16, steps=16, batch_size=2, replace=False)
    got = sde.exact_expectation(QUADRATIC, "sgd", "m2", eta=1 / 16, batch_size=2, replace=False)
    assert abs(got - float(without[2])) < 1e-14


@pytest.mark.parametrize(
    ("chain", "equation"),
    [("sgd", None), ("pgpo_minibatch", None), ("sgd", "eq7"), ("pgpo_minibatch", "second_order")],
)
def test_moments_and_spectral_engines_agree(chain, equation):
    observables = tuple(as_observable(name) for name in ("mean", "m2", "m3"))
    who = process("quadratic", chain, equation, 1 / 16, batch_size=2)
    closed = lifted_values(who, Layout(1, 0, None), observables, 16, 0)
    grid = lifted_values(who, Layout(1, None, 0), observables, 16, 5)
    np.testing.assert_allclose(closed, grid, atol=1e-10)


def test_linear_noise_of_small_steps():
    # Var / eta of chain and consistent equation meet; the unchanged diffusion misses it.
    ratios = {}
    for equation in ("consistent", "thm2ii"):
        errors = sde.weak_errors(
            "student_teacher",
            "pgpo_population",
            equation,
            etas=[1 / 128],
            observables=("mean", "m2"),
        )
        mean, second = errors.equation[0]
        chain_mean, chain_second = errors.chain[0]
        ratios[equation] = (second - mean**2) / (chain_second - chain_mean**2)
    assert abs(ratios["consistent"] - 1.0) < 0.01
    assert abs(ratios["thm2ii"] - 0.509) < 0.01


def slopes(problem, chain, equation, etas=(1 / 32, 1 / 128), names=("mean", "m2"), **kw):
    errors = sde.weak_errors(problem, chain, equation, etas=etas, observables=names, **kw)
    share = errors.discretisation / np.maximum(errors.largest, 1e-10)
    assert np.max(share) < 0.06
    return np.polyfit(np.log2(etas), np.log2(errors.largest), 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chain", "equation", "order"),
    [
        ("sgd", "eq7", 1),
        ("pgpo_minibatch", "thm2ii", 0),
        ("pgpo_minibatch", "jensen", 0),
        ("pgpo_minibatch", "corrected", 1),
        ("pgpo_minibatch", "second_order", 2),
        pytest.param(
            "pgpo_minibatch", "second_order_unchanged_diffusion", 1, marks=pytest.mark.slow
        ),
        ("pgpo_population", "thm2ii", 1),
    ],
)
def test_orders_of_the_double_well(chain, equation, order):
    got = slopes("double_well", chain, equation, names=("mean", "m2", "cos3x"))
    np.testing.assert_allclose(got, order, atol=0.12)


def test_literal_theorem_fails_and_the_mean_alone_would_not_tell():
    blind, seeing = slopes("quadratic", "sgd", "thm2i_literal")
    assert abs(blind - 1.0) < 0.05
    assert abs(seeing) < 0.05


@pytest.mark.slow
def test_order_two_in_two_dimensions_needs_the_right_correction():
    etas = (1 / 8, 1 / 16)
    names = ("mean",)
    right = slopes("torus", "pgpo_population", "second_order", etas, names)
    wrong = slopes("torus", "pgpo_population", "second_order_gradient_form", etas, names)
    np.testing.assert_allclose(right, 2.0, atol=0.1)
    assert np.all(wrong < 1.6)


@pytest.mark.parametrize(("lagged", "floor"), [(True, 0.0259), (False, -0.0892)])
def test_fixed_running_mean_needs_the_averaged_drift(lagged, floor):
    chain = dataclasses.replace(sde.CHAINS["pgpo_ema"], lagged=lagged)
    assert abs(sde.ode_floor("quadratic", chain, "thm2ii", "mean") - floor) < 1e-4
    assert np.all(np.abs(slopes("quadratic", chain, "thm2ii")) < 0.4)
    np.testing.assert_allclose(slopes("quadratic", chain, "averaged"), 1.0, atol=0.1)


@pytest.mark.parametrize(("lagged", "flat", "floor"), [(True, 0.03, 0.0265), (False, 0.02, 0.0892)])
def test_the_slope_against_the_paper_under_a_running_mean_is_zero_on_fine_steps(
    lagged, flat, floor
):
    # On 2^-5..2^-9 it is still 0.15 and -0.05: the error of order 1 is half the floor there.
    chain = dataclasses.replace(sde.CHAINS["pgpo_ema"], lagged=lagged)
    etas = [2.0**-k for k in (8, 10, 12)]
    errors = sde.weak_errors("quadratic", chain, "thm2ii", etas=etas, observables=("mean",))
    assert abs(np.polyfit(np.log2(etas), np.log2(errors.largest[:, 0]), 1)[0]) < flat
    assert abs(errors.largest[-1, 0] - floor) < 2e-4


@pytest.mark.slow
def test_slow_running_mean_needs_the_augmented_state():
    chain = dataclasses.replace(
        sde.CHAINS["pgpo_ema"], beta=None, rate=2.0, lagged=False, initial_information=0.3
    )
    assert np.all(np.abs(slopes("quadratic", chain, "thm2ii")) < 0.4)
    np.testing.assert_allclose(slopes("quadratic", chain, "augmented"), 1.0, atol=0.15)


def test_delayed_signal_has_order_one():
    np.testing.assert_allclose(slopes("quadratic", "pgpo_delayed", "averaged"), 1.0, atol=0.12)
    assert np.all(np.abs(slopes("quadratic", "pgpo_delayed", "thm2ii")) < 0.2)


@pytest.mark.slow
def test_sliding_along_the_kink_costs_half_an_order_unless_the_diffusion_is_right():
    etas = (1 / 128, 1 / 512)
    consistent = slopes("sliding_kink", "pgpo_population", "consistent", etas)
    unchanged = slopes("sliding_kink", "pgpo_population", "thm2ii", etas)
    np.testing.assert_allclose(consistent, 1.0, atol=0.08)
    np.testing.assert_allclose(unchanged, 0.5, atol=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("equation", ["ode", pytest.param("thm2ii", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 2.0},
        pytest.param({"alpha": 1.0, "curvatures": (0.5,) * 4}, marks=pytest.mark.slow),
        pytest.param(
            {
                "alpha": 1.0,
                "curvatures": (0.5, 1.0, 0.5, 1.0),
                "tilts": (1.0, -1.0, 1.0, -1.0),
                "noise": (1.0, 1.0, -1.0, -1.0),
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_half_order_has_the_size_that_theory_predicts_whatever_the_parameters(change, equation):
    # At the kink y is Ornstein-Uhlenbeck and E rho = rho_max (1 - alpha sd(y) / sqrt(2 pi)):
    # the two sides differ in sd(y), of order sqrt(eta), and x feels it through its drift.
    problem = dataclasses.replace(sde.PROBLEMS["sliding_kink"], **change)
    etas = [2.0**-k for k in (7, 8, 9)]
    errors = sde.weak_errors(
        problem, "pgpo_population", equation, etas=etas, observables=("mean",)
    ).terminal[:, 0]
    measured = np.linalg.solve(np.power.outer(etas, [0.5, 1.0, 1.5]), errors)[0]

    cap, curvature = problem.rho_max, np.mean(problem.curvatures)
    kick = np.mean(np.square(problem.noise))
    own, other = np.sqrt(cap * kick / 2), np.sqrt(kick / (2 * cap)) if equation == "thm2ii" else 0.0
    spread, _ = scipy.integrate.quad(lambda t: np.sqrt(1 - np.exp(-2 * cap * t)), 0.0, 1.0)
    speed = cap * curvature * problem.alpha * (other - own) * spread / np.sqrt(2 * np.pi)
    predicted = problem.theta0[0] * np.exp(-cap * curvature) * speed
    assert abs(measured / predicted - 1) < 0.03
    assert abs(half_order(problem, equation) / predicted - 1) < 1e-9
    assert half_order(problem, "consistent") == 0.0


@pytest.mark.slow
def test_a_kink_that_is_crossed_costs_nothing():
    problem = dataclasses.replace(sde.PROBLEMS["double_well"], rho_max=1.04, transversal=True)
    etas = (1 / 64, 1 / 128)
    got = slopes(problem, "pgpo_population", "thm2ii", etas)
    np.testing.assert_allclose(got, 1.0, atol=0.15)
    got = slopes(problem, "pgpo_population", "second_order", (1 / 16, 1 / 64))
    np.testing.assert_allclose(got, 2.0, atol=0.1)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("quadratic", 0.16244),
        ("double_well", 0.10096),
        ("logistic", -0.04558),
        ("student_teacher", 0.20454),
    ],
)
def test_floors_of_the_same_minibatch(name, floor):
    # The known numbers are chain minus equation, ours equation minus chain.
    got = sde.ode_floor(name, "pgpo_minibatch", "thm2ii", "mean")
    assert abs(got + floor) < 2e-5
    assert abs(sde.ode_floor(name, "pgpo_minibatch", "corrected", "mean")) < 1e-9


def test_floor_falls_with_the_batch_and_vanishes_for_the_full_one():
    floors = [
        sde.ode_floor("student_teacher", "pgpo_minibatch", "thm2ii", "mean", batch_size=size)
        for size in (2, 6)
    ]
    slope = np.polyfit(np.log([2, 6]), np.log(np.abs(floors)), 1)[0]
    assert abs(slope + 1.0) < 0.08
    full = sde.ode_floor(
        "student_teacher", "pgpo_minibatch", "thm2ii", "mean", batch_size=5, replace=False
    )
    assert abs(full) < 1e-9


def test_leading_constant_of_talay_and_tubaro():
    errors = sde.weak_errors("quadratic", "sgd", "eq7", etas=[1 / 1024], observables=("mean",))
    predicted = 0.5 * 1.25**2 * 1.525 * math.exp(-1.25)
    assert abs(errors.terminal[0, 0] * 1024 / predicted - 1) < 0.002


@pytest.mark.parametrize("grid", [Chebyshev(-1.0, 2.0, 30), Fine(-1.0, 2.0, 4000)])
def test_interpolation(grid):
    points = np.linspace(-0.99, 1.99, 57)
    matrix = grid.interpolate(points)
    np.testing.assert_allclose(matrix @ np.sin(2 * grid.nodes), np.sin(2 * points), atol=1e-9)


def test_pieces_differentiate_across_a_kink_of_the_second_derivative():
    grid = Pieces([-1.0, 0.25, 1.0], 24, 0.2)

    def function(x):
        return np.where(x > 0.25, (x - 0.25) ** 2, 0.0) + np.sin(x)

    slope = np.where(grid.nodes > 0.25, 2 * (grid.nodes - 0.25), 0.0) + np.cos(grid.nodes)
    np.testing.assert_allclose(grid.first @ function(grid.nodes), slope, atol=1e-9)
    one_piece = Chebyshev(-1.0, 1.0, 48)
    smooth_error = one_piece.first @ function(one_piece.nodes) - (
        np.where(one_piece.nodes > 0.25, 2 * (one_piece.nodes - 0.25), 0.0)
        + np.cos(one_piece.nodes)
    )
    assert np.max(np.abs(smooth_error)) > 1e-3, "without the joint the kink is not resolved"


def test_one_dimension_and_chains_with_large_batches():
    value, error = sde.exact_value("logistic", "pgpo_minibatch", "mean", eta=1 / 8, batch_size=8)
    assert error < 1e-9
    assert -1 < value < 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"problem": "resnet"}, "student_teacher"),
        ({"process": "adam"}, "pgpo_minibatch"),
        ({"observable": "median"}, "cos3x"),
        ({"eta": 0.3}, "divide"),
        ({"eta": -0.1}, "eta"),
        ({"horizon": 0.0}, "horizon"),
        ({"process": "corrected"}, "pass chain="),
        ({"chain": "sgd"}, "chain itself"),
        ({"batch_size": 9, "replace": False}, "batch_size"),
        (
            {"problem": "sliding_kink", "process": "second_order", "chain": "pgpo_population"},
            "smooth",
        ),
        ({"problem": "sliding_kink", "observable": "cos3x"}, "Monte Carlo"),
        ({"problem": "torus", "observable": lambda theta: jnp.cos(theta[0] / 3)}, "periodic"),
        ({"problem": "double_well", "process": "pgpo_ema"}, "no exact engine"),
    ],
)
def test_bad_questions_are_refused(kwargs, message):
    question = {"problem": "quadratic", "process": "sgd", "observable": "mean", "eta": 1 / 8}
    question |= kwargs
    positional = [question.pop(k) for k in ("problem", "process", "observable")]
    with pytest.raises(ValueError, match=message):
        sde.exact_expectation(*positional, **question)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waves(sde.Problem):
    """Gradients that are affine at the whole numbers and nowhere else."""

    theta0: tuple[float, ...] = (0.3,)

    def losses(self, theta):
        tilts = jnp.asarray([-0.5, 0.0, 0.5])
        wave = jnp.cos(2 * jnp.pi * theta[0]) / (4 * jnp.pi**2)
        return 0.5 * theta[0] ** 2 + tilts * theta[0] - wave

    def signals(self, theta):
        return jnp.asarray([0.2, 0.0, -0.1]) + 0 * theta[0]


@pytest.mark.parametrize("process", ["sgd", "eq7"])
def test_gradients_that_look_affine_at_whole_numbers_are_not_taken_for_affine(process):
    # By its name "mean" may be a closed moment; the same function without a name never is.
    named = sde.exact_expectation(Waves(), process, "mean", eta=1 / 8)
    plain = sde.exact_expectation(Waves(), process, lambda theta: theta[0], eta=1 / 8)
    assert abs(named - plain) < 1e-8


@pytest.mark.slow
def test_a_domain_that_the_process_leaves_is_refused_and_a_wide_one_changes_nothing():
    well = sde.PROBLEMS["double_well"]
    for process, inside in (("eq7", (-2.0, 2.5)), ("sgd", (-3.0, 3.0))):
        narrow, wide = (dataclasses.replace(well, domain=d) for d in ((0.2, 0.5), inside))
        with pytest.raises(ValueError, match="domain must hold the noise-free path"):
            sde.exact_expectation(narrow, process, "mean", eta=1 / 8)
        found = [sde.exact_expectation(p, process, "mean", eta=1 / 8) for p in (well, wide)]
        assert abs(found[0] - found[1]) < 1e-8
    leaves = dataclasses.replace(well, domain=(-0.2, 30.0))
    with pytest.raises(ValueError, match="cannot leave"):
        sde.exact_expectation(leaves, "sgd", "mean", eta=1 / 128)


def test_the_floor_of_a_diffusion_of_ones_own_is_that_of_the_same_diffusion_in_the_table():
    table = sde.EQUATIONS["thm2i_literal"]
    own = dataclasses.replace(
        sde.EQUATIONS["eq7"], diffusion=lambda *given: table.diffusion(*given)
    )
    floor = sde.ode_floor("quadratic", "sgd", table, "m2")
    assert floor > 0.5
    assert abs(sde.ode_floor("quadratic", "sgd", own, "m2") - floor) < 1e-12


def test_a_block_of_states_is_computed_only_where_it_is_cheap(monkeypatch):
    table = sde.EQUATIONS["eq7"]
    own = dataclasses.replace(table, diffusion=lambda *given: table.diffusion(*given))
    monkeypatch.setattr(_process, "in_blocks", lambda *_: pytest.fail("a block"))
    ones = (1.0,) * 300
    many = sde.problems.Quadratic(curvatures=ones, centres=ones, information_values=ones)
    assert abs(sde.ode_floor(many, "sgd", own, "mean")) < 1e-9
    # The control: four examples are few.
    with pytest.raises(pytest.fail.Exception, match="a block"):
        sde.ode_floor("quadratic", "sgd", own, "mean")


@pytest.mark.slow
def test_answers_below_the_discretisation_error_are_refused():
    with pytest.raises(ValueError, match="discretisation error"):
        sde.exact_expectation("double_well", "thm2i_literal", "cos3x", eta=1 / 8, tolerance=1e-17)


@pytest.mark.parametrize("alpha", [1.0, 30.0])
def test_a_remembered_signal_may_begin_on_the_kink_of_its_multiplier(alpha):
    # With rho_max = 1 the kink is at J = 0, where pgpo_delayed begins.
    problem = dataclasses.replace(QUADRATIC, alpha=alpha, rho_max=1.0)
    eta, ends = 1 / 4, []
    rho = np.minimum(1.0, np.exp(alpha * np.asarray(problem.information_values)))
    for drawn in itertools.product(range(problem.num_examples), repeat=4):
        theta, size = problem.theta0[0], 1.0
        for n in drawn:
            theta -= eta * size * problem.curvatures[n] * (theta - problem.centres[n])
            size = rho[n]
        ends.append(theta)
    for degree, name in ((1, "mean"), (3, "m3")):
        value, error = sde.exact_value(problem, "pgpo_delayed", name, eta=eta)
        assert abs(value - np.mean(np.power(ends, degree))) < 1e-12
        assert error < 1e-12
    plain = sde.exact_expectation(problem, "pgpo_minibatch", "mean", eta=eta)
    assert abs(plain - np.mean(ends)) > 0.01
