"""The estimators experiment: exact values against closed forms, the rule, and a smoke run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import binom

from experiments import estimators
from experiments.estimators._advice import advise
from experiments.estimators._discrete import DiscreteConfig, spearman_columns, study_batches
from experiments.estimators._joint import FAMILIES, draw_joint, joint_of
from experiments.estimators._length import enumerate_lengths, position_means
from experiments.estimators._moments import exact_moments
from experiments.estimators._variants import variants, varied_means
from pgpo_jax import information

SMALL = DiscreteConfig(
    vocabularies=(12,),
    information=(0.1,),
    feedbacks=4,
    models=1,
    batches=(1, 8),
    repeats=64,
    temperatures=(),
    top=(),
    mixtures=(),
)


@pytest.mark.parametrize("flip", [0.01, 0.5])
def test_binary_symmetric_channel(x64, flip):
    joint = joint_of(jnp.log(jnp.array([[1 - flip, flip], [flip, 1 - flip]])))
    capacity = np.log(2) + flip * np.log(flip) + (1 - flip) * np.log1p(-flip)
    np.testing.assert_allclose(joint.information, capacity, atol=1e-14)
    moments = exact_moments(joint)
    for name in ("entropy", "kl", "pointwise_teacher"):
        np.testing.assert_allclose(moments[name].mean, capacity, atol=1e-14)
    reverse = rel_entr([0.5, 0.5], [flip, 1 - flip]).sum()
    np.testing.assert_allclose(moments["pointwise_student"].mean, -reverse, atol=1e-14)
    # Of one teacher's word: log(2 (1 - flip)) or log(2 flip).
    spread = np.sqrt(flip * (1 - flip)) * np.log((1 - flip) / flip)
    np.testing.assert_allclose(moments["pointwise_teacher"].sd, spread, atol=1e-14)


@pytest.mark.slow
def test_a_channel_without_noise_and_one_without_signal(x64):
    certain = jnp.where(jnp.eye(4, dtype=bool), 0.0, -jnp.inf)
    np.testing.assert_allclose(joint_of(certain).information, np.log(4), atol=1e-14)
    np.testing.assert_allclose(joint_of(jnp.zeros((3, 5))).information, 0.0, atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_drawn_model_has_the_information_aimed_at(x64, key, family):
    joint = draw_joint(key, family, 12, 4, jnp.float64(0.1))
    assert abs(float(joint.information) - 0.1) < 1e-4
    p, q = np.exp(joint.student), np.exp(joint.teachers)
    np.testing.assert_allclose(p, q.mean(0), atol=1e-14)
    np.testing.assert_allclose(joint.information, rel_entr(q, p).sum(1).mean(), atol=1e-14)


@pytest.mark.slow
def test_the_words_before_are_summed_over(x64, key):
    """The chain rule: all words together tell what their number of ones tells."""
    joint = draw_joint(key, "dense", 2, 4, jnp.float64(0.1))
    lengths = enumerate_lengths(joint, 6)
    ones = np.exp(np.asarray(joint.teachers[:, 1]))
    of_six = binom.pmf(np.arange(7), 6, ones[:, None])
    whole = rel_entr(of_six, of_six.mean(0)).sum(1).mean()
    np.testing.assert_allclose(lengths.information.sum(), whole, atol=1e-12)
    paired, rollouts = (position_means(lengths, law) for law in ("paired", "rollouts"))
    for name in ("entropy", "kl"):
        np.testing.assert_allclose(paired[name], lengths.information, atol=1e-12)
    # Feedback that does not explain the words before it: too much divergence from position 2 on.
    assert (rollouts["kl"][1:] > paired["kl"][1:] + 1e-4).all()


@pytest.mark.slow
def test_truncated_logits(x64, key):
    joint = draw_joint(key, "dense", 12, 4, jnp.float64(0.1))
    kinds = {(v.kind, v.setting): v for v in variants((), (3, 12))}
    kl = {
        name: float(varied_means(joint.student, joint.teachers, v.prepare)["kl"])
        for name, v in kinds.items()
    }
    truth = float(joint.information)
    assert abs(kl["none", "float32"] - truth) < 1e-6
    assert abs(kl["top k and tail", "12"] - truth) < 1e-6
    # Merging words can only lose information.
    assert 0 < kl["top k and tail", "3"] < truth


@pytest.mark.slow
def test_drawn_batches_agree_with_enumeration_and_the_rule_follows(x64, key):
    rows = study_batches(SMALL, key)["moments"]
    assert max(abs(row["z"]) for row in rows) < 4.5
    assert all(row["negative"][0] == 0 for row in rows if row["estimator"] in ("kl", "js"))
    assert any(row["negative"][0] > 0.1 for row in rows if row["estimator"] == "entropy")
    advice = advise(rows)
    admissible = {r["estimator"]: r["admissible"] for r in advice["estimators"]}
    assert admissible == {
        "entropy": True, "kl": True, "js": False,
        "pointwise_teacher": True, "pointwise_student": False,
    }  # fmt: skip
    assert advice["recommended"] == "kl"


@pytest.mark.slow
def test_a_wrong_estimator_is_caught(x64, key, monkeypatch):
    """Negative control: the divergence the other way round has another mean."""
    right = information.ESTIMATORS["kl"]
    monkeypatch.setitem(
        information.ESTIMATORS, "kl", lambda student, teacher, _: right(teacher, student, None)
    )
    jax.clear_caches()
    joint = joint_of(jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]])))
    moments = exact_moments(joint)
    row = {"family": "-", "vocabulary": 2, "aim": 0.0, "batch": 1}
    row["information"] = float(joint.information)
    rows = [
        row | {"estimator": n, "bias": float(m.mean) - row["information"],
               "standard_error": float(m.sd)}
        for n, m in moments.items()
    ]  # fmt: skip
    monkeypatch.undo()
    jax.clear_caches()
    verdicts = {r["estimator"]: r["admissible"] for r in advise(rows)["estimators"]}
    assert verdicts["entropy"]
    assert not verdicts["kl"]


def test_spearman():
    truth = np.array([3.0, 1.0, 2.0])
    np.testing.assert_allclose(spearman_columns(truth, np.stack([truth**3, -truth, truth * 0], 1)),
                               [1, -1, 0])  # fmt: skip


@pytest.mark.slow
def test_smoke_run(tmp_path, capsys):
    code = estimators.main(
        [
            *("--preset", "smoke", "--output", str(tmp_path), "--run", "x"),
            *("--discrete.vocabularies", "2", "--discrete.mixtures", "2"),
            *("--language.questions", "2", "--language.top", "--language.temperatures"),
        ]
    )
    assert code == 0
    assert "recommended: kl" in capsys.readouterr().out
    folder = tmp_path / "x"
    assert json.loads((folder / "config.json").read_text())["discrete"]["vocabularies"] == [2]
    assert "kl_gain" in (folder / "README.md").read_text()
    page = (folder / "report.html").read_text()
    assert "Along a run" in page
    assert "<script" not in page
    results = json.loads((folder / "results.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["advice"]["batch"] == results["advice"]["batch"]
    for row in results["language"]["estimates"]:
        bias, truth = row["bias"][0], row["information"][0]
        if row["student"] == "mixture" and row["estimator"] in ("entropy", "kl"):
            assert abs(bias) < 1e-5 < truth
        if row["student"] == "model" and row["estimator"] == "kl":
            # By KL(mixture || model).
            assert bias > 0
    # The recorded signal is the one the trainer's step reports.
    entropy = next(
        row for row in results["runs"]["multipliers"]
        if row["estimator"] == "entropy" and row["reduction"] == "sequence_mean"
    )  # fmt: skip
    (reported,) = results["runs"]["reported"]
    np.testing.assert_allclose(entropy["information"], reported, rtol=1e-4)
    assert len(reported) == 3


def test_requests_that_are_refused(tmp_path, capsys):
    assert estimators.main(["--parts", "--output", str(tmp_path)]) == 2
    assert "at least one part" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
