"""What the multiplier is given: in the optimizer's state, in the step, in a configuration."""

import dataclasses
import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pgpo_jax as pgpo
from experiments.sweeps import (
    ControlConfig,
    ControlledConfig,
    ControlledSDPO,
    _controlled_objective,
    _replay,
    changed,
    controlled,
)
from pgpo_jax.training import (
    GRPO,
    SDPO,
    InformationConfig,
    LossConfig,
    RolloutConfig,
    TrainConfig,
    from_json,
    make_train_step,
    with_published,
)
from tests.training.conftest import (
    BagOfWords,
    config_state,
    fresh,
    random_experience,
    small_config as plain_config,
    small_model as small_model,
)

MULTIPLIED = optax.chain(optax.sgd(1.0), pgpo.scale_by_information(2.0, rho_max=100.0))


@pytest.fixture
def small_config():
    return ControlledConfig.of(plain_config.__wrapped__())


@pytest.mark.parametrize("module", [_replay, _controlled_objective])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def given(optimizer, measured):
    """What the multiplier gets at each step, and the updates."""
    params = jnp.ones(3)
    state, signals, updates = optimizer.init(params), [], []
    for information in measured:
        update, state = optimizer.update(jnp.ones(3), state, params, information=information)
        signals.append(float(state.inner[-1].information))
        updates.append(np.asarray(update))
    return signals, updates


def test_what_the_multiplier_is_given():
    measured = (0.1, -0.2, float("nan"))
    signals, updates = given(controlled(MULTIPLIED, steps=3), measured)
    np.testing.assert_allclose(signals, np.float32(measured))
    np.testing.assert_allclose(updates[0], -np.exp(0.2), rtol=1e-6)
    signals, _ = given(controlled(MULTIPLIED, steps=3, flip=True), measured)
    np.testing.assert_allclose(signals, -np.float32(measured))
    # A replayed value stands where the information is not finite, too.
    signals, updates = given(controlled(MULTIPLIED, replay=(0.3, 0.1, 0.2), steps=3), measured)
    assert signals == [np.float32(x) for x in (0.3, 0.1, 0.2)]
    np.testing.assert_allclose([u[0] for u in updates], -np.exp([0.6, 0.2, 0.4]), rtol=1e-6)


def test_past_its_end_a_replay_has_no_value():
    signals, updates = given(controlled(MULTIPLIED, replay=(0.3,), steps=1), (0.1, 0.1))
    assert np.isnan(signals[1])
    # As of any signal that is not finite: rho is 1.
    np.testing.assert_array_equal(updates[1], -1.0)


def test_controls_of_one_optimizer_are_one_function_and_one_shape():
    arms = [
        controlled(MULTIPLIED, steps=3, **change)
        for change in ({}, {"flip": True}, {"replay": (1.0, 2.0, 3.0)}, {"replay": (1.0,) * 9})
    ]
    assert len({arm.update for arm in arms}) == 1
    states = [jax.eval_shape(arm.init, jnp.ones(3)) for arm in arms]
    assert all(state == states[0] for state in states)
    other = optax.chain(optax.sgd(2.0), pgpo.scale_by_information(2.0))
    assert controlled(other, steps=3).update is not arms[0].update
    # A block has room for the run to be continued.
    longer = jax.eval_shape(controlled(MULTIPLIED, steps=1024).init, jnp.ones(3))
    assert longer == states[0]
    assert jax.eval_shape(controlled(MULTIPLIED, steps=1025).init, jnp.ones(3)) != states[0]


def test_a_replay_that_is_too_short_or_flipped_is_refused():
    with pytest.raises(ValueError, match=r"a value for each step, that is 3 values, got 2"):
        controlled(MULTIPLIED, replay=(0.1, 0.2), steps=3)
    with pytest.raises(ValueError, match=r"flip must be False with a replay"):
        controlled(MULTIPLIED, replay=(0.1,), flip=True)


