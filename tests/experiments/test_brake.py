"""The brake: its settings and arms, the verdicts on made-up runs, the alarm, and its sittings."""

import doctest
import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments import brake
from experiments.sweeps import _shares, _sweep, changed, compare_shares, detectable_share, share
from experiments.sweeps.brake import (
    ARMS,
    CONTROLS,
    CORE,
    PRESETS,
    SETTINGS,
    VARIANTS,
    Alarm,
    _schedules,
    _settings,
    alarm_in,
    alarm_verdict,
    arms,
    as_signal,
    best_step,
    cause,
    cosine,
    costs,
    in_words,
    level,
    measured,
    neighbour,
    saves,
    taken,
)
from pgpo_jax import multiplier
from pgpo_jax.reports import RunRecord, read_run
from tests.experiments.conftest import write_run

CPU = PRESETS["cpu"]
SEEDS = range(2000, 2024)
FALLS, HOLDS, CLIMBS = [0.4, 0.8, 0.1, 0.0], [0.4, 0.8, 0.85, 0.85], [0.4, 0.5, 0.6, 0.3]


@pytest.mark.parametrize("module", [_shares, _schedules, _settings])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


# Shares


def test_shares_are_compared_by_the_pairs_that_differ():
    fell = {"a": np.arange(24) < 10, "b": np.arange(24) < 1, "c": np.arange(24) < 10}
    found = compare_shares(fell, [("b", "a"), ("a", "c")])
    assert (found[0].only_first, found[0].only_second) == (0, 9)
    assert found[0].p_value == pytest.approx(2 * 0.5**9)
    assert found[0].adjusted == pytest.approx(2 * found[0].p_value)
    assert found[0].verdict == "fewer"
    assert found[0].difference.value == pytest.approx(-9 / 24)
    assert found[0].difference.high < 0
    assert (found[1].p_value, found[1].verdict) == (1.0, "undecided")
    assert compare_shares(fell, [("a", "b")])[0].verdict == "more"
    # Five that all differ are too few, whatever the test says.
    few = {"a": np.ones(5, bool), "b": np.zeros(5, bool)}
    assert compare_shares(few, [("a", "b")])[0].verdict == "undecided"


def test_the_power_that_is_told_is_there():
    rng = np.random.default_rng(0)
    seeds, family = 24, len(CONTROLS)
    told = detectable_share(seeds, family)
    differ = (rng.random((4000, seeds)) < told).sum(1)
    found = np.mean(2 * 0.5 ** differ.astype(float) <= 0.05 / family)
    assert found == pytest.approx(0.8, abs=0.03)
    assert f"{told:.2f}".lstrip("0") in brake.__doc__
    # A smaller one is found less often.
    fewer = (rng.random((4000, seeds)) < told - 0.1).sum(1)
    assert np.mean(2 * 0.5 ** fewer.astype(float) <= 0.05 / family) < 0.6


def test_a_share_needs_runs():
    assert share(3, 4).low == pytest.approx(0.1941, abs=1e-4)
    with pytest.raises(ValueError, match="a share needs at least 1 run, got 0"):
        share(0, 0)


# Schedules and settings


def test_a_schedule_is_what_the_multiplier_makes_of_its_signal():
    rho = np.array([1.0, 0.5, 1e-3, 0.0])
    signal = np.array(as_signal(rho, 30.0), np.float32)
    np.testing.assert_allclose(multiplier(signal, 30.0, 1.0), rho, rtol=1e-4, atol=0)
    assert float(multiplier(signal[0], 30.0, 1.0)) == 1.0


@pytest.mark.parametrize("total", [1.0, 7.3, 29.0, 30.5, 31.0, 60.0])
def test_a_cosine_falls_and_has_its_sum(total):
    rho = cosine(total, 60)
    assert rho.sum() == pytest.approx(total, abs=1e-5)
    assert (np.diff(rho) <= 1e-12).all()
    assert rho[0] == 1.0
    assert rho.min() >= 0


