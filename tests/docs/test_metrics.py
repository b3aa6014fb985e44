"""Every metric that a run can log is in docs/metrics.md, with the objectives that log it."""

import ast
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo
from pgpo_jax.distillation import HeadLoss, PolicyLoss
from pgpo_jax.training import (
    OBJECTIVES,
    PUBLISHED,
    Experience,
    LossConfig,
    ObjectiveSections,
    TeacherConfig,
    TrainConfig,
)
from pgpo_jax.training.rollout._batch import rollout_metrics
from pgpo_jax.training.update._step import _multiplier_metrics
from tools.docs.glossary import GLOSSARY, glossary
from tools.docs.public_api import ROOT

ROWS, TOKENS = 4, 3
COLUMNS = ("advantage", "mix", "distil", "by_entropy", "sampled")


class NumbersPerRow(dict):
    """Whatever number per row an objective asks for."""

    def __missing__(self, name):
        return np.ones(ROWS)


def experience():
    tokens, mask = np.zeros((ROWS, TOKENS), np.int32), np.ones((ROWS, TOKENS), bool)
    prompts = (tokens, mask) * 3
    logprobs, rows = np.zeros((ROWS, TOKENS), np.float32), np.ones(ROWS, bool)
    columns = {name: np.ones(ROWS, np.float32) for name in COLUMNS}
    batch = Experience(*prompts, logprobs, rows, rows, np.ones(ROWS, np.float32), columns)
    return jax.tree.map(jnp.asarray, batch)


def result_of(name):
    """What `loss_of_rows` of an objective gives."""
    number, per_token = jnp.ones(()), jnp.ones((ROWS, TOKENS))
    kinds = {"grpo": PolicyLoss, "rltf": PolicyLoss, "sft": PolicyLoss}
    if name in kinds:
        return kinds[name](number, per_token, per_token)
    numbers = {"contrast": per_token, "moved": per_token}
    per_row = [per_token] * 8
    return HeadLoss(number, number, number, jnp.ones((), jnp.int32), *per_row, numbers=numbers)


def objective_of(name):
    """An objective with all settings that add metrics."""
    other = name in ("opd", "reopold")
    teacher = TeacherConfig(kind="external", model="m") if other else TeacherConfig()
    published = PUBLISHED[name]["loss"] if name in ("reopold", "rlcsd") else {}
    loss = LossConfig(**published, overlap_k=2)
    made = OBJECTIVES[name](ObjectiveSections(teacher, loss, TrainConfig().information))
    # Some refuse these when they are made. A router refuses weights in every run.
    weights = {} if name in ("srpo", "drift") else {"modulation": "token", "weight": "position"}
    changes = {"loss": dataclasses.replace(made.loss, **weights)}
    if made.teacher_settings is not None:
        changes["teacher"] = dataclasses.replace(made.teacher, feedback=True)
    return dataclasses.replace(made, **changes)


def logged(name):
    """The metrics of an objective, those of the multiplier included, by calling what logs them."""
    objective, batch, out = objective_of(name), experience(), result_of(name)
    measured = objective.signal(out, batch)
    state = pgpo.pgpo(optax.sgd(0.1)).init({"w": jnp.zeros(2)})
    return {
        *objective.metrics(out, batch),
        *objective.row_metrics(NumbersPerRow(), 2),
        *_multiplier_metrics(measured, state, state, state),
        *rollout_metrics(NumbersPerRow()),
    }


def names_in(folder):
    """The names `group/name` that stand as keys in the source, of a dictionary or an assignment."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            keys = node.keys if isinstance(node, ast.Dict) else []
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                keys = [node.slice]
            found |= {key.value for key in keys if isinstance(key, ast.Constant)}
    return {name for name in found if re.fullmatch(r"[a-z_]+/[a-z0-9_]+", str(name))}


@pytest.fixture(scope="module")
def by_objective():
    return {name: logged(name) for name in OBJECTIVES}


def objectives_named(logged_by):
    """The objectives that a cell of the page means, with the words that the page explains."""
    # A setting may be named behind the objectives.
    some, _, others = logged_by.strip().partition(" with ")[0].partition(" but ")
    if others:
        return objectives_named(some) - objectives_named(others)
    teachers = {"sdpo", "opsd", "sdft", "opcd", "rlsd", "rlcsd", "srpo", "drift"}
    teachers |= {"opd", "reopold"}
    words = {"all": set(OBJECTIVES), "teachers": teachers, "shown": teachers - {"opd", "reopold"}}
    return set().union(*(words.get(part) or {part.strip("`")} for part in some.split(", ")))


def differences(page, in_source, by_objective):
    """What the page lacks, has too much of, or says wrongly of who logs it."""
    told, of_objectives = glossary(page), set().union(*by_objective.values())
    real = in_source | of_objectives
    wrong = [
        name
        for name in sorted(told.keys() & real)
        if objectives_named(told[name])
        != {o for o in OBJECTIVES if name in by_objective[o] or name not in of_objectives}
    ]
    return sorted(real - told.keys()), sorted(told.keys() - real), wrong


def test_the_glossary_has_every_metric_and_who_logs_it(by_objective):
    in_source = names_in(ROOT / "pgpo_jax" / "training")
    assert len(in_source) > 50
    assert differences(GLOSSARY.read_text(), in_source, by_objective) == ([], [], [])


def test_a_metric_that_is_not_in_the_page_is_told(by_objective, tmp_path):
    page, in_source = GLOSSARY.read_text(), names_in(ROOT / "pgpo_jax" / "training")
    row = "| `time/step` | seconds | the whole step | all |\n"
    assert row in page
    assert differences(page.replace(row, ""), in_source, by_objective) == (["time/step"], [], [])
    source = 'def metrics():\n    made = {"policy/new": 1, "a b/c": 2}\n    made["policy/x"] = 3'
    (tmp_path / "new.py").write_text(source)
    more = in_source | names_in(tmp_path)
    assert differences(page, more, by_objective) == (["policy/new", "policy/x"], [], [])
    logs_more = by_objective | {"sft": by_objective["sft"] | {"sft/new"}}
    assert differences(page, in_source, logs_more) == (["sft/new"], [], [])


def test_a_row_that_is_wrong_is_told(by_objective):
    page, in_source = GLOSSARY.read_text(), names_in(ROOT / "pgpo_jax" / "training")
    extra = "| `time/old` | seconds | what it was | all |\n"
    assert differences(page + extra, in_source, by_objective) == ([], ["time/old"], [])
    wrong = page.replace("items | length of the experience list | `opcd`", "items | length | `sft`")
    told = differences(wrong, in_source, by_objective)
    assert told == ([], [], ["self_distillation/experience_items"])
    with pytest.raises(ValueError, match="'time/old' stands twice"):
        glossary(extra + extra)
