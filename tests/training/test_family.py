"""The objectives of the self-distillation family: rows, losses, teachers, runs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pgpo_jax as pgpo
from pgpo_jax import scale_by_information
from pgpo_jax.models import Qwen3, shardings
from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training import (
    OPSD,
    PRESETS,
    RLCSD,
    RLSD,
    SDFT,
    SRPO,
    LoRAConfig,
    MeshConfig,
    Models,
    Policy,
    PolicyConfig,
    Responses,
    RolloutConfig,
    Sampler,
    Taught,
    TaughtByData,
    TeacherConfig,
    TrainConfig,
    Trainer,
    load_policy,
    make_mesh,
    with_published,
)
from pgpo_jax.training.devices._mesh import shard_rows
from pgpo_jax.training.update._state import update_teacher
from tests.training.conftest import (
    SMALL_QWEN3,
    BagOfWords,
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)

NAMES = ("opsd", "sdft", "rlsd", "srpo", "rlcsd")
ROLLOUT = RolloutConfig(questions=2, samples=2, max_prompt=60, max_response=6, row_buckets=1)
# The update is -rho * gradient, so that the weights tell of both.
DESCENT = optax.chain(optax.sgd(1.0), scale_by_information(5.0))


def published(config, name):
    """The settings of an objective's authors, with a loss that has something to skip."""
    config = with_published(config, name)
    skip = 1 if name == "sdft" else 0
    # Random models are all alike unsure of what comes next; the weights are to tell them apart.
    return replaced(
        config,
        loss={"skip_tokens": skip, "rollout_clip": 2.0},
        policy={"entropy_beta": 20.0},
        # About half of the tokens are moved, by an amount that tells.
        rlcsd={"wrong_hints": 2, "temperature": 0.5, "threshold": 0.2, "moved_weight": 3.0},
    )


def routed_batch(name, **sizes):
    """Rows of uneven lengths; what a router and a policy gradient read of them."""
    batch = random_experience(**sizes)
    rows = len(batch.sequence_mask)
    rng = np.random.default_rng(3)
    distil = (np.arange(rows) % 4 < 2).astype(np.float32)
    columns = {
        "rlsd": {
            "advantage": rng.normal(size=rows).astype(np.float32),
            "mix": np.full(rows, 0.5, np.float32),
        },
        "rlcsd": {
            "advantage": rng.normal(size=rows).astype(np.float32),
            "wrong_hints": 2 - distil,
        },
        "srpo": {"advantage": rng.normal(size=rows).astype(np.float32), "distil": distil},
        "drift": {
            "advantage": rng.normal(size=rows).astype(np.float32),
            "distil": 0.7 * distil,
            "reinforce": 1 - distil,
            "rebellious": 0.5 * (1 - distil),
        },
        "rltf": {
            "advantage": rng.normal(size=rows).astype(np.float32),
            "supervised": np.float32(0.1) * distil,
            "sampled": 1 - distil,
            "floored": distil,
        },
    }.get(name)
    if name in ("srpo", "drift"):
        batch = batch._replace(signal_mask=batch.signal_mask & (distil > 0))
    if name == "rlcsd":
        hints = [random_experience(seed, **sizes) for seed in (1, 2)]
        batch = batch._replace(
            further_prompt=np.stack([hint.teacher_prompt for hint in hints], 1),
            further_prompt_mask=np.stack([hint.teacher_prompt_mask for hint in hints], 1),
        )
    # As if the sampler had been nearly the student.
    return batch._replace(
        columns=columns, sampler_logprobs=np.float32(0.9) * batch.sampler_logprobs - 1
    )


