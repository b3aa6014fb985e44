"""Which rows of an experience count where, and what the teacher is shown. Nothing is compiled."""

import numpy as np
import pytest

from pgpo_jax.tasks import load_questions
from pgpo_jax.training import (
    PRESETS,
    QuestionStream,
    Responses,
    load_policy,
    make_experience,
)
from tests.training.conftest import replaced

QUESTIONS, SAMPLES = 4, 4
CONFIG = replaced(
    PRESETS["tiny"], rollout={"questions": QUESTIONS, "samples": SAMPLES, "row_buckets": 1}
)
# One row per question: which of its samples are right.
RIGHT = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)


@pytest.fixture(scope="module")
def policy():
    return load_policy("tiny")[0]


@pytest.fixture(scope="module")
def batch(policy):
    questions = load_questions("synthetic:physics", split="train", seed=0)
    encode = policy.encode_question
    return QuestionStream(questions, encode, per_step=QUESTIONS, max_prompt=72, seed=0).batch(0)


def respond(batch):
    """Answers of two tokens: the first names the row, the text is right or wrong."""
    tokens = np.zeros((QUESTIONS * SAMPLES, 3), np.int32)
    tokens[:, 0] = np.arange(len(tokens))
    mask = np.tile([True, True, False], (len(tokens), 1))
    texts = [
        f"<answer>{question.answer if right else 'wrong'}</answer>"
        for question, rights in zip(batch.questions, RIGHT, strict=True)
        for right in rights
    ]
    return Responses(tokens, mask, np.zeros(tokens.shape, np.float32), texts)


def make(policy, batch, step=0, **changes):
    return make_experience(policy, batch, respond(batch), replaced(CONFIG, **changes), step=step)


def shown_wrong(policy, experience):
    """Of each row that has a teacher prompt: is the shown solution a wrong one?"""
    return np.array(
        [
            "wrong" in policy.tokenizer.decode(row[keep].tolist())
            for row, keep in zip(
                experience.teacher_prompt, experience.teacher_prompt_mask, strict=True
            )
            if keep.any()
        ]
    )


def test_masks_and_scores(policy, batch):
    experience, _ = make(policy, batch)
    kept = experience.response_mask.any(1)
    assert kept.sum() == 12  # the last question has no right answer
    np.testing.assert_array_equal(experience.sequence_mask, kept)
    np.testing.assert_array_equal(experience.signal_mask, kept)
    np.testing.assert_array_equal(experience.score[kept], RIGHT[:3].ravel())
    assert not experience.score[~kept].any()


def test_halves_by_question(policy, batch):
    whole, _ = make(policy, batch)
    same, _ = make(policy, batch, information={"half": "same"})
    other, _ = make(policy, batch, information={"half": "other"})
    kept = whole.sequence_mask
    # The first token names the row, four of them make a question.
    even = kept & (whole.response[:, 0] // SAMPLES % 2 == 0)
    assert 0 < even.sum() < kept.sum()
    for half, signal in ((same, even), (other, kept & ~even)):
        np.testing.assert_array_equal(half.sequence_mask, even)
        np.testing.assert_array_equal(half.signal_mask, signal)
        for field in ("prompt", "teacher_prompt", "response", "response_mask", "score"):
            np.testing.assert_array_equal(getattr(half, field), getattr(whole, field))


def test_the_signal_may_come_from_failures_alone(policy, batch):
    whole, _ = make(policy, batch)
    failures, _ = make(policy, batch, information={"rows": "failures"})
    np.testing.assert_array_equal(failures.sequence_mask, whole.sequence_mask)
    want = whole.sequence_mask & (whole.score == 0)
    assert 0 < want.sum() < whole.sequence_mask.sum()
    np.testing.assert_array_equal(failures.signal_mask, want)


def test_every_response_trains_under_grpo_and_no_teacher_is_prompted(policy, batch):
    plain, _ = make(policy, batch)
    assert plain.advantage is None
    experience, metrics = make(policy, batch, method="grpo", teacher={"kind": "live"})
    assert experience.sequence_mask.all()
    assert not experience.teacher_prompt_mask.any()
    np.testing.assert_allclose(
        experience.advantage, (RIGHT - RIGHT.mean(1, keepdims=True)).ravel(), atol=1e-7
    )
    # Two of four groups have answers of both kinds.
    assert metrics["policy/mixed_group_fraction"] == 0.5
    assert not any(name.startswith("self_distillation/") for name in metrics)


def test_misleading_solutions(policy, batch):
    honest, metrics = make(policy, batch)
    assert not shown_wrong(policy, honest).any()
    assert metrics["self_distillation/misleading_fraction"] == 0
    lies, metrics = make(policy, batch, teacher={"misleading": 1.0})
    # The lone wrong answer of the second question cannot teach itself; the third has none.
    want = [True] * 4 + [False] + [True] * 3 + [False] * 4
    np.testing.assert_array_equal(shown_wrong(policy, lies), want)
    assert metrics["self_distillation/misleading_fraction"] == pytest.approx(7 / 12)
    assert metrics["self_distillation/misleading_unavailable"] == 5
    # Which rows are trained, and how they are graded, is not touched.
    np.testing.assert_array_equal(lies.sequence_mask, honest.sequence_mask)
    np.testing.assert_array_equal(lies.score, honest.score)


def test_which_solutions_mislead_is_a_function_of_seed_and_step(policy, batch):
    def wrong(fraction, **kw):
        seed = kw.pop("seed", 0)
        experience, _ = make(policy, batch, teacher={"misleading": fraction}, seed=seed, **kw)
        return shown_wrong(policy, experience)

    half = wrong(0.5)
    assert 0 < half.sum() < 7
    np.testing.assert_array_equal(wrong(0.5), half)
    assert (wrong(0.8) >= half).all()
    assert any((wrong(0.5, step=step) != half).any() for step in (1, 2, 3))
    assert any((wrong(0.5, seed=seed) != half).any() for seed in (1, 2, 3))
