import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.models import Decoder, Qwen3, Qwen3Config, load_pretrained, save_pretrained
from pgpo_jax.tasks import exact
from pgpo_jax.training import (
    Experience,
    InformationConfig,
    LossConfig,
    OptimizerConfig,
    Rollout,
    RolloutConfig,
    TrainConfig,
    init_state,
    make_train_step,
    model_folder,
    pack,
)
from pgpo_jax.training.rollout._batch import rollout_metrics

VOCAB = 32
# What XLA logs when it gathers a whole array on every device to cut it anew.
REMATERIALISED = "Involuntary full rematerialization"
SMALL_QWEN3 = Qwen3Config(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rope_theta=1e4,
    tie_word_embeddings=True,
)


@pytest.fixture(scope="session")
def small_model():
    """Structure and float32 weights of a random model of two layers."""
    # Jitted: one program, and not one for each draw.
    return nnx.split(nnx.jit(lambda: Qwen3(SMALL_QWEN3, rngs=nnx.Rngs(0)))(), nnx.Param)


@pytest.fixture
def small_config():
    """Settings that suit `small_model`: no warm-up, so that the first step moves."""
    return TrainConfig(
        dtype="float32",
        remat=False,
        rollout=RolloutConfig(questions=4, samples=2, row_buckets=1, smallest_bucket=4),
        loss=LossConfig(k=5, chunk=16, rollout_clip=None),
        information=InformationConfig(alpha=5.0),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
    )


class BagOfWords(nnx.Module):
    """What the step asks of a model, at no cost of compilation: the tokens so far, summed."""

    def __init__(self, rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (VOCAB, 8)) / 10)

    def hidden_states(self, tokens, mask):
        return jnp.cumsum(jnp.where(mask[..., None], self.table[...][tokens], 0.0), axis=1)

    def head(self):
        return self.table[...].T


def fresh(params):
    """A copy of the weights, since a step donates those it is given."""
    return jax.tree.map(jnp.copy, params)


def config_state(params, config, optimizer=None, mesh=None):
    """The first state of a configuration's run."""
    optimizer = config.make_optimizer() if optimizer is None else optimizer
    teacher = config.make_objective().teacher_settings
    return init_state(params, optimizer, teacher, mesh, lora=config.lora, seed=config.seed)


def config_step(graphdef, config, optimizer=None, *, objective=None, layout=None):
    """The compiled step of a configuration, without the numbers per token."""
    step = make_train_step(
        graphdef,
        config.make_optimizer() if optimizer is None else optimizer,
        config.make_objective() if objective is None else objective,
        sequences=config.rollout.rows,
        temperature=config.rollout.temperature,
        lora=config.lora,
        micro_batch=config.optimizer.micro_batch,
        layout=layout,
    )

    def run(state, batch):
        return step(state, batch)[:2]

    run.jitted = step
    return run


def packed(policy, batch, responses, config, *, step=0, grade=exact):
    """The arrays and the metrics that a configuration makes of some responses."""
    samples, objective = config.rollout.samples, config.make_objective()
    asked = [question for question in batch.questions for _ in range(samples)]
    rollout = Rollout(
        step=step,
        seed=config.seed,
        samples=samples,
        total=config.rollout.rows,
        policy=policy,
        questions=batch.questions,
        prompts=batch.prompts,
        responses=responses,
        grades=[grade(q, text) for q, text in zip(asked, responses.texts, strict=True)],
    )
    teacher = objective.teacher_settings
    experience, rows = pack(
        rollout,
        objective.prepare(rollout),
        config.rollout,
        longest_teacher_prompt=1 if teacher is None else teacher.max_prompt,
    )
    return experience, {**rollout_metrics(rows), **objective.row_metrics(rows, samples)}


def random_experience(seed=0, rows=8, kept=6, prompt=5, teacher=7, response=6):
    rng = np.random.default_rng(seed)

    def tokens(width):
        return rng.integers(0, VOCAB, (rows, width)).astype(np.int32)

    def left(width):
        lengths = rng.integers(2, width + 1, (rows, 1))
        return np.arange(width) >= width - lengths

    lengths = rng.integers(1, response + 1, (rows, 1))
    sequence_mask = np.arange(rows) < kept
    return Experience(
        tokens(prompt),
        left(prompt),
        tokens(teacher),
        left(teacher),
        tokens(response),
        (np.arange(response) < lengths) & sequence_mask[:, None],
        -rng.exponential(size=(rows, response)).astype(np.float32),
        sequence_mask,
        sequence_mask.copy(),
        rng.integers(0, 2, rows).astype(np.float32),
    )


def replaced(config, **changes):
    """`dataclasses.replace` that reaches into sections: `loss={"k": 3}`."""
    values = {
        name: dataclasses.replace(getattr(config, name), **value)
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, **values)


@pytest.fixture
def other(tmp_path):
    """A folder with the shipped tokenizer and another, thinner model."""
    shutil.copytree(model_folder("tiny"), tmp_path / "other")
    shape = dataclasses.replace(
        load_pretrained(model_folder("tiny")).config, num_hidden_layers=1, intermediate_size=64
    )
    config = json.loads((tmp_path / "other/config.json").read_text())
    config |= {"num_hidden_layers": 1, "intermediate_size": 64}
    (tmp_path / "other/model.safetensors").unlink()
    (tmp_path / "other/config.json").unlink()
    save_pretrained(Decoder(shape, rngs=nnx.Rngs(3)), tmp_path / "other", dtype="float32")
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    return tmp_path / "other"


class WideBag(BagOfWords):
    """Another shape than the student's."""

    def __init__(self, rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (32, 12)) / 2)


@pytest.fixture(scope="module")
def bags():
    """A student, and a teacher of another shape: graphdef and parameters of each."""
    return [nnx.split(bag, nnx.Param) for bag in (BagOfWords(nnx.Rngs(0)), WideBag(nnx.Rngs(1)))]