class Fixed(nnx.Module):
    """A model whose logits behind every prompt are given: one table per row of the batch."""

    def __init__(self, logits):
        self.logits = nnx.Param(jnp.asarray(logits))

    def hidden_states(self, tokens, mask):
        rows, length, words = self.logits[...].shape
        before = jnp.zeros((rows, tokens.shape[1] - length, words), self.logits[...].dtype)
        return jnp.concatenate([before, self.logits[...]], axis=1)

    def head(self):
        return jnp.eye(self.logits[...].shape[-1], dtype=self.logits[...].dtype)


STUDENT = [[1.0, 0.0, -1.0, 0.5], [0.2, -0.3, 0.8, 0.0]]
TEACHER = [[0.5, 1.0, -0.5, 0.0], [0.0, 0.4, 1.2, -0.6]]
STUDENT_B = [[0.0, 0.3, -0.2, 0.1], [0.6, -0.4, 0.0, 0.2]]
TEACHER_B = [[0.9, -0.3, 0.1, 0.0], [-0.2, 1.1, 0.3, 0.5]]


def of_objective(objective, *, columns=None, both=False, micro=False, temperature=1.0):
    """Loss and its gradient in the student's first table, as the step takes them."""
    rows = 2 if both else 1
    graphdef, student = nnx.split(Fixed([STUDENT, STUDENT_B][:rows]), nnx.Param)
    teacher = nnx.split(Fixed([TEACHER, TEACHER_B][:rows]), nnx.Param)[1]
    batch = random_experience(rows=rows, kept=rows, response=2)._replace(
        response=np.array([[0, 2], [1, 3]], np.int32)[:rows],
        response_mask=np.ones((rows, 2), bool),
        columns=columns,
    )
    batch = jax.tree.map(jnp.asarray, batch)

    def loss(student):
        models = Models(graphdef, student, teacher, temperature)
        denominators = objective.denominators(batch, rows)
        if micro:
            denominators |= objective.beforehand(models, batch)
        return objective.loss_of_rows(models, batch, denominators).loss

    value, slopes = jax.value_and_grad(loss)(student)
    slopes = slopes["logits"][...][0]
    return float(value), [*map(float, slopes[0]), float(slopes[1, 0])]


@pytest.mark.parametrize(
    ("name", "changes", "value", "gradient"),
    [
        (
            "opsd",
            {},
            0.164626612,
            (0.098993251, -0.140341373, -0.018694319, 0.060042442, 0.039112581),
        ),
        ("sdft", {}, 0.085906952, (0.0, 0.0, 0.0, 0.0, 0.078225163)),
        (
            "rlsd",
            {"advantage": 1.0},
            -1.0,
            (-0.236704119, 0.078467169, 0.028866458, 0.129370491, 0.129491586),
        ),
        (
            "rlsd",
            {"advantage": -1.0},
            1.005471092,
            (0.289305035, -0.095904318, -0.035281227, -0.158119489, -0.107235771),
        ),
        (
            "srpo",
            {"advantage": 0.5},
            -0.220814568,
            (-0.065751144, 0.021796436, 0.008018461, 0.035936248, 0.029429906),
        ),
        (
            "srpo",
            {"advantage": 1.0},
            -0.470814568,
            (-0.131502288, 0.043592872, 0.016036921, 0.071872495, 0.058859812),
        ),
    ],
)
def test_the_loss_is_that_of_the_formula(x64, name, changes, value, gradient):
    """Through the objective, as it is made from the published settings."""
    columns = None
    if name == "rlsd":
        columns = {"advantage": np.array([changes["advantage"]]), "mix": np.array([0.5])}
    if name == "srpo":
        # The first response is right, the second one is wrong and has a teacher.
        columns = {"advantage": np.array([changes["advantage"], -1.0])}
        columns["distil"] = np.array([0.0, 1.0])
    config = published(TrainConfig(), name)
    loss = {"rollout_clip": None, "rollout_level": "token", "support": "full"}
    config = replaced(config, loss=loss, policy={"entropy_beta": 1.0})
    for micro in (False, True) if name == "srpo" else (False,):
        found = of_objective(
            config.make_objective(), columns=columns, both=name == "srpo", micro=micro
        )
        np.testing.assert_allclose(found[0], value, atol=1e-9, rtol=0)
        np.testing.assert_allclose(found[1], gradient, atol=1e-9, rtol=0)


