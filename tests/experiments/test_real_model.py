"""The experiment on a pretrained model: its arms, its report, and what goes before it."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import reading, real_model, shown_rows
from experiments.sweeps import ControlledConfig, changed
from experiments.sweeps.real_model import PRESETS, arms, readable
from pgpo_jax.models import encode
from pgpo_jax.reports import RunRecord, read_run
from pgpo_jax.tasks import load_questions, make_grader, teacher_prompt
from pgpo_jax.training import load_policy
from tests.experiments.conftest import write_run

CONFIG = changed(PRESETS["cpu"], training={"model": "tiny", "task": "synthetic:physics"})


def write_texts(folder, step, responses):
    question = load_questions("synthetic:physics")[0]
    message = {"role": "user", "content": question.prompt}
    asked = {"id": "q", "domain": "", "kind": "", "answer": "B", "messages": [message]}
    grader = make_grader("option")
    with (folder / "texts.jsonl").open("a") as file:
        for response in responses:
            grade = grader(question, response)._asdict()
            row = {"step": step, "split": "test", "question": asked, "response": response}
            file.write(json.dumps(row | {"grade": grade}) + "\n")


def test_arms_differ_in_the_signal_alone(tmp_path):
    write_run(CONFIG.training, tmp_path / "run", [0.2, 0.3], rho=1.5)
    donor = read_run(tmp_path / "run")
    made = {arm.name: arm.config(4, lambda name, seed: donor) for arm in arms(CONFIG)}
    assert all(isinstance(config, ControlledConfig) for config in made.values())
    assert {name: config.alpha for name, config in made.items()} == {
        "sdpo": 0.0,
        "pgpo": CONFIG.alpha,
        "brake": 30.0,
        "constant": CONFIG.alpha,
    }
    assert made["brake"].information.rho_max == 1.0
    replay = np.array(getattr(made["constant"], "control").replay)  # noqa: B009
    np.testing.assert_allclose(np.exp(CONFIG.alpha * replay), 1.5)
    assert len(replay) == CONFIG.training.steps
    base = CONFIG.training
    for name, config in made.items():
        same = changed(config, seed=base.seed, information=vars(base.information))
        same = changed(same, control=vars(base.control))
        assert same == base, name


def test_what_can_be_read_of_the_answers(tmp_path):
    write_run(CONFIG.training, tmp_path / "run", [0.2, 0.3])
    write_texts(tmp_path / "run", 0, ["To determine", "Step 1"])
    write_texts(tmp_path / "run", 8, ["B", "(C", "C:", "A particle"])
    run = read_run(tmp_path / "run")
    assert readable(run, 0) == (0.0, 0.0)
    assert readable(run, 8) == (0.75, 0.5)
    assert np.isnan(readable(run, 20)).all()
    assert np.isnan(readable(RunRecord("a", tmp_path / "none", {}, [], [], {}, []), 0)).all()


@pytest.mark.parametrize("rise", [0.0, 0.2])
def test_a_rise_is_told_and_none_is_not(tmp_path, pretend, rise):
    pretend(lambda config: [0.3, 0.3 + rise, 0.3 + rise])
    output = tmp_path / "sweep"
    assert real_model.main(["--preset", "smoke", "--output", str(output)]) == 0
    results = json.loads((output / "results.json").read_text())
    value, low, high = results["gains"]["pgpo"]
    assert value == pytest.approx(rise)
    assert (low > 0) == (rise > 0)
    assert high < rise + 0.05
    assert results["verdict"].startswith("2 seeds decide nothing")
    assert {c["verdict"] for c in results["comparisons"]} == {"undecided"}
    assert "of the commonest letter" not in results["verdict"]
    assert "commonest letter after" in (output / "report.html").read_text()


@pytest.mark.parametrize("alpha", ["0", "-1", "inf"])
def test_a_brake_that_does_nothing_is_refused(tmp_path, capsys, alpha):
    flags = ["--preset", "smoke", "--brake-alpha", alpha, "--output", str(tmp_path / "x")]
    with pytest.raises(SystemExit) as ended:
        real_model.main(flags)
    assert ended.value.code == 2
    assert "brake_alpha must be positive and finite" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_shown_rows_are_the_teachers_prompts(tmp_path, capsys):
    source, rows = tmp_path / "train.jsonl", tmp_path / "rows.jsonl"
    source.write_text('{"question": "Which?\\nA: one\\nB: two", "answer": "B", "id": 7}\n')
    assert shown_rows.main([str(source), str(rows)]) == 0
    question = load_questions(str(rows))[0]
    assert question.answer == "B"
    assert "Correct solution:\n\nB\n" in question.prompt
    # Nothing is overwritten, and a missing file is told.
    assert shown_rows.main([str(source), str(rows)]) == 2
    assert "must not exist" in capsys.readouterr().err
    assert shown_rows.main([str(tmp_path / "none.json"), str(tmp_path / "new.jsonl")]) == 2
    assert not (tmp_path / "new.jsonl").exists()


def test_a_reading_is_that_of_the_model_alone():
    """Padding and batches change nothing, and the letter is the right one."""
    policy, params = load_policy("tiny", dtype="float32")
    model = nnx.merge(policy.graphdef, params)
    questions = [load_questions("synthetic:physics")[i] for i in range(9)]
    found = reading.read(policy, params, questions)
    for place in (0, 8):
        question = questions[place]
        shown = teacher_prompt(question, solution=question.answer)
        for reader, messages in (
            ("student", question.messages),
            ("teacher", question.messages_with(shown)),
        ):
            ids = np.array([policy.encode(messages)])
            chances = np.asarray(jax.nn.softmax(model(ids, np.ones_like(ids))[0, -1]))
            letters = [chances[encode(policy.tokenizer, x)[0]] for x in "ABCD"]
            right = letters.pop("ABCD".index(question.answer))
            measured = {name: values[place] for name, values in found[reader].items()}
            np.testing.assert_allclose(measured["P(right)"], right, rtol=1e-3)
            np.testing.assert_allclose(measured["mass on letters"], right + sum(letters), rtol=1e-3)
            # The control: no other letter is as probable.
            assert not np.isclose(letters, measured["P(right)"], rtol=1e-2, atol=0).any()
            entropy = -np.sum(chances * np.log(chances))
            np.testing.assert_allclose(measured["entropy (nats)"], entropy, rtol=1e-3, atol=1e-5)
