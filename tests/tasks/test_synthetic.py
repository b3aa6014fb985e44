"""The synthetic source: determinism, validity of each question, and the split by operands."""

import itertools
import subprocess
import sys

import pytest

from pgpo_jax.tasks import grade, load_questions
from pgpo_jax.tasks.synthetic import (
    DOMAINS,
    KINDS,
    MAX_VALUE,
    OPENERS,
    Calculation,
    SyntheticQuestions,
    held_out,
    operand_split,
    solution_text,
)

NAMED_KINDS = [(domain, kind) for domain, kinds in KINDS.items() for kind in kinds]
by_kind = pytest.mark.parametrize(
    ("domain", "kind"), NAMED_KINDS, ids=[kind.name for _, kind in NAMED_KINDS]
)


def _problems(split, count=300, domain="all"):
    source = SyntheticQuestions(domain, split=split, seed=3)
    return [source.problem(i) for i in range(count)]


def test_the_same_index_gives_the_same_question_in_any_order():
    first, second = SyntheticQuestions("all", seed=5), SyntheticQuestions("all", seed=5)
    forwards = [first[i] for i in range(20)]
    backwards = [second[i] for i in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert first[10**12] == second[10**12]
    assert list(itertools.islice(first, 20)) == forwards


def test_streams_differ_by_seed_and_index():
    prompts = {SyntheticQuestions("all", seed=s)[i].prompt for s in range(3) for i in range(50)}
    assert len(prompts) == 150


def test_questions_do_not_depend_on_hash_randomisation():
    code = (
        "from pgpo_jax.tasks.synthetic import SyntheticQuestions as S;"
        "print([S('all', split=s, seed=1)[i] for s in ('train', 'test') for i in range(30)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "SciKnow" not in outputs.pop()


@pytest.mark.parametrize("split", ["train", "test"])
def test_options_hold_the_answer_and_both_misconceptions_once(split):
    for problem in _problems(split):
        assert len(problem.methods) == 3
        assert len(set(problem.values)) == 3
        assert len(set(problem.options)) == len(problem.options) == 4
        assert set(problem.values) <= set(problem.options)
        assert all(2 <= value <= MAX_VALUE for value in problem.options)
        assert problem.values[0] == problem.answer


def test_a_question_shows_its_problem():
    source = SyntheticQuestions("all", split="train", seed=3)
    for index in range(200):
        question, problem = source[index], source.problem(index)
        lines = question.prompt.splitlines()
        options = dict(line.split(": ") for line in lines if line[1:2] == ":")
        assert options == {
            letter: str(value) for letter, value in zip("ABCD", problem.options, strict=True)
        }
        assert options[question.answer] == str(problem.answer)
        assert question.domain == problem.domain
        assert question.kind == problem.kind
        numbers = {int(word.strip(",.%:")) for word in problem.text.split() if word[0].isdigit()}
        right = problem.methods[0]
        assert {right.left, right.right} <= numbers


def test_a_question_gives_the_results_of_all_methods_in_no_telling_order():
    source = SyntheticQuestions("all", split="test", seed=3)
    places = set()
    for index in range(200):
        question, problem = source[index], source.problem(index)
        line = next(x for x in question.prompt.splitlines() if x.startswith("Given:"))
        given = {entry.strip() for entry in line.removeprefix("Given:").rstrip(".").split(",")}
        assert given == {f"{m.name} {m.value}" for m in problem.methods}
        places.add(problem.table.index(problem.methods[0]))
    assert places == {0, 1, 2}


def test_solutions_are_graded_by_their_method():
    for form in ("letters", "open"):
        source = SyntheticQuestions("all", split="test", form=form)
        for index in range(60):
            question, problem = source[index], source.problem(index)
            for opener in OPENERS:
                scores = [
                    grade(solution_text(problem, m, form, opener=opener), question.answer).score
                    for m in problem.methods
                ]
                assert scores == [1.0, 0.0, 0.0]


@by_kind
def test_each_kind_serves_both_splits(domain, kind):
    del domain
    assert len(kind.cases["train"]) >= 15
    assert len(kind.cases["test"]) >= 3


@by_kind
def test_no_operands_or_facts_of_the_test_split_in_training(domain, kind):
    """All cases of the kind, against all test cases of all kinds."""
    del domain
    tested = {
        frozenset((right.left, right.right))
        for _, other in NAMED_KINDS
        for operands in other.cases["test"]
        for right in other.methods(*operands)[:1]
    }
    facts = {
        frozenset(right.family)
        for _, other in NAMED_KINDS
        for operands in other.cases["test"]
        for right in other.methods(*operands)[:1]
    }
    for operands in kind.cases["train"]:
        for method in kind.methods(*operands):
            assert frozenset((method.left, method.right)) not in tested
            assert frozenset(method.family) not in facts


def test_the_leak_check_sees_a_leak():
    """Negative control: a split by index would share operands."""
    seen = {p.methods[0] for p in _problems("train", 1500)}
    later = SyntheticQuestions("all", split="train", seed=3)
    assert any(later.problem(i).methods[0] in seen for i in range(2000, 2050))


def test_drawn_questions_stay_in_their_split():
    for problem in _problems("test", 400):
        right = problem.methods[0]
        assert operand_split(right.left, right.right) == "test"
    for problem in _problems("train", 400):
        assert not any(held_out(method) for method in problem.methods)
    prompts = [
        {SyntheticQuestions("all", split=split)[i].prompt for i in range(500)}
        for split in ("train", "test")
    ]
    assert not prompts[0] & prompts[1]


def test_a_fact_is_held_out_in_every_guise():
    pair = next((x, y) for x in range(2, 11) for y in range(2, x) if operand_split(x, y) == "test")
    x, y = pair
    assert held_out(Calculation(x, "*", y))
    assert held_out(Calculation(y, "+", x))
    assert held_out(Calculation(x * y, "/", y))
    assert held_out(Calculation(x + y, "-", x))


def test_domains():
    for domain in KINDS:
        assert {q.domain for q in itertools.islice(load_questions(f"synthetic:{domain}"), 40)} == {
            domain
        }
    mixture = {p.kind for p in _problems("train")}
    assert mixture == {kind.name for _, kind in NAMED_KINDS}
    assert len(mixture) == len(NAMED_KINDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "astrology"}, "domain must be one of physics.*astrology"),
        ({"split": "valid"}, "split must be one of train, test.*valid"),
        ({"form": "essay"}, "form must be one of letters, open.*essay"),
        ({"seed": True}, "seed must be an int.*True"),
    ],
)
def test_unknown_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticQuestions(**{"domain": "all", **arguments})


def test_bad_indices_are_refused():
    source = SyntheticQuestions(DOMAINS[0])
    with pytest.raises(ValueError, match=r"at least 0.*-1"):
        source[-1]
    with pytest.raises(ValueError, match="no slices"):
        source[:3]
    assert len(source) == sys.maxsize
    with pytest.raises(TypeError):
        source["0"]


def test_open_questions_show_no_options():
    question = SyntheticQuestions("all", form="open")[0]
    assert "A:" not in question.prompt
    assert question.answer.isdigit()
