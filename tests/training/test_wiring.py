"""Every setting arrives where it acts: away from its default it gives the number it stands for."""

import functools as ft
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pgpo_jax import distillation, information, scale_by_information
from pgpo_jax.tasks import Question
from pgpo_jax.training import (
    EvaluationConfig,
    Policy,
    Responses,
    RolloutConfig,
    Sampler,
    evaluate,
    make_trainer,
)
from tests.training.conftest import (
    BagOfWords,
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)
from tests.training.test_train import SMALL

TEMPERATURE, CLIP = 0.7, 1.3
MULTIPLIER = {"alpha": 2.0, "rho_max": 1.4, "rho_min": 0.9}


@pytest.fixture(scope="module")
def bag():
    return nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)


@pytest.fixture
def batch():
    """Rows of different lengths and grades, one without a signal; prompts of one width."""
    batch = random_experience(rows=6, kept=5, teacher=5)
    # Near what the model says, so that some ratios are cut and others are not.
    logprobs = np.random.default_rng(1).normal(-np.log(32), 0.5, batch.response.shape)
    return batch._replace(sampler_logprobs=logprobs.astype(np.float32))


def step(bag, config, batch, teacher=1.5):
    """The metrics of a step of plain descent whose teacher is a multiple of the student."""
    graphdef, params = bag
    descent = optax.chain(optax.sgd(1.0), scale_by_information(0.0))
    state = config_state(fresh(params), config, descent)
    if state.teacher is not None:
        state = state._replace(teacher=jax.tree.map(lambda p: teacher * p, state.teacher))
    return config_step(graphdef, config, descent)(state, jax.tree.map(jnp.asarray, batch))[1]


def logits(bag, batch, prompt, mask, size=1.0):
    tokens = np.concatenate([prompt, batch.response], 1)
    mask = np.concatenate([mask, batch.response_mask], 1)
    return _logits(*bag, tokens, mask, size)[:, prompt.shape[1] - 1 : -1]


# Jitted, as is `sampled`: op by op, every op is compiled for itself.
@ft.partial(jax.jit, static_argnums=0)
def _logits(graphdef, params, tokens, mask, size):
    model = nnx.merge(graphdef, jax.tree.map(lambda p: size * p, params))
    return model.hidden_states(tokens, mask) @ model.head() / TEMPERATURE


@jax.jit
def sampled(logits, batch):
    return jnp.take_along_axis(jax.nn.log_softmax(logits), batch.response[..., None], -1)[..., 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "modulation", ["none", "token", pytest.param("sequence", marks=pytest.mark.slow)]
)
def test_loss_and_signal(bag, batch, small_config, modulation):
    divergence = {"teacher_weight": 0.3, "support": "topk", "k": 7}
    config = replaced(
        small_config,
        rollout={"temperature": TEMPERATURE},
        loss={
            **divergence,
            "reduction": "sequence_sum",
            "rollout_clip": CLIP,
            "modulation": modulation,
        },
        information={"estimator": "pointwise", "reduction": "token_mean", **MULTIPLIER},
    )
    metrics = step(bag, config, batch)
    student = logits(bag, batch, batch.prompt, batch.prompt_mask)
    teacher = logits(bag, batch, batch.teacher_prompt, batch.teacher_prompt_mask, 1.5)
    mask = jnp.asarray(batch.response_mask)
    gains = sampled(teacher, batch) - sampled(student, batch)
    weights = distillation.modulation_weights(gains, mask, level=modulation, **MULTIPLIER)
    ratio = np.exp(sampled(student, batch) - batch.sampler_logprobs)
    per_token = jax.jit(ft.partial(distillation.divergence, **divergence))(student, teacher)
    loss = distillation.aggregate(
        per_token * weights * np.minimum(ratio, CLIP),
        mask,
        reduction="sequence_sum",
        num_sequences=8,
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    entropy = jax.jit(lambda x: -jnp.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x), -1))
    told = {
        "pgpo/information": gains,
        "self_distillation/divergence": per_token,
        "self_distillation/student_entropy": entropy(student),
        "self_distillation/teacher_entropy": entropy(teacher),
        "self_distillation/teacher_log_ratio": gains,
        "rollout/importance_ratio": ratio,
        **({} if modulation == "none" else {"pgpo/weight": weights}),
    }
    for name, value in told.items():
        mean = np.asarray(value)[mask].mean()
        np.testing.assert_allclose(metrics[name], mean, rtol=2e-5, err_msg=name)
    # The clip and both bounds of the weights are in use.
    assert 0 < (ratio > CLIP)[mask].sum() < mask.sum()
    if modulation == "token":
        assert {0.9, 1.4} < {round(float(weight), 6) for weight in weights[mask]}