def multipliers(folder, rho, applied, steps):
    rows = [
        {"step": i + 1, "pgpo/rho": r, "optimizer/applied": a}
        for i, (r, a) in enumerate(zip(rho, applied, strict=True))
    ]
    return taken(RunRecord("a", folder, {}, rows, [], {}, []), steps).tolist()


def test_a_run_that_was_stopped_keeps_its_last_multiplier(tmp_path):
    assert multipliers(tmp_path, [1.0, 0.25], [1.0, 1.0], 4) == [1.0, 0.25, 0.25, 0.25]


def test_a_step_that_trained_nothing_has_the_multiplier_of_the_last_that_did(tmp_path):
    # Its own, 1, comes of a signal of 0: a constant of equal mean would be too large by it.
    given = [1.0, 0.25, 1.0, 0.5, 1.0]
    assert multipliers(tmp_path, given, [0.0, 1.0, 0.0, 1.0, 0.0], 5) == [1, 0.25, 0.25, 0.5, 0.5]
    assert multipliers(tmp_path, given, [1.0] * 5, 5) == given


def test_the_best_step_is_the_first_of_the_highest(tmp_path):
    config = changed(CPU.training, steps=15)
    write_run(config, tmp_path / "run", [0.4, 0.8, 0.8, 0.1])
    assert best_step(read_run(tmp_path / "run")) == 5


def test_levels_and_neighbours():
    for start in range(2000, 2108, 4):
        block = range(start, start + 4)
        assert sorted(level(seed) for seed in block) == [0, 1, 2, 3]
        assert sorted(neighbour(seed) for seed in block) == list(block)
        assert all(level(neighbour(seed)) != level(seed) for seed in block)
    # The order is drawn: it is not that of the seeds.
    assert len({tuple(level(s) for s in range(a, a + 4)) for a in range(2000, 2024, 4)}) > 1


def built(config, record, **settings):
    """The configurations of all arms at seed 2001 by name."""
    made = arms(changed(config, **settings))
    return {arm.name: arm.config(2001, lambda name, seed: record) for arm in made}


@pytest.fixture
def record(tmp_path):
    """A run of 60 steps whose I falls below 0 at step 11, best at its second evaluation."""
    config = CPU.with_signal(changed(CPU.training, seed=5))
    signal = [0.1] * 10 + [-0.05] * 50
    write_run(config, tmp_path / "r", [0.4, 0.9, 0.5] + [0.1] * 10, signal=signal)
    return read_run(tmp_path / "r")


def test_settings_are_those_of_the_docstring(record):
    config = changed(CPU, arms=("sdpo",))
    made = {name.partition("-")[0]: c for name, c in built(config, record).items()}
    assert [*made] == [*SETTINGS]
    rates = {name: c.optimizer.learning_rate for name, c in made.items()}
    assert rates["live"] == rates["live_long"] == rates["misled"] == rates["drawn_lies"] == 3e-4
    assert (rates["fast"], rates["ema_fast"], rates["healthy"]) == (1.5e-3, 5e-3, 1.5e-4)
    assert {n for n, c in made.items() if c.teacher.kind == "ema"} == {
        "ema_fast",
        "healthy",
        "healthy_long",
    }
    assert made["misled"].control.misleading == 0.6
    assert (made["live"].steps, made["live"].evaluation.every) == (60, 5)
    assert (made["live_long"].steps, made["live_long"].evaluation.every) == (240, 20)
    assert {c.alpha for c in made.values()} == {0.0}
    of_seed = next(arm for arm in arms(config) if arm.name == "drawn_rate-sdpo").config
    drawn = {of_seed(seed, None).optimizer.learning_rate for seed in range(2000, 2004)}
    assert drawn == {2e-4, 4e-4, 8e-4, 1.6e-3}
    of_seed = next(arm for arm in arms(config) if arm.name == "drawn_lies-sdpo").config
    chances = [of_seed(seed, None).control.misleading for seed in range(2000, 2008)]
    assert sorted(chances) == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]


