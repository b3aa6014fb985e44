"""What the shipped model is made from: the tokenizer, the rows, and that the split holds there."""

import pytest
from hypothesis import given, settings, strategies as st

from experiments.pretrain_tiny import Corpus, build_tokenizer
from pgpo_jax.tasks.synthetic import KINDS, MAX_VALUE, NAMES, held_out

TOKENIZER = build_tokenizer()
COUNTS = {"chat": 20, "unaided": 60, "aided": 60, "tables": 60, "lookups": 4}


@pytest.fixture(scope="module")
def rows():
    return Corpus(TOKENIZER, seed=1).batch(COUNTS, deviating=0.5)


def questions(split):
    """Every question text that the split can ask."""
    return {
        kind.text.format(**dict(zip("abc", operands, strict=False)))
        for kinds in KINDS.values()
        for kind in kinds
        for operands in kind.cases[split]
    }


def test_no_row_shows_a_question_of_the_test_split(rows):
    shown = set()
    for name in ("chat", "unaided", "aided"):
        for row in rows[name].tokens:
            text = TOKENIZER.decode(row.tolist())
            shown.add(text.partition("user\n")[2].partition("\nGiven:")[0])
    assert len(shown) > 60
    assert not shown & questions("test")
    # Negative control: the check does recognise the questions that rows show.
    assert shown <= questions("train")


def test_problems_come_from_the_train_split():
    corpus = Corpus(TOKENIZER, seed=2)
    assert corpus.questions.split == "train"
    for _ in range(200):
        assert not any(held_out(method) for method in corpus.problem().methods)


def test_rows_repeat_with_the_seed(rows):
    again = Corpus(TOKENIZER, seed=1).batch(COUNTS, deviating=0.5)
    other = Corpus(TOKENIZER, seed=2).batch(COUNTS, deviating=0.5)
    for name, block in rows.items():
        assert (again[name].tokens == block.tokens).all()
    assert any((other[name].tokens != rows[name].tokens).any() for name in rows)


def test_only_the_response_counts_and_deviations_from_where_they_begin(rows):
    start = TOKENIZER.token_to_id("<|im_start|>")
    deviating = 0
    for tokens, weights in zip(rows["aided"].tokens, rows["aided"].weights, strict=True):
        answer = max(i for i, token in enumerate(tokens) if token == start) + 2
        first = int((weights > 0).argmax())
        assert first >= answer
        deviating += first > answer
    assert 15 < deviating < 45


def test_values_letters_and_phrases_are_single_tokens():
    values = [f" {value}" for value in range(MAX_VALUE + 1)]
    names = [f" {name}" for name in NAMES.values()]
    for text in (*values, *names, " [C]", "\nA:", "\nGiven:"):
        assert len(TOKENIZER.encode(text).ids) == 1, text


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_comes_back_unchanged(text):
    encoded = TOKENIZER.encode(text, add_special_tokens=False)
    if "<|" not in text:
        assert TOKENIZER.decode(encoded.ids, skip_special_tokens=False) == text
