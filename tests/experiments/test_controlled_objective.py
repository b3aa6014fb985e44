"""Which rows count where, and what a misled teacher is shown. Nothing is compiled."""

import numpy as np
import pytest

from experiments.sweeps import ControlledConfig, changed
from pgpo_jax.tasks import Grade, exact, load_questions
from pgpo_jax.training import PRESETS, QuestionStream, Responses, load_policy
from tests.training.conftest import packed

QUESTIONS, SAMPLES = 4, 4
CONFIG = changed(
    ControlledConfig.of(PRESETS["tiny"]),
    rollout={"questions": QUESTIONS, "samples": SAMPLES, "row_buckets": 1},
)
# One row per question: which of its samples are right.
RIGHT = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)


@pytest.fixture(scope="module")
def policy():
    return load_policy("tiny")[0]


@pytest.fixture(scope="module")
def make(policy):
    """Packs answers that are right or wrong as `RIGHT` says; the first token names the row."""
    questions = load_questions("synthetic:physics", split="train", seed=0)
    stream = QuestionStream(
        questions, policy.encode_question, per_step=QUESTIONS, max_prompt=72, seed=0
    )
    batch = stream.batch(0)
    asked = [question for question in batch.questions for _ in range(SAMPLES)]
    right = zip(asked, RIGHT.ravel(), strict=True)
    texts = [f"<answer>{q.answer if good else 'wrong'}</answer>" for q, good in right]
    tokens = np.zeros((len(texts), 3), np.int32)
    tokens[:, 0] = np.arange(len(texts))
    mask = np.tile([True, True, False], (len(texts), 1))
    responses = Responses(tokens, mask, np.zeros(tokens.shape, np.float32), texts)

    def make(step=0, grade=exact, **changes):
        return packed(policy, batch, responses, changed(CONFIG, **changes), step=step, grade=grade)

    return make


@pytest.fixture
def shown_wrong(policy):
    """Of each row that has a teacher prompt: is the shown solution a wrong one?"""

    def of(experience):
        prompts = zip(experience.teacher_prompt, experience.teacher_prompt_mask, strict=True)
        return np.array(
            [
                "wrong" in policy.tokenizer.decode(row[keep].tolist())
                for row, keep in prompts
                if keep.any()
            ]
        )

    return of


def between(right, wrong):
    """A grader that gives one score to right answers and another one to wrong ones."""
    return lambda question, response: Grade(wrong if "wrong" in response else right, response)


def test_halves_by_question(make):
    whole, _ = make()
    same, _ = make(control={"half": "same"})
    other, _ = make(control={"half": "other"})
    kept = whole.sequence_mask
    # The first token names the row, four of them make a question.
    even = kept & (whole.response[:, 0] // SAMPLES % 2 == 0)
    assert 0 < even.sum() < kept.sum()
    for half, signal in ((same, even), (other, kept & ~even)):
        np.testing.assert_array_equal(half.sequence_mask, even)
        np.testing.assert_array_equal(half.signal_mask, signal)
        for field in ("prompt", "teacher_prompt", "response", "response_mask", "score"):
            np.testing.assert_array_equal(getattr(half, field), getattr(whole, field))


def test_the_signal_may_come_from_failures_alone(make):
    whole, _ = make()
    failures, _ = make(control={"rows": "failures"})
    np.testing.assert_array_equal(failures.sequence_mask, whole.sequence_mask)
    want = whole.sequence_mask & (whole.score == 0)
    assert 0 < want.sum() < whole.sequence_mask.sum()
    np.testing.assert_array_equal(failures.signal_mask, want)


def test_half_of_the_questions_and_failures_go_together(make):
    other, _ = make(control={"half": "other"})
    both, _ = make(control={"half": "other", "rows": "failures"})
    np.testing.assert_array_equal(both.sequence_mask, other.sequence_mask)
    np.testing.assert_array_equal(both.signal_mask, other.signal_mask & (other.score == 0))
    # Questions 1 and 3; of the first one answer is wrong, the other has no teacher.
    assert both.signal_mask.sum() == 1


def test_misleading_solutions(make, shown_wrong):
    honest, metrics = make()
    assert not shown_wrong(honest).any()
    assert metrics["self_distillation/misleading_fraction"] == 0
    lies, metrics = make(control={"misleading": 1.0})
    # The lone wrong answer of the second question cannot teach itself; the third has none.
    want = [True] * 4 + [False] + [True] * 3 + [False] * 4
    np.testing.assert_array_equal(shown_wrong(lies), want)
    assert metrics["self_distillation/misleading_fraction"] == pytest.approx(7 / 12)
    assert metrics["self_distillation/misleading_unavailable"] == 5
    # Which rows are trained, and how they are graded, is not touched.
    np.testing.assert_array_equal(lies.sequence_mask, honest.sequence_mask)
    np.testing.assert_array_equal(lies.score, honest.score)


def test_which_solutions_mislead_is_a_function_of_seed_and_step(make, shown_wrong):
    def wrong(chance, **changes):
        return shown_wrong(make(control={"misleading": chance}, **changes)[0])

    half = wrong(0.5)
    assert 0 < half.sum() < 7
    np.testing.assert_array_equal(wrong(0.5), half)
    assert (wrong(0.8) >= half).all()
    assert any((wrong(0.5, step=step) != half).any() for step in (1, 2, 3))
    assert any((wrong(0.5, seed=seed) != half).any() for seed in (1, 2, 3))


def test_a_wrong_answer_is_one_below_the_threshold(make, shown_wrong):
    """Where the signal comes from, and what misleads: the line is the one for solutions."""
    teacher = {"success_threshold": 0.7}
    changes = {"control": {"misleading": 1.0, "rows": "failures"}, "grade": between(0.9, 0.6)}
    experience, metrics = make(teacher=teacher, **changes)
    np.testing.assert_array_equal(experience.signal_mask[:12], ~RIGHT[:3].ravel())
    assert metrics["self_distillation/misleading_fraction"] == pytest.approx(7 / 12)
    # A lone wrong answer misleads itself if a right one may teach itself.
    alone, _ = make(teacher={**teacher, "exclude_self": False}, **changes)
    np.testing.assert_array_equal(shown_wrong(alone), [True] * 8 + [False] * 4)