def test_arms_are_those_of_the_docstring(record):
    made = {name.partition("-")[2]: c for name, c in built(CPU, record, settings=("live",)).items()}
    assert [*made] == [*ARMS]
    assert all(f"`{name}`" in brake.__doc__ for name in ARMS)
    assert {*CONTROLS} | {*VARIANTS} | {"brake", "oracle"} == {*ARMS}
    brakes = {name: made[name].information for name in ("brake", *VARIANTS)}
    assert {name: i.alpha for name, i in brakes.items()} == {
        "brake": 30, "weak": 10, "steep": 100, "mean": 30, "delayed": 30, "floor": 30,
    }  # fmt: skip
    assert {i.rho_max for i in brakes.values()} == {1.0}
    assert (brakes["mean"].decay, brakes["delayed"].delay, brakes["floor"].rho_min) == (
        0.8,
        1,
        0.05,
    )
    assert (made["pgpo"].alpha, made["pgpo"].information.rho_max) == (1.5, 2.0)
    assert made["clip"].optimizer.clip_norm == 0.1
    assert made["trust_region"].teacher.kind == "trust_region"
    rho = {
        name: np.array(multiplier(np.array(c.control.replay, np.float32), 30.0, 1.0))
        for name, c in made.items()
        if c.control.replay
    }
    own = taken(record, 60)
    assert own[9] == 1
    assert own[10] == pytest.approx(np.exp(-1.5))
    np.testing.assert_allclose(rho["other"], own, rtol=1e-4)
    np.testing.assert_allclose(rho["fitted"], own, rtol=1e-4)
    np.testing.assert_allclose(rho["constant"], own.mean(), rtol=1e-4)
    np.testing.assert_allclose(rho["cosine"].sum(), own.sum(), rtol=1e-4)
    np.testing.assert_array_equal(rho["stop"], [1.0] * 10 + [0.0] * 50)
    np.testing.assert_array_equal(rho["oracle"], [1.0] * 5 + [0.0] * 55)
    # What is replayed is the same program as the brake, so that no rounding tells them apart.
    programs = {made[name].make_optimizer().update for name in ("brake", *rho)}
    assert len(programs) == 1
    assert made["weak"].make_optimizer().update not in programs


def test_who_waits_for_whom():
    needed = {arm.name: list(arm.needs(2003)) for arm in arms(changed(CPU, settings=("fast",)))}
    assert needed["fast-constant"] == [("fast-brake", 2003)]
    assert needed["fast-other"] == [("fast-brake", 2000)]
    assert needed["fast-stop"] == [("fast-sdpo", 2003)]
    assert needed["fast-fitted"] == [("fast-brake", seed) for seed in range(2100, 2108)]
    assert needed["fast-sdpo"] == needed["fast-brake"] == []
    # No donor of the fitted schedule is compared.
    assert not {*SEEDS} & {*range(2100, 2108)}


def test_a_sitting_trains_what_is_asked_for_and_what_that_needs():
    def names(**changes):
        return [arm.name for arm in arms(changed(CPU, **changes))]

    assert names(settings=("healthy",), arms=("other",)) == ["healthy-brake", "healthy-other"]
    assert names(settings=("live",), arms=("oracle", "sdpo")) == ["live-sdpo", "live-oracle"]
    assert len(names()) == len(ARMS) + 8 * len(CORE)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--arms", "breake"], "arms must be some of sdpo, .* got .'breake'."),
        (["--first-seed", "2090"], "first_donor must lie more than 4 seeds away .*, got 2100"),
        (["--donors", "0"], "donors must be at least 1, got 0"),
    ],
)
def test_bad_flags_name_rule_and_value(tmp_path, capsys, flags, rule):
    with pytest.raises(SystemExit):
        brake.main([*flags, "--output", str(tmp_path / "sweep")])
    assert re.search(rule, " ".join(capsys.readouterr().err.split()))
    assert not list(tmp_path.iterdir())


# Verdicts on made-up runs


