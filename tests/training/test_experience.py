"""Which rows of an experience count where, and what the teacher is shown. Nothing is compiled."""

import numpy as np
import pytest

from pgpo_jax.tasks import Grade, exact, load_questions
from pgpo_jax.training import (
    PRESETS,
    QuestionStream,
    Responses,
    load_policy,
)
from tests.training.conftest import packed, replaced

QUESTIONS, SAMPLES = 4, 4
CONFIG = replaced(
    PRESETS["tiny"], rollout={"questions": QUESTIONS, "samples": SAMPLES, "row_buckets": 1}
)
GRADER = {0: exact}
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
    config = replaced(CONFIG, **changes)
    return packed(policy, batch, respond(batch), config, step=step, grade=GRADER[0])


def test_masks_and_scores(policy, batch):
    experience, _ = make(policy, batch)
    kept = experience.response_mask.any(1)
    assert kept.sum() == 12  # the last question has no right answer
    np.testing.assert_array_equal(experience.sequence_mask, kept)
    np.testing.assert_array_equal(experience.signal_mask, kept)
    np.testing.assert_array_equal(experience.score[kept], RIGHT[:3].ravel())
    assert not experience.score[~kept].any()


def test_every_response_trains_under_grpo_and_no_teacher_is_prompted(policy, batch):
    plain, _ = make(policy, batch)
    assert plain.columns is None
    experience, metrics = make(policy, batch, objective="grpo")
    assert experience.sequence_mask.all()
    assert not experience.teacher_prompt_mask.any()
    np.testing.assert_allclose(
        experience.columns["advantage"], (RIGHT - RIGHT.mean(1, keepdims=True)).ravel(), atol=1e-7
    )
    # Two of four groups have answers of both kinds.
    assert metrics["policy/mixed_group_fraction"] == 0.5
    assert not any(name.startswith("self_distillation/") for name in metrics)


def told(policy, experience):
    """What the teacher is told, by the row that its response names."""
    return {
        int(row[0]): policy.tokenizer.decode(prompt[keep].tolist())
        for row, prompt, keep in zip(
            experience.response,
            experience.teacher_prompt,
            experience.teacher_prompt_mask,
            strict=True,
        )
        if keep.any()
    }


@pytest.fixture
def graded(monkeypatch):
    """Replaces the grader by a rule: scores and feedback from whether the answer is right."""

    def install(score, feedback=""):
        rule = lambda _, text: Grade(score["wrong" not in text], text, feedback)  # noqa: E731
        monkeypatch.setitem(GRADER, 0, rule)

    return install


def test_what_counts_as_a_solution_is_set(policy, batch, graded):
    graded({True: 0.6, False: 0.4})
    for threshold, rows in ((0.5, 12), (0.4, 16), (0.7, 0)):
        experience, metrics = make(policy, batch, teacher={"success_threshold": threshold})
        assert experience.sequence_mask.sum() == rows
        assert metrics["self_distillation/reprompt_sample_fraction"] == rows / 16


def test_a_lone_success_may_teach_itself(policy, batch, monkeypatch):
    lone = np.array([[1, 0, 0, 0], *RIGHT[1:]], bool)
    monkeypatch.setattr("tests.training.test_experience.RIGHT", lone)
    assert 0 not in told(policy, make(policy, batch)[0])
    assert 0 in told(policy, make(policy, batch, teacher={"exclude_self": False})[0])


def test_feedback_is_shown_to_whom_the_settings_say(policy, batch, graded):
    graded({True: 1.0, False: 0.0}, feedback="mind the unit")
    unsolved = set(range(12, 16))
    experience, metrics = make(policy, batch)
    assert told(policy, experience).keys() == set(range(12))
    assert not any("feedback" in name for name in metrics)
    for only, informed in ((True, unsolved), (False, set(range(16)))):
        settings = {"feedback": True, "feedback_only_without_solution": only}
        experience, metrics = make(policy, batch, teacher=settings)
        texts = told(policy, experience)
        assert metrics["self_distillation/feedback_used_fraction"] == len(informed) / 16
        assert metrics["self_distillation/feedback_available_fraction"] == 1
        assert texts.keys() == set(range(16))
        assert {row for row, text in texts.items() if "mind the unit" in text} == informed
        assert {row for row, text in texts.items() if "Correct solution" in text} == set(range(12))


