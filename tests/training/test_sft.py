"""Supervised fine-tuning: the loss, the given responses, and a run of the command."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.cli._main import main
from pgpo_jax.distillation import cross_entropy_head_loss
from pgpo_jax.tasks import Grade, Question
from pgpo_jax.training import SFT, RolloutConfig, TrainConfig, Trainer, load_policy, read_jsonl


class Doubles:
    def __init__(self, **fields):
        self.fields = fields

    def questions(self, split, seed):
        numbers = range(4) if split == "train" else ()
        return [
            Question(f"double-{n}", "sums", "", f"2 * {n}?", str(2 * n), **self.fields)
            for n in numbers
        ]

    def grade(self, question, response):
        return Grade(float(response.strip() == question.answer), response.strip(), "")


ROLLOUT = RolloutConfig(
    questions=2, samples=1, max_prompt=64, max_response=8, smallest_bucket=64, row_buckets=1
)


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean", "sequence_sum"])
def test_the_loss_and_its_gradient_are_those_of_the_formula(reduction):
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, head = jax.random.normal(keys[0], (3, 5, 4)), jax.random.normal(keys[1], (4, 7))
    tokens = jax.random.randint(keys[2], (3, 5), 0, 7)
    mask = jnp.arange(5)[None] < jnp.array([5, 2, 3])[:, None]
    rows = jnp.array([True, True, False])

    def fused(hidden, head):
        return cross_entropy_head_loss(
            hidden, head, tokens, mask, rows, reduction=reduction, chunk_size=4
        ).loss

    def formula(hidden, head):
        logprobs = jax.nn.log_softmax(hidden @ head)
        chosen = -jnp.take_along_axis(logprobs, tokens[..., None], -1)[..., 0]
        kept = jnp.where(mask & rows[:, None], chosen, 0.0)
        by_row = kept.sum(1)
        if reduction == "token_mean":
            return kept.sum() / 7
        # A sequence that does not train stays in the denominator.
        return jnp.mean(
            by_row if reduction == "sequence_sum" else by_row / mask.sum(1).astype(jnp.float32)
        )

    ours, theirs = (jax.value_and_grad(f, argnums=(0, 1))(hidden, head) for f in (fused, formula))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)
    # The control: the third row would change it.
    rows = jnp.array([True, True, True])
    assert abs(float(fused(hidden, head)) - float(ours[0])) > 1e-3


def test_what_is_learnt_is_the_first_that_the_data_has():
    question = Question("q1", "sums", "", "1 + 1?", "2")
    assert SFT().written(question) == "2"
    worked = dataclasses.replace(question, solution="1 + 1 = 2")
    assert SFT().written(worked) == "1 + 1 = 2"
    assert SFT().written(dataclasses.replace(worked, demonstration="Two: 2")) == "Two: 2"


def test_a_given_response_ends_a_turn_and_is_never_cut():
    policy = load_policy("tiny").policy
    written = policy.write(["12", "a much longer response than that"], max_tokens=4)
    assert written.tokens[0][written.mask[0]][-1] == policy.eos_ids[0]
    assert policy.tokenizer.decode(written.tokens[0][written.mask[0]][:-1]) == "12"
    assert written.lengths.tolist()[1] == 0
    whole = policy.write(["a much longer response than that"], max_tokens=64)
    assert policy.tokenizer.decode(whole.tokens[0][:-1]) == "a much longer response than that"


@pytest.mark.slow
def test_the_answers_become_likely(tmp_path):
    import optax

    trainer = Trainer(load_policy("tiny"), Doubles(), SFT(), optax.adamw(1e-3), rollout=ROLLOUT)
    trainer.fit(tmp_path, steps=12, trackers=[], keep_checkpoints=0)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert {row["rollout/accuracy"] for row in rows} == {1.0}
    assert rows[-1]["sft/token_cross_entropy"] < 0.5 * rows[0]["sft/token_cross_entropy"]
    assert rows[0]["loss"] > 0
    assert "pgpo/information" not in rows[0]
    shown = read_jsonl(tmp_path / "texts.jsonl")[0]
    assert shown["response"] == shown["question"]["answer"]


def test_responses_that_are_too_long_are_left_out_and_counted(tmp_path):
    import optax

    task = Doubles(demonstration="word " * 40)
    trainer = Trainer(load_policy("tiny"), task, SFT(), optax.sgd(1e-3), rollout=ROLLOUT)
    batch, responses = trainer.respond(trainer.initial_state)
    rollout = trainer.graded(trainer.initial_state, batch, responses)
    lesson = SFT().prepare(rollout)
    _, rows = trainer.packed(rollout, lesson)
    assert not lesson.kept.any()
    assert SFT().row_metrics(rows, 1) == {"rollout/overlong_responses": 2.0}


def test_several_samples_and_other_temperatures_are_refused():
    config = TrainConfig(objective="sft", rollout=ROLLOUT)
    assert (config.alpha, config.label) == (0.0, "sft")
    for change, match in (
        ({"samples": 2}, r"samples must be 1 with objective 'sft'.*got 2"),
        ({"temperature": 0.5}, r"temperature must be 1 with objective 'sft'.*got 0\.5"),
    ):
        with pytest.raises(ValueError, match=match):
            dataclasses.replace(config, rollout=dataclasses.replace(ROLLOUT, **change))
    import optax

    twice = dataclasses.replace(ROLLOUT, samples=2)
    trainer = Trainer(load_policy("tiny"), Doubles(), SFT(), optax.sgd(1e-3), rollout=twice)
    with pytest.raises(ValueError, match=r"rollout.samples must then be 1.*samples = 2"):
        trainer.step(trainer.initial_state)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"2 * {n}?", "answer": str(2 * n)} for n in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["sft", "--task", str(file), "--grader", "exact", "--output", str(tmp_path / "run")]
    flags += ["--steps", "2", "--rollout.questions", "2", "--trackers", "--dtype", "float32"]
    flags += ["--rollout.smallest-bucket", "64", "--rollout.max-prompt", "64"]
    assert main([*flags, "--rollout.max-response", "8"]) == 0
    assert "sft on" in capsys.readouterr().out
    metrics = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["rollout/accuracy"] for row in metrics if "loss" in row] == [1.0, 1.0]