def made_up(accuracies, *, name="live", seeds=SEEDS, noise=0.02, shuffle=None):
    """Found of runs whose arms have these accuracies; `shuffle` mixes the labels of each seed."""
    rng = np.random.default_rng(3)
    names = ARMS if name == "live" else CORE
    runs = {arm: [] for arm in names}
    every = 20
    config = {"steps": every * 3, "evaluation": {"every": every}}
    for seed in seeds:
        labels = names if shuffle is None else list(shuffle.permutation(names))
        for arm, label in zip(names, labels, strict=True):
            points = accuracies.get(label, accuracies["others"])
            points = points(seed) if callable(points) else points
            values = np.array(points) + noise * rng.standard_normal(len(points))
            scores = {
                place * every: {f"q{i}": float(value) for i in range(8)}
                for place, value in enumerate(values)
            }
            evaluations = [
                {"step": step, "eval/accuracy": of_step["q0"]} for step, of_step in scores.items()
            ]
            steps = [{"step": i + 1, "pgpo/information": 0.1} for i in range(3 * every)]
            runs[arm].append(RunRecord(arm, Path(), config, steps, evaluations, scores, []))
    return measured(name, list(seeds), runs, margin=0.03)


SAVED = {"sdpo": FALLS, "constant": CLIMBS, "others": HOLDS}


def test_the_area_leaves_out_the_start():
    found = made_up({"sdpo": [0.9, 0.1, 0.1, 0.1], "others": [0.1, 0.4, 0.4, 0.4]}, noise=0.0)
    area = next(c for c in found.areas_compared if c.name == "brake − sdpo")
    assert area.difference.value == pytest.approx(0.3)


def test_holds():
    lost = {"sdpo": FALLS, "constant": [0.4, 0.5, 0.3, 0.1], "others": HOLDS}
    assert saves(made_up(lost), 24) == "holds"
    # The constant has less area and does not collapse: fewer collapses are not shown.
    assert saves(made_up(SAVED), 24) == "undecided"


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ({"sdpo": FALLS, "others": HOLDS}, "refuted"),
        ({"sdpo": FALLS, "brake": FALLS, "others": HOLDS}, "refuted"),
        ({"sdpo": FALLS, "brake": FALLS, "others": FALLS}, "refuted"),
        ({"others": HOLDS}, "nothing to save"),
    ],
)
def test_refuted_and_nothing_to_save(accuracies, verdict):
    assert saves(made_up(accuracies), 24) == verdict


def test_fewer_seeds_than_planned_have_no_verdict():
    lost = {"sdpo": FALLS, "constant": FALLS, "others": HOLDS}
    assert saves(made_up(lost, seeds=range(2000, 2012)), 24) == "too few seeds"
    assert saves(made_up(lost, seeds=range(2000, 2012)), 12) == "holds"
    # Whatever is planned, six are the least.
    assert saves(made_up(lost, seeds=range(2000, 2005)), 2) == "too few seeds"
    assert "too few seeds (5 of 2 seeds)" in in_words(made_up(lost, seeds=range(2000, 2005)), 2)


def test_shuffled_labels_hold_nothing():
    """The same runs with the arms' names mixed within each seed."""
    lost = {"sdpo": FALLS, "constant": FALLS, "others": HOLDS, "stop": FALLS}
    assert saves(made_up(lost, name="fast"), 24) == "holds"
    rng = np.random.default_rng(0)
    mixed = [made_up(lost, name="fast", shuffle=rng) for _ in range(8)]
    assert "holds" not in {saves(found, 24) for found in mixed}
    assert "a signal" not in {cause(found, 24) for found in mixed}


def test_what_the_brake_costs():
    def of(brakes):
        return costs(made_up({"brake": brakes, "others": HOLDS}, name="healthy"), 24)

    assert of(HOLDS) == "costs nothing"
    assert of([0.4, 0.7, 0.75, 0.75]) == "costs accuracy"
    far = made_up({"brake": [0.4, 0.7, 0.7, 0.7], "others": HOLDS}, name="healthy", seeds=[1, 2])
    assert costs(far, 24) == "too few seeds"


def test_a_signal_or_a_schedule():
    def of(**accuracies):
        known = {"sdpo": FALLS, "others": FALLS, "brake": HOLDS, **accuracies}
        return cause(made_up(known, name="drawn_rate"), 24)

    assert of() == "a signal"
    assert of(fitted=HOLDS) == "a schedule"
    assert of(other=HOLDS) == "a schedule"
    assert of(sdpo=HOLDS) == "nothing to save"
    # Half of the runs of another run's brake are as good: neither outcome.
    uneven = {"other": lambda seed: [0.4, 0.8, 0.85, 0.65 if seed % 3 else 1.2]}
    assert of(**uneven) == "undecided"


