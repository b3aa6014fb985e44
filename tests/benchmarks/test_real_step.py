"""What `benchmarks.real_step` starts, and what it makes of the answers."""

import json
import sys

import pytest

from benchmarks.real_step import commands, compared, parse

PYTHON = sys.executable


def steps(*seconds, peak=100.0):
    return [{"seconds": s, "loss": 0.5, "peak_mb": peak} for s in seconds]


def test_both_sides_are_given_the_same_shape():
    args = parse(["--trl", PYTHON, "--rows", "4", "--response", "7"])
    found = commands(args)
    shapes = {
        name: json.loads(command[-2 if "trl" in name else -1]) for name, command in found.items()
    }
    shared = shapes.pop("pgpo, prompts shared")
    assert set(map(str, shapes.values())) == {str(shapes["pgpo"])}
    assert shared == shapes["pgpo"] | {"share_prompts": True, "chunk": 256}
    sizes = {"rows": 4, "questions": 1, "prompt": 64, "teacher_prompt": 128, "response": 7}
    assert shapes["pgpo"] == sizes
    assert found["trl compiled"][-1] == "compiled"
    assert found["trl compiled"][0] == PYTHON
    again = commands(parse(["--trl", PYTHON, "--rows", "4", "--response", "7", "--remat"]))
    assert json.loads(again["pgpo"][-1]) == sizes | {"remat": True}
    assert again["trl compiled"] == found["trl compiled"]
    # The control: another shape is another command.
    assert commands(parse(["--trl", PYTHON]))["pgpo"] != found["pgpo"]


def test_ratios_are_within_a_round_and_leave_the_first_step_out():
    ours, theirs = steps(50.0, 1.0, 4.0, 2.0), steps(5.0, 2.0, 8.0, 4.0, peak=400.0)
    first, second = compared({"pgpo": ours, "trl eager": theirs})
    assert (first["seconds"], first["first_step"]) == (2.0, 50.0)
    assert "memory_ours_to_it" not in first
    assert second["ours_to_it_median"] == pytest.approx(0.5)
    assert second["ours_to_it_low"] == second["ours_to_it_high"] == pytest.approx(0.5)
    assert second["memory_ours_to_it"] == pytest.approx(0.25)
    # Without our side there is no ratio.
    assert "ours_to_it_median" not in compared({"trl eager": theirs})[0]


def test_both_ways_of_ours_are_compared_with_each_peer():
    quick = steps(1.0, 1.0, 1.0, peak=50.0)
    sides = {"pgpo": steps(1.0, 2.0, 2.0), "pgpo, prompts shared": quick}
    *own, peer = compared(sides | {"trl eager": steps(1.0, 4.0, 4.0)})
    assert [row for row in own if "ours_to_it_median" in row or "shared_to_it_median" in row] == []
    assert peer["ours_to_it_median"] == pytest.approx(0.5)
    assert peer["shared_to_it_median"] == pytest.approx(0.25)
    assert peer["memory_shared_to_it"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--rows", "7", "--questions", "2"], "--questions must divide --rows 7, got 2"),
        (["--trl", "/nowhere/python"], "--trl must be an interpreter, got '/nowhere/python'"),
    ],
)
def test_bad_arguments_are_refused_before_any_side_starts(flags, rule, capsys):
    with pytest.raises(SystemExit):
        parse(["--trl", PYTHON, *flags])
    assert rule in capsys.readouterr().err