@pytest.mark.parametrize(
    "name", ["outcome_contrast", pytest.param("outcome", marks=pytest.mark.slow)]
)
def test_success_of_the_signal_is_that_of_the_settings(bag, batch, small_config, name):
    batch = batch._replace(score=np.array([0.2, 0.6, 0.6, 0.2, 0.9, 0.0], np.float32))
    config = replaced(
        small_config,
        rollout={"temperature": TEMPERATURE},
        loss={"support": "full"},
        teacher={"success_threshold": 0.8},
        information={"estimator": name, "reduction": "sequence_sum"},
    )
    got = step(bag, config, batch)["pgpo/information"]
    student = logits(bag, batch, batch.prompt, batch.prompt_mask)
    teacher = logits(bag, batch, batch.teacher_prompt, batch.teacher_prompt_mask, 1.5)
    want, other = (
        getattr(information, "outcome_gain" if name == "outcome" else name)(
            sampled(student, batch),
            sampled(teacher, batch),
            jnp.asarray(batch.score >= threshold),
            jnp.asarray(batch.response_mask),
            jnp.asarray(batch.signal_mask),
            reduction="sequence_sum",
        )
        for threshold in (0.8, 0.5)
    )
    np.testing.assert_allclose(got, want, rtol=2e-5)
    assert abs(want - other) > 1e-3


def test_policy_loss(bag, batch, small_config):
    config = replaced(
        small_config,
        objective="grpo",
        rollout={"temperature": TEMPERATURE},
        loss={"reduction": "token_mean", "rollout_clip": CLIP},
    )
    advantage = np.linspace(-0.7, 0.5, 6, dtype=np.float32)
    batch = batch._replace(columns={"advantage": advantage})
    logprobs = sampled(logits(bag, batch, batch.prompt, batch.prompt_mask), batch)
    ratio = jnp.exp(logprobs - batch.sampler_logprobs)
    per_token = -advantage[:, None] * jnp.minimum(ratio, CLIP)
    want = distillation.aggregate(
        per_token, jnp.asarray(batch.response_mask), reduction="token_mean"
    )
    np.testing.assert_allclose(step(bag, config, batch)["loss"], want, rtol=1e-5)


def test_optimizer(small_config):
    config = replaced(
        small_config,
        information={"alpha": 0.7, "rho_max": 1.5, "rho_min": 0.8, "decay": 0.6, "delay": 1},
        optimizer={
            "learning_rate": 0.3,
            "warmup_steps": 2,
            "b1": 0.7,
            "b2": 0.8,
            "eps": 0.2,
            "weight_decay": 0.25,
            "clip_norm": 0.5,
        },
    )
    schedule = optax.linear_schedule(0.0, 0.3, 2)
    plain = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(schedule, b1=0.7, b2=0.8, eps=0.2, weight_decay=0.25),
    )
    params = jnp.array([1.0, -2.0])
    gradients = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    signals = [0.3, 2.0, -3.0, -1.0, 0.1, 0.4]

    def updates(optimizer):
        optimizer = optax.with_extra_args_support(optimizer)

        def body(state, given):
            with jax.numpy_dtype_promotion("standard"):
                update, state = optimizer.update(
                    given[0], state, params, information=given[1], value=0.0
                )
            return state, update

        run = jax.jit(lambda given: jax.lax.scan(body, optimizer.init(params), given)[1])
        return run((gradients, np.array(signals, np.float32)))

    # By hand: the corrected mean of the signals before each, exponentiated and bounded.
    rhos, average, weight = [], 0.0, 0.0
    for signal in signals:
        rhos.append(np.clip(np.exp(0.7 * average / (weight or 1.0)), 0.8, 1.5))
        average, weight = 0.6 * average + 0.4 * signal, 0.6 * weight + 0.4
    assert {0.8, 1.0, 1.5} < set(rhos)
    want = updates(plain)
    np.testing.assert_allclose(
        updates(replaced(config, information={"alpha": 0.0}).make_optimizer()), want
    )
    want = want * np.array(rhos, np.float32)[:, None]
    np.testing.assert_allclose(updates(config.make_optimizer()), want, rtol=1e-5)