# The alarm


def alarmed(fall, alarm, steps=60):
    """A run of SDPO that falls at a step, with I < 0 at another."""
    every = 5
    points = range(0, steps + 1, every)
    scores = {s: {"q": 0.0 if fall and s >= fall else 0.6} for s in points}
    rows = [
        {"step": s, "pgpo/information": -0.1 if s == alarm else 0.1} for s in range(1, steps + 1)
    ]
    config = {"steps": steps, "evaluation": {"every": every}}
    evaluations = [{"step": s, "eval/accuracy": x["q"]} for s, x in scores.items()]
    return RunRecord("sdpo", Path(), config, rows, evaluations, scores, [])


def test_an_alarm_is_in_time_before_the_fall_is_seen():
    runs = [alarmed(20, 15), alarmed(20, 16), alarmed(20, None), alarmed(30, 5)]
    runs += [alarmed(None, 7), alarmed(None, None)]
    found = alarm_in(runs)
    assert (found.runs, found.collapsed) == (6, 4)
    assert found.sensitivity.value == 0.5
    assert found.false_alarms.value == 0.5
    assert found.lead == [5, 25]
    assert found.median_lead == 15
    none = alarm_in([alarmed(None, None)])
    assert none.sensitivity is None
    assert none.median_lead is None


def test_the_verdict_of_the_alarm():
    def of(live, healthy):
        return alarm_verdict({"live": alarm_in(live), "healthy": alarm_in(healthy)}, 24)

    heard, missed = [alarmed(20, 10)] * 24, [alarmed(20, None)] * 24
    quiet, noisy = [alarmed(None, None)] * 24, [alarmed(None, 3)] * 24
    assert of(heard, quiet) == "holds"
    assert of(missed, quiet) == of(heard, noisy) == "refuted"
    assert of(heard[:18] + missed[:6], quiet) == "undecided"
    assert of(heard[:12], quiet) == "too few seeds"
    assert of(quiet, quiet) == "undecided"
    assert alarm_verdict({"live": alarm_in(heard)}, 24) == "too few seeds"
    assert isinstance(alarm_in(heard), Alarm)


