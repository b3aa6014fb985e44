"""The table of the paper: its selection rules on runs whose truth is known."""

import json

import numpy as np
import pytest

from experiments import science_qa
from experiments.sweeps.science_qa import PRESETS, arms, domain_of, methods, quote, selection
from pgpo_jax.reports import RunRecord


def record(tmp_path, by_step):
    scores = {
        step: {f"q{i}": value for i, value in enumerate(values)} for step, values in by_step.items()
    }
    return RunRecord("a", tmp_path, {}, [], [], scores, [])


def test_rules_by_hand(tmp_path):
    # Questions 0 and 2 are validation, 1 and 3 test.
    run = record(
        tmp_path,
        {
            0: [0.9, 0.9, 0.9, 0.9],
            4: [0.2, 0.8, 0.2, 0.6],
            8: [0.7, 0.5, 0.5, 0.3],
            12: [0.5, 0.1, 0.5, 0.3],
        },
    )
    found = {rule: scores.tolist() for rule, scores in quote(run).items()}
    assert found == {
        "fixed step": [0.1, 0.3],
        "best on validation": [0.5, 0.3],
        "best on test": [0.8, 0.6],
    }


def test_of_equal_evaluations_the_earliest_is_quoted(tmp_path):
    run = record(tmp_path, {0: [0.9, 0.9], 4: [0.5, 0.8], 8: [0.5, 0.7], 12: [0.4, 0.8]})
    assert quote(run)["best on validation"].tolist() == [0.8]


def test_selection_is_seen_where_there_is_nothing_to_find(tmp_path):
    """Pure noise: choosing on the test split gains, and gains alike with alphas and with seeds."""
    rng = np.random.default_rng(0)
    names, domains = ["sdpo", "pgpo 1", "pgpo 2", "pgpo 3"], ["a", "b", "c", "d"]

    def noise():
        return quote(record(tmp_path, {s: 0.7 + 0.1 * rng.standard_normal(40) for s in range(7)}))

    quoted = {f"{d}-{n}": [noise() for _ in range(12)] for d in domains for n in names}
    found = selection(quoted, domains, names)
    assert found["evaluation"].low > 0
    assert found["alpha"].low > 0
    assert found["alpha"].value == pytest.approx(found["seed"].value, abs=0.01)
    assert found["alpha"].value == pytest.approx(found["noise"].value, abs=0.01)
    assert found["fixed"].low < 0 < found["fixed"].high


def test_what_selection_adds_among_runs_that_share_a_seed(tmp_path):
    """Alphas of one seed differ by less than seeds do; a true effect is not called noise."""
    rng = np.random.default_rng(1)
    names = ["sdpo", "pgpo 1", "pgpo 2", "pgpo 3"]
    level = 0.05 * rng.standard_normal(40)

    def run(seed, effect):
        accuracy = 0.6 + level[seed] + effect + 0.01 * rng.standard_normal()
        return quote(record(tmp_path, {step: np.full(20, accuracy) for step in range(2)}))

    quoted = {
        f"a-{name}": [run(seed, 0.2 * (name == "pgpo 3")) for seed in range(40)] for name in names
    }
    found = selection(quoted, ["a"], names)
    assert found["alpha"].value == pytest.approx(0.2, abs=0.02)
    # The expectation of the largest of three is .85 standard deviations above their mean; their
    # differences share the deviation of SDPO, which does not add to it.
    assert found["noise"].value == pytest.approx(0.85 * 0.01, abs=0.004)
    assert found["seed"].value > 3 * found["noise"].value


def test_names_and_doses():
    config = PRESETS["cpu"]
    assert domain_of("data/sciknoweval/physics/train.json") == "physics"
    built = {arm.name: arm.config(2, None) for arm in arms(config)}
    assert len(built) == 4 * len(methods(config)) == 24
    assert built["biology-sdpo"].alpha == 0
    assert built["biology-pgpo 1.5"].information.rho_max == 2
    assert built["biology-pgpo 5"].information.rho_max == 4
    assert built["biology-pgpo 5"].task == "synthetic:biology"
    paper = {arm.name: arm.config(0, None) for arm in arms(PRESETS["paper"])}
    assert paper["physics-pgpo 1.5"].model == "Qwen/Qwen3-8B"
    assert paper["physics-pgpo 1.5"].task == "data/sciknoweval/physics/train.json"


def test_a_method_that_is_better_is_found(tmp_path, pretend, capsys):
    pretend(lambda config: [0.5, 0.6 + 0.01 * config.alpha, 0.7 + 0.02 * config.alpha])
    flags = ["--preset", "smoke", "--seeds", "6", "--output", str(tmp_path)]
    assert science_qa.main(flags) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    verdicts = {c["name"]: c["verdict"] for c in results["all domains"]}
    assert verdicts["pgpo 5 − sdpo"] == "better"
    assert len(results["table"]) == 6
    page = (tmp_path / "report.html").read_text()
    assert "best on validation" in page


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--alphas"], "alphas must be positive, at least one, got ()"),
        (["--alphas", "1", "0"], "alphas must be positive, at least one, got (1.0, 0.0)"),
        (["--training.evaluation.questions", "1"], "must be at least 2, for two"),
    ],
)
def test_requests_that_no_table_could_come_of(tmp_path, capsys, flags, rule):
    with pytest.raises(SystemExit):
        science_qa.main([*flags, "--output", str(tmp_path / "sweep")])
    assert rule in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
