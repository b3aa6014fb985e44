"""Seeds one by one and together: the same weights, and a request that is refused."""

import pytest

from benchmarks import seeds


@pytest.mark.slow
def test_both_ways_make_the_same_weights():
    record = seeds.main(["--seeds", "2", "--rounds", "1"])
    update, sampling = record["rows"]
    assert (update["part"], sampling["part"]) == ("update", "sampling")
    # The weights are some tenths; a step moves them by more than rounding does.
    assert 0 <= update["largest_difference"] < 1e-5
    assert update["ratio_low"] <= update["ratio_median"] <= update["ratio_high"]


def test_no_seeds_are_refused(capsys):
    with pytest.raises(SystemExit):
        seeds.parse(["--seeds", "0"])
    assert "--seeds and --rounds must be at least 1" in capsys.readouterr().err