class Respondent(Policy):
    """Answers each question as it is told to; keeps what it was asked with."""

    def encode_question(self, question, *, thinking=False):
        return [int(word) for word in question.prompt.split()]

    def respond(self, params, prompts, key, **settings):
        self.graphdef.asked.append((prompts, jax.random.key_data(key).tolist(), settings))
        n = settings["samples"]
        texts = [
            f"<answer>{'A' if place < prompt[0] else 'B'}</answer>" + " Wait." * (place == 3)
            for prompt in prompts
            for place in range(n)
        ]
        rows = len(prompts) * n
        mask = np.arange(4) <= np.arange(rows)[:, None] % 4
        tokens = np.zeros((rows, 4), np.int32)
        return Responses(tokens, mask, np.zeros((rows, 4), np.float32), texts)


def test_evaluation():
    """Of the first number of each prompt so many of four answers are right; one is too long."""
    policy = Respondent(types.SimpleNamespace(asked=[]), None, (0,), 0)
    questions = [
        Question(f"q{i}", "physics", "", prompt, "A")
        for i, prompt in enumerate(["4 0", "1 0", "0 0", "4 0 0 0", "3 0"])
    ]
    settings = EvaluationConfig(samples=4, temperature=0.3, top_p=0.8, batch=3)
    rollout = RolloutConfig(max_prompt=3, max_response=4, smallest_bucket=2, max_num_seqs=5)
    result = evaluate(policy, None, questions, jax.random.key(0), settings, rollout)
    right = [1.0, 0.25, 0.0, 0.75]
    assert result.scores == dict(zip(["q0", "q1", "q2", "q4"], right, strict=True))
    assert result.accuracy == np.mean(right)
    assert result.standard_error == pytest.approx(np.std(right, ddof=1) / 2)
    assert (result.response_length, result.dropped) == (2.5, 1)
    assert result.right == {"q0": 4, "q1": 1, "q2": 0, "q4": 3}
    assert (result.samples, result.hesitation_words) == (4, 0.25)
    assert result.pass_at(1) == result.accuracy
    assert result.pass_at(4) == 0.75
    asked = policy.graphdef.asked
    # The second batch is filled up with its last question, which counts once.
    assert [len(prompts) for prompts, *_ in asked] == [3, 3]
    assert asked[0][1] != asked[1][1]
    for *_, given in asked:
        assert given == {
            "samples": 4,
            "max_new_tokens": 4,
            "temperature": 0.3,
            "top_p": 0.8,
            "top_k": None,
            "smallest_bucket": 2,
            "largest_prompt": 3,
            "engine": Sampler(max_num_seqs=5),
            "logprobs": False,
        }
    with pytest.raises(ValueError, match="at most 3 prompt tokens, got 1 questions"):
        evaluate(policy, None, questions[3:4], jax.random.key(0), settings, rollout)


def test_rollouts_are_random_by_seed_and_step_and_evaluations_by_seed_alone(monkeypatch):
    asked = []

    def respond(self, params, prompts, key, **settings):
        asked.append((jax.random.key_data(key).tolist(), settings))
        rows = len(prompts) * settings["samples"]
        empty = np.zeros((rows, 1), np.int32)
        return Responses(empty, empty > 0, empty.astype(np.float32), [""] * rows)

    monkeypatch.setattr(Policy, "respond", respond)
    changes = {"temperature": 0.6, "top_p": 0.9, "max_response": 9, "micro_batch": 1}
    changes["max_num_seqs"] = 3
    rollouts, evaluations = [], []
    for seed in (0, 1):
        trainer = make_trainer(replaced(SMALL, seed=seed, rollout=changes))
        for number in (0, 1, 0):
            state = trainer.initial_state._replace(step=jnp.int32(number))
            trainer.respond(state)
            trainer.evaluate(state)
            rollouts.append(asked[-2])
            evaluations.append(asked[-1])
    keys = [tuple(key) for key, _ in rollouts]
    assert keys[0] == keys[2]
    assert keys[3] == keys[5]
    assert len(set(keys)) == 4
    held_out = {tuple(key) for key, _ in evaluations}
    assert len(held_out) == 2
    # Nor is an evaluation's key made from that of a rollout.
    rollout_keys = jax.random.wrap_key_data(jnp.array(keys, jnp.uint32))
    made = jax.random.key_data(jax.vmap(lambda key: jax.random.fold_in(key, 0))(rollout_keys))
    assert not held_out & {*keys, *map(tuple, made.tolist())}
    for _, given in rollouts:
        assert (given["samples"], given["temperature"], given["top_p"]) == (4, 0.6, 0.9)
        assert (given["max_new_tokens"], given["at_once"]) == (9, 1)
        assert given["engine"] == Sampler(max_num_seqs=3)