def test_thinking_is_cut_from_a_solution_if_so_set(policy, batch):
    responses = respond(batch)
    texts = [f"<think>aside</think>{text}" for text in responses.texts]
    for strip in (True, False):
        config = replaced(CONFIG, teacher={"strip_thinking": strip})
        experience, _ = packed(policy, batch, responses._replace(texts=texts), config)
        assert all(("aside" in text) is not strip for text in told(policy, experience).values())


def test_thinking_is_cut_once_for_each_solution(policy, batch, monkeypatch):
    cut = []
    monkeypatch.setattr(
        "pgpo_jax.training.objectives._teaching.strip_thinking",
        lambda text: cut.append(text) or text,
    )
    responses = respond(batch)
    experience, _ = make(policy, batch)
    # Twelve responses are shown a solution: the first right one of their group, or the second.
    assert len(told(policy, experience)) == 12
    assert 3 <= len(cut) <= 6
    assert set(cut) <= set(responses.texts)


def test_a_solution_that_is_all_thinking_is_not_shown(policy, batch):
    responses = respond(batch)
    texts = [f"<think>{text}" for text in responses.texts]
    for strip in (True, False):
        config = replaced(CONFIG, teacher={"strip_thinking": strip})
        experience, _ = packed(policy, batch, responses._replace(texts=texts), config)
        assert len(told(policy, experience)) == (0 if strip else 12)


def test_teacher_prompts_that_are_too_long_are_dropped_and_counted(policy, batch):
    whole, _ = make(policy, batch)
    lengths = whole.teacher_prompt_mask.sum(1)
    limit = int(np.unique(lengths[lengths > 0])[-2])
    cut, metrics = make(policy, batch, teacher={"max_prompt": limit})
    kept = (lengths > 0) & (lengths <= limit)
    assert metrics["self_distillation/dropped_teacher_prompts"] == 12 - kept.sum() > 0
    assert cut.sequence_mask.sum() == kept.sum()
    # Whole or not at all.
    want = {row: text for row, text in told(policy, whole).items() if row in told(policy, cut)}
    assert told(policy, cut) == want


def test_metrics_of_the_responses(policy, batch):
    responses = respond(batch)
    responses.tokens[:8, 1] = policy.eos_ids[0]
    responses.mask[3, 1] = False
    texts = ["<answer>Wait, wrong</answer>"] * 4 + responses.texts[4:]
    _, metrics = packed(policy, batch, responses._replace(texts=texts), CONFIG)
    want = {
        "rollout/accuracy": 7 / 16,
        "rollout/response_length": 31 / 16,
        "rollout/response_length_max": 2,
        # Seven of the first eight end; the fourth was cut before its end.
        "rollout/truncated_fraction": 9 / 16,
        "rollout/distinct_responses": (1 + 2 + 1 + 1) / 4,
        "rollout/hesitation_words": 4 / 16,
        "rollout/hesitation_words_per_1000_tokens": 1000 * 4 / 31,
        "rollout/trained_tokens": 16,
        "self_distillation/success_group_fraction": 0.5,
        "self_distillation/success_sample_fraction": 0.5,
        "self_distillation/reprompt_sample_fraction": 0.5,
    }
    assert {name: metrics[name] for name in want} == want


def test_rows_are_padded_to_a_rung(policy, batch, monkeypatch):
    def rows(right, **rollout):
        monkeypatch.setattr("tests.training.test_experience.RIGHT", np.array(right, bool))
        experience, _ = make(policy, batch, rollout=rollout)
        return int(experience.sequence_mask.sum()), len(experience.response)

    one, all_, none = [1, 0, 0, 0], [1] * 4, [0] * 4
    assert rows([all_, all_, none, none], row_buckets=4) == (8, 8)
    assert rows([one, one, one, none], row_buckets=4) == (9, 12)
    assert rows([one, one, one, none], row_buckets=2) == (9, 16)
    assert rows([none] * 4, row_buckets=4) == (0, 4)