def one_step(model, config, batch, micro_batch=None, objective=None):
    graphdef, params = model
    config = replaced(config, optimizer={"micro_batch": micro_batch})
    state = config_state(fresh(params), config, DESCENT)
    if state.teacher is not None and not config.lora.rank:
        state = state._replace(teacher=jax.tree.map(lambda p: 1.5 * p, state.teacher))
    step = config_step(graphdef, config, DESCENT, objective=objective)
    return step(state, jax.tree.map(jnp.asarray, batch))


def assert_same(one, other):
    (state, metrics), (state2, metrics2) = one, other
    assert metrics.keys() == metrics2.keys()
    for name in metrics:
        np.testing.assert_allclose(
            metrics[name], metrics2[name], rtol=2e-5, atol=2e-6, err_msg=name
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-6),
        state.params,
        state2.params,
    )


@pytest.mark.parametrize("name", NAMES)
def test_micro_batches_are_the_batch(small_config, name, monkeypatch):
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    config = published(small_config, name)
    batch = routed_batch(name, rows=6, kept=5)
    whole = one_step(model, config, batch)
    assert_same(whole, one_step(model, config, batch, micro_batch=2))
    assert float(whole[1]["optimizer/grad_norm"]) > 1e-3
    assert 0.01 < abs(float(whole[1]["pgpo/rho"]) - 1) < 0.99
    if name in ("srpo", "rlcsd"):
        # The control: each micro-batch with a mean of its own is another step.
        monkeypatch.setattr({"srpo": SRPO, "rlcsd": RLCSD}[name], "needs_whole_batch", False)
        with pytest.raises(AssertionError):
            assert_same(whole, one_step(model, config, batch, micro_batch=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [*((name, (2, 2)) for name in NAMES), *((name, (1, 2)) for name in ("drift", "opcd", "rltf"))],
)
def test_micro_batches_on_a_mesh(small_model, small_config, name, sizes):
    params, batch = small_model[1], routed_batch(name)
    support = {"support": "topk_raw", "k": 5} if name == "opcd" else {"support": "full"}
    alone = replaced(published(small_config, name), loss=support)
    config = replaced(alone, optimizer={"micro_batch": 4}, mesh=MeshConfig(*sizes))
    mesh = make_mesh(config.mesh)
    spread, _ = nnx.split(
        nnx.eval_shape(lambda: Qwen3(SMALL_QWEN3, rngs=nnx.Rngs(0), mesh=mesh)), nnx.Param
    )
    placed = jax.device_put(fresh(params), shardings(params, mesh))
    state = config_state(placed, config, DESCENT, mesh)
    state = state._replace(teacher=jax.tree.map(lambda p: 1.5 * p, state.teacher))
    layout = jax.tree.map(lambda x: x.sharding, state)
    step = config_step(spread, config, DESCENT, layout=layout)
    whole = one_step(small_model, alone, batch)
    assert_same(whole, step(state, shard_rows(batch, mesh)))
    assert float(whole[1]["optimizer/grad_norm"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_factors_learn_as_full_weights_do(small_model, small_config, name):
    """With LoRA, in micro-batches and at once; and the factors move."""
    config = replaced(published(small_config, name), lora=LoRAConfig(rank=2, base_dtype="float32"))
    batch = routed_batch(name, rows=6, kept=5)
    whole = one_step(small_model, config, batch)
    assert_same(whole, one_step(small_model, config, batch, micro_batch=2))
    before = config_state(fresh(small_model[1]), config, DESCENT).params
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, whole[0].params)
    assert max(jax.tree.leaves(moved)) > 1e-5


def test_no_array_over_tokens_and_vocabulary(small_config):
    """The compiled step of each objective: its largest array of words has a chunk of tokens."""
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    for name in NAMES:
        config = replaced(published(small_config, name), loss={"support": "full", "chunk": 8})
        batch = jax.tree.map(jnp.asarray, routed_batch(name))
        step = config_step(model[0], config, DESCENT).jitted
        text = step.lower(config_state(fresh(model[1]), config, DESCENT), batch).as_text()
        assert "8x1x32x" in text
        assert not any(f"{rows}x{words}x32x" in text for rows, words in ((8, 6), (48, 1)))


class Sums:
    """Two digits to add, with every column, or as the test says."""

    def __init__(self, **fields):
        self.fields = fields

    def questions(self, split, seed):
        if split != "train":
            return []
        known = {"solution": "one more", "demonstration": "so it is"} | self.fields
        answer = known.pop("answer", None)
        return [
            Question(f"q{i}", "sums", "", f"{i} + 1?", answer or str(i + 1), **known)
            for i in range(4)
        ]

    def grade(self, question, response):
        return Grade(float(question.answer in response), response, "")


def make(objective, task=None, **settings):
    return Trainer(
        load_policy("tiny"),
        task or Sums(),
        objective,
        pgpo.pgpo(optax.sgd(1.0)),
        **{"rollout": ROLLOUT, **settings},
    )


def answered(trainer, texts):
    """The graded responses of a step, as if the model had said these texts."""
    batch = trainer.stream.batch(0)
    ids = [trainer.policy.tokenizer.encode(text, add_special_tokens=False)[:6] for text in texts]
    tokens, mask = np.zeros((len(ids), 6), np.int32), np.zeros((len(ids), 6), bool)
    for row, known in enumerate(ids):
        tokens[row, : len(known)], mask[row, : len(known)] = known, True
    responses = Responses(tokens, mask, np.zeros(tokens.shape, np.float32), texts)
    return trainer.graded(trainer.initial_state, batch, responses)


@pytest.mark.parametrize(
    ("objective", "column", "shown"),
    [
        (OPSD(), "solution", "Here is a reference solution to this problem:\none more\n"),
        (SDFT(), "demonstration", "This is an example for a response to the question:\nso it is"),
        (RLSD(), "answer", "\n\n[Reference solution]\n"),
    ],
)
def test_the_teacher_is_shown_the_column(objective, column, shown):
    trainer = make(objective)
    rollout = answered(trainer, ["1", "no", "no", "no"])
    lesson = objective.prepare(rollout)
    assert lesson.kept.all()
    assert all(shown in text for text in lesson.teacher_texts.values())
    own = dataclasses.replace(objective, teacher=TeacherConfig(template="sdpo"))
    assert all("\nCorrect solution:\n\n" in x for x in own.prepare(rollout).teacher_texts.values())
    # Too long to be read: left out and counted, never cut.
    short = dataclasses.replace(objective, teacher=TeacherConfig(max_prompt=8))
    lesson = short.prepare(rollout)
    assert not lesson.kept.any()
    rows = trainer.packed(rollout, lesson)[1]
    assert short.row_metrics(rows, 2)["self_distillation/dropped_teacher_prompts"] == 4


@pytest.mark.parametrize(
    ("objective", "column", "empty"),
    [(OPSD(), "solution", None), (SDFT(), "demonstration", " "), (RLSD(), "answer", "  ")],
)
def test_data_without_the_column_are_refused(objective, column, empty):
    with pytest.raises(ValueError, match=rf"shows the column '{column}'.* none of the first 4"):
        make(objective, Sums(**{column: empty}))


def test_questions_without_the_column_are_counted():
    class Half(Sums):
        def questions(self, split, seed):
            found = super().questions(split, seed)
            return [dataclasses.replace(q, solution=q.solution if i == 2 else None)
                    for i, q in enumerate(found)]  # fmt: skip

    trainer = make(OPSD(), Half(), rollout=dataclasses.replace(ROLLOUT, questions=4))
    rollout = answered(trainer, ["1"] * 8)
    lesson = trainer.objective.prepare(rollout)
    has = [question.solution is not None for question in rollout.questions]
    assert lesson.kept.reshape(4, 2).all(1).tolist() == has
    rows = trainer.packed(rollout, lesson)[1]
    metrics = trainer.objective.row_metrics(rows, 2)
    assert metrics["self_distillation/without_column"] == 6
    assert metrics["self_distillation/reprompt_sample_fraction"] == 0.25


def test_the_router_keeps_every_response():
    trainer = make(SRPO(), rollout=dataclasses.replace(ROLLOUT, samples=4, questions=1))
    answer = trainer.stream.batch(0).questions[0].answer
    rollout = answered(trainer, [answer, "no", answer, "no"])
    lesson = trainer.objective.prepare(rollout)
    assert lesson.kept.all()
    # Right ones are reinforced though they have a peer.
    assert lesson.columns["distil"].tolist() == [0, 1, 0, 1]
    assert lesson.columns["advantage"].tolist() == [0.5, -0.5, 0.5, -0.5]
    assert lesson.measured is not None
    assert lesson.measured.tolist() == [False, True, False, True]
    assert sorted(lesson.teacher_texts) == [1, 3]
    assert lesson.teacher_prompts[0] == rollout.prompts[0]
    standard = SRPO(policy=PolicyConfig(advantage="standardised")).prepare(rollout)
    assert standard.columns["advantage"].tolist() == [1, -1, 1, -1]
    # All wrong: no teacher, no advantage. The rows stay, and the metric tells.
    lesson = trainer.objective.prepare(answered(trainer, ["no"] * 4))
    assert lesson.kept.all()
    rows = trainer.packed(rollout, lesson)[1]
    metrics = trainer.objective.row_metrics(rows, 4)
    assert metrics[trainer.objective.learning_fraction] == 0
    assert metrics["router/reinforced_fraction"] == 1


def test_what_a_teacher_says_of_a_reinforced_response_is_not_used(small_config):
    """Neither loss nor information nor the overlap read the teacher where it was shown nothing."""
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    config, batch = published(small_config, "srpo"), routed_batch("srpo")
    config = replaced(config, loss={"overlap_k": 4})
    other = batch.teacher_prompt.copy()
    taught = batch.columns["distil"] > 0
    other[~taught] = (other[~taught] + 1) % 32
    state, metrics = one_step(model, config, batch)
    state2, metrics2 = one_step(model, config, batch._replace(teacher_prompt=other))
    jax.tree.map(np.testing.assert_array_equal, state.params, state2.params)
    assert metrics == metrics2
    # The control: where it is distilled, it is used.
    other[taught] = (other[taught] + 1) % 32
    moved = one_step(model, config, batch._replace(teacher_prompt=other))[1]
    for name in ("loss", "distillation/overlap_advantage", "distillation/entropy_gap"):
        assert float(moved[name]) != float(metrics[name])


def test_the_teachers_share_falls_on_a_line():
    rollout = answered(make(RLSD()), ["1", "no", "no", "no"])
    objective = RLSD(policy=PolicyConfig(mix=0.4, mix_steps=8))
    shares = [
        objective.prepare(rollout._replace(step=step)).columns["mix"][0] for step in (0, 2, 8, 9)
    ]
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_snapshot_is_the_student_of_every_third_step(small_model, small_config, rank):
    model = small_model if rank else nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    teacher = TeacherConfig(kind="snapshot", every=3)
    config = replaced(small_config, teacher=teacher, lora=LoRAConfig(rank=rank))
    state = config_state(fresh(model[1]), config, DESCENT)
    step = config_step(model[0], config, DESCENT)
    batch = jax.tree.map(jnp.asarray, random_experience())
    taught, students = [fresh(state.teacher)], [fresh(state.params)]
    for _ in range(4):
        state = step(state, batch)[0]
        taught.append(fresh(state.teacher))
        students.append(fresh(state.params))

    def same(a, b):
        return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))

    assert [same(a, b) for a, b in itertools.pairwise(taught)] == [
        True, True, False, True,
    ]  # fmt: skip
    if not rank:
        assert same(taught[3], students[3])
        assert not same(taught[3], students[2])
    # A step that was not applied does not hold it up.
    settings = (teacher, config.lora)
    held = update_teacher(taught[0], students[2], jnp.array(False), *settings, done=jnp.array(6))
    assert not same(held, taught[0])


