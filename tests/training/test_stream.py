"""Which questions a step sees depends on (seed, step) alone."""

import itertools
import json
import sys
from collections.abc import Sequence

import pytest

from pgpo_jax.cli._eval import first_questions
from pgpo_jax.tasks import Question, held_out_spec, load_task
from pgpo_jax.training import EvaluationConfig, QuestionStream, TrainConfig
from pgpo_jax.training.rollout._held_out import held_out_questions


def question(i: int) -> Question:
    return Question(str(i), "physics", "", "x" * (i % 10 + 1), "A")


class Endless(Sequence):
    def __len__(self):
        return sys.maxsize

    def __getitem__(self, i):
        return question(i)


def stream(source, *, seed=0, per_step=4, max_prompt=8):
    return QuestionStream(
        source, lambda q: [0] * len(q.prompt), per_step=per_step, max_prompt=max_prompt, seed=seed
    )


def ids(batch):
    return [q.id for q in batch.questions]


@pytest.mark.parametrize("source", [[question(i) for i in range(30)], Endless()])
def test_steps_can_be_asked_for_in_any_order(source):
    one, other = stream(source), stream(source)
    forward = [ids(one.batch(step)) for step in range(9)]
    assert [ids(other.batch(step)) for step in reversed(range(9))] == forward[::-1]


def test_an_epoch_shows_each_question_at_most_once_and_is_shuffled_anew():
    source = [question(i) for i in range(30)]
    data = stream(source)
    assert data.dropped == 6  # prompts of 9 and 10 tokens
    epochs = [
        list(itertools.chain(*(ids(data.batch(6 * e + i)) for i in range(6)))) for e in (0, 1)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 24
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]
    assert ids(stream(source, seed=1).batch(0)) != ids(data.batch(0))


def test_overlong_questions_of_an_endless_source_are_skipped_and_counted():
    batch = stream(Endless()).batch(1)
    assert (ids(batch), batch.dropped) == (["10", "11", "12", "13"], 2)
    assert stream(Endless()).batch(0).dropped == 0


def test_too_few_or_too_long_questions_are_refused():
    with pytest.raises(ValueError, match=r"needs 4 questions .* the task has 3 \(and 2 longer"):
        stream([question(i) for i in (0, 1, 2, 8, 9)])
    with pytest.raises(ValueError, match=r"raise rollout.max_prompt"):
        stream(Endless(), max_prompt=1)


@pytest.mark.parametrize("folder", ["synthetic-rows", "physics"])
def test_the_held_out_file_lies_beside_the_training_file(tmp_path, monkeypatch, folder):
    """Whatever the folder is called: a name that begins like a source's is no source."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    for split in ("train", "test"):
        rows = [
            {"idx": i, "system": "", "prompt": f"{split} {i}?\nA: 1\nB: 2", "answer": "A"}
            for i in range(3)
        ]
        (tmp_path / folder / f"{split}.json").write_text("\n".join(map(json.dumps, rows)))

    def held_out(count):
        config = TrainConfig(
            task=f"{folder}/train.json", evaluation=EvaluationConfig(questions=count)
        )
        return [
            question.prompt[:6]
            for question in held_out_questions(config.make_task(), config.evaluation)
        ]

    assert held_out_spec("elsewhere/train.json") == "elsewhere/test.json"
    assert held_out_spec(f"{folder}/test.json") is None
    assert held_out(2) == ["test 0", "test 1"]
    assert len(held_out(0)) == 3
    with pytest.raises(ValueError, match="questions must be at most 3, got 4"):
        held_out(4)
    assert len(first_questions(load_task(f"{folder}/test.json"), "test", 0)) == 3
    (tmp_path / folder / "test.json").unlink()
    assert held_out(0) == []
