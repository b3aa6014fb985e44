"""The figure of the brake's runs: what it tells of a folder, and that the committed one is true."""

import dataclasses
import re

import pytest

from experiments import brake_figure
from experiments.brake_figure import FIGURE, main, middle, paired_runs
from experiments.sweeps import changed
from experiments.sweeps.brake import PRESETS
from tests.experiments.conftest import write_run

ROOT = FIGURE.parents[2]
START, FALLS = 0.4, [0.4, 0.8, 0.1, 0.0]


def write_runs(folder, curves, arms=("sdpo", "brake")):
    """`runs/` of a sweep, with the accuracies of each arm by seed."""
    training = changed(PRESETS["cpu"].training, steps=15, information={"alpha": 30.0})
    for arm, by_seed in zip(arms, curves, strict=True):
        for seed, accuracies in by_seed.items():
            config = dataclasses.replace(training, seed=seed)
            run = folder / f"live-{arm}" / f"seed{seed}"
            write_run(config, run, accuracies, signal=[0.1] * 6 + [-0.1] * 9)
            (run / "done.json").write_text("{}")
    return folder


def holds(last):
    return [START, 0.8, 0.85, last]


@pytest.fixture
def runs(tmp_path):
    fallen = dict.fromkeys((1, 2, 3), FALLS)
    return write_runs(tmp_path / "runs", (fallen, {1: holds(0.9), 2: holds(0.5), 3: FALLS}))


def test_the_figure_tells_how_many_collapse(runs, tmp_path, capsys):
    output = tmp_path / "figure.svg"
    assert main(["--runs", str(runs), "--output", str(output)]) == 0
    text = output.read_text()
    assert "SDPO: 3 of 3 runs collapse" in text
    assert "SDPO with the brake: 1 of 3 runs collapse" in text
    assert text.count("first I &lt; 0") == 2
    # Seed 3 gains nothing and seed 1 the most.
    assert capsys.readouterr().out == "3 seeds, thick: seed2\n"
    main(["--runs", str(runs), "--output", str(tmp_path / "again.svg")])
    assert (tmp_path / "again.svg").read_text() == text


def test_a_seed_without_its_pair_is_left_out(runs):
    write_runs(runs, ({9: FALLS},), arms=("sdpo",))
    records = paired_runs(runs)
    assert {arm: [run.name for run in of_arm] for arm, of_arm in records.items()} == {
        "sdpo": ["seed1", "seed2", "seed3"],
        "brake": ["seed1", "seed2", "seed3"],
    }
    write_runs(runs, ({9: holds(0.0)},), arms=("brake",))
    # Of four the upper one of the two in the middle.
    assert paired_runs(runs)["brake"][middle(paired_runs(runs))].name == "seed2"


def test_a_folder_without_pairs_is_refused(tmp_path, capsys):
    write_runs(tmp_path, ({1: FALLS},), arms=("sdpo",))
    output = tmp_path / "figure.svg"
    assert main(["--runs", str(tmp_path), "--output", str(output)]) == 2
    assert "must have a seed with finished runs of live-sdpo and live-brake" in (
        capsys.readouterr().err
    )
    assert not output.exists()


def test_the_committed_figure_is_of_the_packed_runs(tmp_path):
    runs = brake_figure.unpacked(brake_figure.ARCHIVE, tmp_path)
    records = paired_runs(runs)
    titles = re.findall(r">([^<>]+ runs collapse)<", FIGURE.read_text())
    assert titles == ["SDPO: 23 of 24 runs collapse", "SDPO with the brake: 2 of 24 runs collapse"]
    drawn = brake_figure.figure(records)
    assert [panel.get_title() for panel in drawn.axes] == titles
    # The captions name the seed, and where the brake's runs end.
    assert records["brake"][middle(records)].name == "seed2006"
    ends = [[interval.value for _, interval in run.accuracies()] for run in records["brake"]]
    low = [of_run for of_run in ends if of_run[-1] < max(of_run) / 2]
    assert len(low) == 4