def test_the_teacher_explains_the_solution_first():
    objective = OPSD(TeacherConfig(kind="frozen", reason_first=True, max_rationale=5))
    trainer = make(objective)
    rollout = answered(trainer, ["1", "no", "no", "no"])
    lesson = objective.prepare(rollout)
    chats = [trainer.policy.tokenizer.decode(ids) for ids in lesson.teacher_prompts.values()]
    # One explanation per question, then the request to answer.
    assert len(set(chats)) == 2
    assert all("Explain the reference solution" in chat for chat in chats)
    assert all("derive the same final answer" in text for text in lesson.teacher_texts.values())
    again = objective.prepare(rollout)
    assert again.teacher_prompts == lesson.teacher_prompts
    later = answered(trainer, ["1", "no", "no", "no"])
    asked = []
    later = later._replace(ask_teacher=lambda prompts, most: asked.append(most) or ["Aha."] * 2)
    texts = objective.prepare(later).teacher_prompts.values()
    assert all("Aha." in trainer.policy.tokenizer.decode(ids) for ids in texts)
    assert asked == [5]


def test_explanations_are_decoded_as_many_at_a_time_as_answers(monkeypatch):
    objective = OPSD(TeacherConfig(kind="frozen", reason_first=True, max_rationale=5))
    trainer = make(objective, rollout=dataclasses.replace(ROLLOUT, max_num_seqs=1))
    rollout = answered(trainer, ["1", "no", "no", "no"])
    engines = []

    def respond(self, weights, prompts, key, *, engine, **rest):
        engines.append(engine)
        return Responses(np.zeros((2, 1)), np.ones((2, 1), bool), np.zeros((2, 1)), ["Aha."] * 2)

    monkeypatch.setattr(Policy, "respond", respond)
    objective.prepare(rollout)
    assert engines == [Sampler(1)]
    assert engines != [Sampler()]


