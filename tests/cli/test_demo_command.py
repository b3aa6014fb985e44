import shutil
from pathlib import Path

import pytest

from pgpo_jax.cli import _demo, main

DATA = Path(__file__).parents[1] / "reports" / "data"


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Replaces training by a recorded run, in an empty folder; the configurations trained."""
    seen = []

    def train(config, folder, *, resume=False):
        assert not resume
        seen.append(config)
        shutil.copytree(DATA / config.label, folder)

    monkeypatch.setattr(_demo, "train", train)
    monkeypatch.chdir(tmp_path)
    return seen


def test_both_methods_get_the_same_questions_and_seed(trained, capsys):
    assert main(["demo", "--steps", "7", "--seed", "3", "--alpha", "2.5"]) == 0
    sdpo, pgpo = trained
    assert (sdpo.label, pgpo.label) == ("sdpo", "pgpo")
    assert (sdpo.alpha, pgpo.alpha) == (0.0, 2.5)
    for config in trained:
        assert (config.steps, config.seed, config.model) == (7, 3, "tiny")
        assert config.task == "synthetic:all"
    shown = capsys.readouterr().out
    rows = [line.split()[0] for line in shown.splitlines() if line[:4] in ("SDPO", "PGPO")]
    assert rows == ["SDPO", "PGPO"]
    assert "accuracy before" in shown
    html = Path("runs/demo/report.html").read_text()
    assert "Held-out accuracy" in html


def test_the_collapsing_demo_differs_in_teacher_and_rate_alone(trained, monkeypatch, capsys):
    def train(config, folder, *, resume=False):
        trained.append(config)
        shutil.copytree(DATA / "sdpo", folder)

    monkeypatch.setattr(_demo, "train", train)
    assert main(["demo", "--collapse", "--steps", "7", "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert main(["demo", "--steps", "7", "--seed", "3"]) == 0
    sdpo, brake, plain, _ = trained
    assert (sdpo.alpha, brake.alpha, brake.information.rho_max) == (0.0, 30.0, 1.0)
    for config in (sdpo, brake):
        assert (config.teacher.kind, config.optimizer.learning_rate) == ("live", 3e-4)
        assert (config.steps, config.seed) == (7, 3)
    assert (plain.teacher.kind, plain.optimizer.learning_rate) == ("ema", 1.5e-4)
    assert sdpo.rollout == plain.rollout
    assert "undecided" in shown
    assert "undecided" not in capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line[:5] in ("SDPO ", "BRAKE")] == [
        "SDPO",
        "BRAKE",
    ]


def test_a_second_demo_gets_a_folder_of_its_own(trained, capsys):
    assert main(["demo"]) == main(["demo"]) == main(["demo"]) == 0
    for name in ("demo", "demo-2", "demo-3"):
        assert (Path("runs") / name / "report.html").is_file()
    assert f"report: {Path('runs/demo-3/report.html')}" in capsys.readouterr().out


def test_a_named_folder_is_never_mixed(trained, capsys):
    folder = Path("mine")
    assert main(["demo", "--output", "mine"]) == 0
    (folder / "sdpo" / "old").touch()
    assert main(["demo", "--output", "mine"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "sdpo" / "old").is_file()
    assert main(["demo", "--output", "mine", "--overwrite"]) == 0
    assert not (folder / "sdpo" / "old").exists()


def test_overwrite_deletes_nothing_but_a_demo(trained, capsys):
    folder = Path("thesis")
    folder.mkdir()
    (folder / "chapter.tex").touch()
    (folder / "sdpo").mkdir()
    assert main(["demo", "--output", "thesis", "--overwrite"]) == 2
    assert "chapter.tex" in capsys.readouterr().err
    assert (folder / "sdpo").is_dir()
    assert not trained
    Path("file").touch()
    assert main(["demo", "--output", "file"]) == 2


def test_a_bad_setting_claims_no_folder(trained, capsys):
    assert main(["demo", "--steps", "0"]) == 2
    assert "steps must be positive, got 0" in capsys.readouterr().err
    assert not Path("runs").exists()