def step_of(model, config):
    objective, optimizer = config.make_objective(), config.make_optimizer()
    return make_train_step(model[0], optimizer, objective.program(), sequences=config.rollout.rows)


def unchanged(before, after):
    return all(map(np.array_equal, jax.tree.leaves(before), jax.tree.leaves(after)))


def test_controls_change_what_the_multiplier_is_given_and_nothing_else(small_config):
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    batch = jax.tree.map(jnp.asarray, random_experience())
    small_config = changed(small_config, steps=2)
    step = step_of(model, small_config)

    def run(**control):
        config = changed(small_config, control=control)
        state = config_state(fresh(model[1]), config)
        # The second step's: the first value must not be the only one that is read.
        state = state._replace(opt_state=state.opt_state._replace(step=jnp.int32(1)))
        return step(state, batch)[:2]

    real, measured = run()
    information = float(measured["pgpo/information"])
    assert abs(information) > 1e-4
    for control, signal in (
        ({"flip": True}, -information),
        ({"replay": (0.5, 0.02)}, 0.02),
        ({"replay": (0.5, information)}, information),
    ):
        state, metrics = run(**control)
        assert metrics["pgpo/information"] == measured["pgpo/information"]
        np.testing.assert_allclose(metrics["pgpo/signal"], signal, rtol=1e-6)
        np.testing.assert_allclose(
            metrics["pgpo/rho"], pgpo.multiplier(signal, small_config.alpha), rtol=1e-5
        )
        # Only the replay of the measured value moves the weights as the measured value does.
        assert unchanged(real.params, state.params) is (signal == information)
    assert step._cache_size() == 1


@pytest.mark.slow
def test_half_of_the_batch_and_the_signal_of_the_other(small_model, small_config):
    batch = random_experience(kept=8)
    even = np.arange(8) // 2 % 2 == 0
    half = changed(small_config, control={"half": "same"})
    steps = {config: step_of(small_model, config) for config in (small_config, half)}

    def run(config, trained, signal):
        rows = batch._replace(sequence_mask=trained, signal_mask=signal)
        state = config_state(fresh(small_model[1]), config)
        return steps[config](state, jax.tree.map(jnp.asarray, rows))[1]

    same, other = run(half, even, even), run(half, even, ~even)
    for name in ("loss", "optimizer/grad_norm"):
        assert same[name] == other[name]
    odd = run(small_config, ~even, ~even)
    np.testing.assert_allclose(other["pgpo/information"], odd["pgpo/information"], atol=1e-6)
    assert abs(other["pgpo/information"] - same["pgpo/information"]) > 1e-4
    # The denominator is the half's: twice the loss of these rows as a part of the whole batch.
    part = run(small_config, even, even)
    np.testing.assert_allclose(same["loss"], 2 * part["loss"], rtol=2e-5)


def test_half_of_the_questions_are_those_of_even_number():
    batch = random_experience()
    for questions, half in ((4, 2), (5, 3)):
        rows = 2 * questions
        objective = ControlledSDPO(samples=2, half="other")
        assert objective.denominators(batch, rows) == {"num_sequences": 2 * half}
        assert ControlledSDPO(samples=2).denominators(batch, rows) == {"num_sequences": rows}
        # By token the tokens of the half are counted as they are.
        by_token = LossConfig(reduction="token_mean")
        whole, part = (
            ControlledSDPO(loss=by_token, samples=2, half=name).denominators(batch, rows)
            for name in ("none", "same")
        )
        assert whole.keys() == part.keys() == {"num_tokens"}
        assert whole["num_tokens"] == part["num_tokens"]


def test_controls_share_a_program_but_for_the_denominator_of_half_a_batch():
    def program(**control):
        config = changed(ControlledConfig(steps=2), control=control)
        return config.make_objective().program(), config.make_optimizer().update

    plain = program()
    assert plain[0] == TrainConfig().make_objective()
    for control in (
        {"replay": (0.1, 0.2)},
        {"flip": True},
        {"rows": "failures"},
        {"misleading": 0.5},
    ):
        assert program(**control) == plain
    half = program(half="same")
    assert half != plain
    assert half[1] is plain[1]
    assert program(half="other", rows="failures", misleading=0.5, flip=True) == half