def test_an_objective_of_ones_own_inherits_what_a_teacher_needs(small_config):
    """By the public names alone: twice the loss of OPSD."""

    class Twice(TaughtByData):
        name = "opsd"

        def token_loss(self, models):
            loss = super().token_loss(models)
            return lambda student, teacher, chunk: 2 * loss(student, teacher, chunk)

    assert issubclass(Twice, Taught)
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    config, batch = published(small_config, "opsd"), random_experience()
    plain = config.make_objective()
    assert isinstance(plain, TaughtByData)
    own = Twice(plain.teacher, plain.loss, plain.information)
    once, twice = (one_step(model, config, batch, objective=x)[1] for x in (plain, own))
    np.testing.assert_allclose(float(twice["loss"]), 2 * float(once["loss"]), rtol=1e-6)
    assert float(once["loss"]) > 1e-4


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"teacher": {"kind": "frozen", "every": 10}}, "every must be given for kind 'snapshot'"),
        ({"teacher": {"kind": "snapshot"}}, "kind is 'snapshot', got None"),
        ({"teacher": {"kind": "snapshot", "every": 0}}, "every must be positive, got 0"),
        (
            {"objective": "sdft", "teacher": {"reason_first": True}},
            "reason_first must be False with objective 'sdft'",
        ),
        (
            {"objective": "opsd", "teacher": {"reason_first": True, "template": "sdpo"}},
            "template must be 'published' with teacher.reason_first, got 'sdpo'",
        ),
        ({"loss": {"skip_tokens": -1}}, "skip_tokens must be at least 0, got -1"),
        ({"loss": {"entry_clip": -0.1}}, "entry_clip must be a number > 0, got -0.1"),
        (
            {"loss": {"rollout_level": "sequence", "rollout_clip": None}},
            "rollout_clip must be a number with rollout_level 'sequence', got None",
        ),
        ({"policy": {"mix": 1.5}}, r"mix must be in \[0, 1\], got 1.5"),
        ({"policy": {"ratio_clip": 1.0}}, r"ratio_clip must be in \[0, 1\), got 1.0"),
        ({"objective": "rlsd", "rollout": {"samples": 1}}, "samples must be at least 2.*'rlsd'"),
        ({"objective": "srpo", "rollout": {"samples": 1}}, "the router leaves nothing to learn"),
        (
            {"objective": "rlcsd", "rollout": {"samples": 1}},
            "samples must be at least 2 with objective 'rlcsd'.*no peers.*got 1",
        ),
        (
            {"objective": "rlcsd", "optimizer": {"plateau": True}},
            "plateau must be False with objective 'rlcsd'",
        ),
        (
            {"objective": "rlcsd"},
            "reduction must be 'token_mean' with objective 'rlcsd'.*got 'sequence_mean'",
        ),
        (
            {
                "objective": "rlcsd",
                "loss": {"reduction": "token_mean"},
                "teacher": {"feedback": True},
            },
            "feedback must be False with objective 'rlcsd'.*got True",
        ),
        ({"rlcsd": {"wrong_hints": 0}}, "RlcsdConfig.wrong_hints must be positive, got 0"),
        ({"rlcsd": {"temperature": 0.0}}, "RlcsdConfig.temperature must be positive, got 0.0"),
        ({"rlcsd": {"scale": -0.5}}, "RlcsdConfig.scale must be at least 0, got -0.5"),
        ({"rlcsd": {"clip": float("inf")}}, "RlcsdConfig.clip must be finite, got inf"),
        (
            {"objective": "srpo", "teacher": {"max_prompt": 100}},
            "max_prompt must be at least rollout.max_prompt = 2048 with objective 'srpo'",
        ),
        (
            {"objective": "srpo", "loss": {"modulation": "token"}},
            "modulation must be 'none' with objective 'srpo'.*got 'token'",
        ),
        (
            {"objective": "srpo", "optimizer": {"plateau": True}},
            "plateau must be False with objective 'srpo'.*got True",
        ),
    ],
)
def test_contradictions_are_refused_by_name(changes, rule):
    with pytest.raises(ValueError, match=rule):
        replaced(TrainConfig(), **changes)


@pytest.mark.parametrize(
    "changes", [{"loss": {"modulation": "token"}}, {"optimizer": {"plateau": True}}]
)
def test_what_srpo_refuses_serves_sdpo(changes):
    assert replaced(TrainConfig(), **changes).objective == "sdpo"


def test_published_settings_are_slots_of_the_configuration():
    tiny = PRESETS["tiny"]
    opsd = with_published(tiny, "opsd")
    assert (opsd.teacher.kind, opsd.loss.teacher_weight) == ("frozen", 0.0)
    # The shipped model knows SDPO's words alone.
    assert (opsd.teacher.template, tiny.teacher.template) == ("sdpo", "published")
    assert with_published(dataclasses.replace(tiny, model="other"), "opsd").teacher.template == (
        "published"
    )
    rlsd = with_published(tiny, "rlsd")
    assert rlsd.teacher.every == 10
    assert with_published(rlsd, "sdft").teacher.every is None
    assert with_published(tiny, "grpo") == dataclasses.replace(tiny, objective="grpo")
