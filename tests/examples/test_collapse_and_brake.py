"""The notebook of the brake: its settings are the study's, and its runs fall and hold."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.sweeps import ControlledConfig
from experiments.sweeps.brake import PRESETS, arms
from pgpo_jax.training import TrainConfig
from tests.examples.notebooks import EXAMPLES, code_cells, run_cells

FILE = EXAMPLES / "collapse_and_brake.ipynb"


@pytest.fixture
def cells():
    return code_cells(FILE)


def of_the_study(arm: str, seed: int) -> ControlledConfig:
    settings = replace(PRESETS["cpu"], settings=("live",), arms=())
    made = {found.name: found for found in arms(settings)}
    return made[f"live-{arm}"].config(seed, lambda *_: pytest.fail("needs no other run"))


def differences(one, other):
    """Names of the fields in which a configuration of the trainer differs from another."""
    one, other = one.to_json(), other.to_json()
    return {name for name in TrainConfig().to_json() if one[name] != other[name]}


def test_the_settings_are_those_of_the_study(cells):
    space = run_cells(FILE, cells[:1])
    for arm, config in (("sdpo", space["sdpo"]), ("brake", space["braked"])):
        assert differences(config, of_the_study(arm, 2006)) == {"steps"}
    # The control: each is the arm that it says.
    assert differences(space["sdpo"], of_the_study("brake", 2006)) == {"information", "steps"}
    assert differences(space["braked"], of_the_study("brake", 2007)) == {"seed", "steps"}


@pytest.mark.slow
def test_one_run_falls_and_the_others_hold(cells, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", plt.close)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    space = run_cells(FILE, cells)

    def values(name, metric):
        return list(space["series"](space["runs"][name], metric).values())

    accuracy = {name: values(name, "eval/accuracy") for name in ("SDPO", "brake", "stop")}
    start = accuracy["SDPO"][0]
    assert accuracy["SDPO"][-1] < start / 2
    assert min(accuracy["brake"][-1], accuracy["stop"][-1]) > start + 0.2
    assert values("SDPO", "pgpo/rho") == [1.0] * space["STEPS"]
    signal = np.array(values("brake", "pgpo/information"))
    np.testing.assert_allclose(
        values("brake", "pgpo/rho"), np.minimum(np.exp(30 * signal), 1), rtol=1e-4
    )
    # The same steps until the first I < 0.
    shared = space["alarm"] - 1
    assert shared >= 5
    assert values("SDPO", "pgpo/information")[:shared] == signal[:shared].tolist()
    assert values("stop", "pgpo/information") == signal[:shared].tolist()