def test_a_configuration_without_controls_is_that_of_the_trainer():
    config = ControlledConfig.of(TrainConfig(seed=3))
    assert {k: v for k, v in config.to_json().items() if k != "control"} == (
        TrainConfig(seed=3).to_json()
    )
    replayed = changed(config, steps=2, control={"replay": (0.25, 0.5), "half": "other"})
    assert from_json(ControlledConfig(), replayed.to_json()) == replayed
    with pytest.raises(ValueError, match="no field control"):
        from_json(TrainConfig(), replayed.to_json())


def test_an_objective_without_a_teacher_has_no_controls():
    config = ControlledConfig(objective="grpo")
    assert isinstance(config.make_objective(), GRPO)
    assert not isinstance(config.make_objective(), SDPO)


def test_an_objective_that_inherits_from_sdpo_stays_what_it_is():
    plain = with_published(TrainConfig(), "srpo")
    assert ControlledConfig.of(plain).make_objective() == plain.make_objective()
    # Negative control: SDPO itself gets its controls.
    assert isinstance(ControlledConfig().make_objective(), ControlledSDPO)


def with_control(**changes):
    fields = {field.name for field in dataclasses.fields(ControlConfig)}
    control = {name: changes.pop(name) for name in list(changes) if name in fields}
    return ControlledConfig(control=ControlConfig(**control), **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ControlConfig(misleading=1.5), r"misleading must be in \[0, 1\], got 1.5"),
        (
            lambda: ControlConfig(misleading=float("nan")),
            r"misleading must be in \[0, 1\], got nan",
        ),
        (lambda: ControlConfig(replay=(0.1, float("nan"))), r"replay must be finite, got .*nan"),
        (lambda: ControlConfig(replay=(0.1,), flip=True), r"flip must be False with a replay"),
        (lambda: ControlConfig(half="odd"), r"half must be one of \('none', .*, got 'odd'"),
        (lambda: ControlConfig(rows="some"), r"rows must be one of \('all', .*, got 'some'"),
        (
            lambda: with_control(steps=3, replay=(0.1, 0.2)),
            r"replay must hold a value for each step, that is 3 values, got 2",
        ),
        (
            lambda: with_control(information=InformationConfig(alpha=0.0), flip=True),
            r"information.alpha must be positive with .*flip.* got 0.0",
        ),
        (
            lambda: with_control(rollout=RolloutConfig(questions=1), half="same"),
            r"questions must be at least 2 with control.half, got 1",
        ),
        (
            lambda: with_control(
                information=InformationConfig(estimator="outcome_contrast"), rows="failures"
            ),
            r"rows must be 'all' with estimator 'outcome_contrast'.*, got 'failures'",
        ),
        (
            lambda: with_control(objective="grpo", misleading=0.5),
            r"objective must be 'sdpo' with control.half, rows or misleading.*, got 'grpo'",
        ),
        (
            lambda: with_control(objective="grpo", rows="failures"),
            r"objective must be 'sdpo' with control.half, rows or misleading.*, got 'grpo'",
        ),
        (
            lambda: with_control(objective="grpo", steps=1, replay=(0.1,)),
            r"objective must not be 'grpo' with control.replay or flip.*, got 'grpo'",
        ),
        (
            lambda: with_control(
                information=InformationConfig(estimator="kl", target_rho=1.5), flip=True
            ),
            r"flip must be False with target_rho and estimator 'kl'.*, got True",
        ),
        *(
            (
                lambda control=control: with_control(
                    loss=LossConfig(modulation="token"), steps=1, **control
                ),
                rf"control.{next(iter(control))} must be .* with loss.modulation",
            )
            for control in (
                {"replay": (0.1,)},
                {"flip": True},
                {"half": "same"},
                {"rows": "failures"},
            )
        ),
    ],
)
def test_bad_settings_name_rule_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()