def test_an_alarm_with_shuffled_labels_does_not_hold():
    """Signals of live and healthy runs dealt out at random: every second run has one."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        signals = rng.permutation([10] * 24 + [0] * 24)
        live = [alarmed(20, a or None) for a in signals[:24]]
        healthy = [alarmed(None, a or None) for a in signals[24:]]
        found = alarm_verdict({"live": alarm_in(live), "healthy": alarm_in(healthy)}, 24)
        assert found != "holds"


# The command


@pytest.fixture
def trained(monkeypatch):
    """Replaces training: SDPO and the constant fall with a live teacher, after I < 0."""
    log = []

    def train(config, folder):
        log.append((folder.parent.name, config.seed))
        falls = config.teacher.kind == "live" and (
            config.alpha == 0 or len(set(config.control.replay)) == 1
        )
        points = [0.5, 0.8, 0.1, 0.0] if falls else [0.5, 0.8, 0.8, 0.8]
        signal = [0.1] * 3 + [-0.05 if config.teacher.kind == "live" else 0.1] * 9
        write_run(config, folder, points, signal=signal, steps=config.steps)

    monkeypatch.setattr(_sweep, "train", train)
    return log


FLAGS = ["--training.steps", "12", "--training.evaluation.every", "4", "--planned", "10"]


@pytest.mark.slow
def test_sittings_add_up_to_one_report(tmp_path, trained, capsys):
    flags = [*FLAGS, "--seeds", "10", "--donors", "4", "--output", str(tmp_path)]
    # Arms of a part: trained, and not enough for a report.
    assert brake.main([*flags, "--settings", "fast", "--arms", "sdpo"]) == 2
    assert "at least 2 seeds with all arms of a setting" in capsys.readouterr().err
    assert {name for name, _ in trained} == {"fast-sdpo"}
    assert brake.main([*flags, "--settings", "fast"]) == 0
    before = len(trained)
    assert before == len(set(trained))
    assert brake.main([*flags, "--settings", "live", "healthy"]) == 0
    # Nothing is trained twice, and all that is finished is told.
    assert len(trained) == len(set(trained)) > before
    results = json.loads((tmp_path / "results.json").read_text())
    assert [*results["settings"]] == ["live", "fast", "healthy"]
    assert results["verdict"].startswith(
        "live: holds (10 of 10 seeds); fast: holds (10 of 10 seeds); "
        "healthy: the brake costs nothing (10 of 10 seeds). The alarm I < 0: "
    )
    assert "Not finished: live_long, misled" in results["verdict"]
    assert results["alarms"]["live"]["sensitivity"][0] == 1.0
    assert results["settings"]["live"]["collapse steps"]["sdpo"] == [8] * 10
    page = (tmp_path / "report.html").read_text()
    for told in ("Setting live", "McNemar", "I &lt; 0 as an alarm", "What was fixed in advance"):
        assert told in page
    # Seed by seed: the donors come before the first run that needs them.
    place = {run: i for i, run in enumerate(trained)}
    assert place["live-brake", 2103] < place["live-fitted", 2000] < place["live-sdpo", 2001]
    # The donors of the fitted schedule are trained and not compared.
    assert ("live-brake", 2103) in trained
    assert results["settings"]["live"]["seeds"] == list(range(2000, 2010))
    # A report needs no training, and another dose is another sweep.
    count = len(trained)
    assert brake.main([*flags, "--report-only"]) == 0
    assert len(trained) == count
    assert brake.main([*flags, "--report-only", "--weak-alpha", "9"]) == 2
    assert "weak_alpha was 10.0, now 9.0" in capsys.readouterr().err


def test_levels_are_told_of_drawn_settings(tmp_path, trained):
    flags = [*FLAGS, "--seeds", "8", "--donors", "4", "--output", str(tmp_path)]
    assert brake.main([*flags, "--settings", "drawn_rate", "--arms", "sdpo"]) == 2
    assert {name for name, _ in trained} == {"drawn_rate-sdpo"}
    assert brake.main([*flags, "--settings", "drawn_rate"]) == 0
    assert len(trained) == len(set(trained)) == 8 * len(CORE) + 4
    page = (tmp_path / "report.html").read_text()
    assert "level 4" in page
    assert "2 of 2" in page
    assert "0.0002, 0.0004, 0.0008, 0.0016 (drawn per seed)" in page


@pytest.mark.slow
def test_a_small_sweep_is_really_trained_and_repeats_itself(tmp_path):
    """What was replayed is what was asked for, and the same command gives the same numbers."""
    flags = ["--preset", "smoke", "--training.steps", "3", "--training.optimizer.warmup-steps", "0"]
    assert brake.main([*flags, "--output", str(tmp_path / "first")]) == 0
    # One that is trained as it is, and one that waits for a run of another arm.
    again = ["--arms", "sdpo", "constant", "--seeds", "1", "--output", str(tmp_path / "second")]
    assert brake.main([*flags, *again]) == 2

    def rows(name, arm):
        path = tmp_path / name / "runs" / f"fast-{arm}" / "seed0" / "metrics.jsonl"
        return path.read_text()

    for arm in ("sdpo", "brake", "constant"):
        assert rows("first", arm) == rows("second", arm), arm
    assert rows("first", "sdpo") != rows("first", "brake")
    run = read_run(tmp_path / "first" / "runs" / "fast-constant" / "seed0")
    own = read_run(tmp_path / "first" / "runs" / "fast-brake" / "seed0")
    mean = np.mean(own.series("pgpo/rho")[1])
    np.testing.assert_allclose(run.series("pgpo/rho")[1], mean, rtol=1e-4)
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    assert results["verdict"].startswith("fast: too few seeds (2 of 24 seeds)")
