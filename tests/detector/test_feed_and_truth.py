from itertools import pairwise

import numpy as np
import pytest

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from b2cal_detector.drifts import jump_level
from b2cal_detector.feed import plan_run, plan_runs
from b2cal_detector.nominal import nominal_constants
from b2cal_detector.truth import Truth


def test_a_run_is_the_same_whatever_else_is_planned():
    assert plan_runs(1, 12, 1, 40)[6] == plan_run(1, ExpRun(12, 7)) == plan_runs(1, 12, 5, 3)[2]


def test_other_seeds_give_other_runs():
    assert plan_runs(1, 12, 1, 5) != plan_runs(2, 12, 1, 5)


@pytest.mark.parametrize("seed", range(1, 6))
def test_twenty_runs_hold_what_filters_and_strategies_must_cope_with(seed):
    runs = plan_runs(seed, 12, 20, 20)
    assert sum(run.run_type == "cosmic" for run in runs) == 1
    assert sum("Good Or Recoverable" not in run.quality for run in runs) == 2
    assert sum(">=30 Minute Run" not in run.quality for run in runs) == 2
    assert all(first.ended < second.started for first, second in pairwise(runs))


def test_every_truth_has_the_columns_of_its_nominal_payload():
    truth = Truth(1)
    for name, nominal in nominal_constants().items():
        true = truth.at(name, ExpRun(12, 1))
        assert {key: value.shape for key, value in true.items()} == {key: value.shape for key, value in nominal.items()}


def test_the_truth_keeps_to_the_gauges_of_the_calibrations():
    for number in (1, 17, 400):
        run = ExpRun(12, number)
        assert abs(Truth(3).at("CDCTimeZeros", run)["t0"].mean()) < 1e-9
        assert abs(Truth(3).at("CDCDedxWireGain", run)["gain"].mean() - 1) < 1e-9


def test_the_truth_of_a_run_follows_from_seed_and_run_alone():
    first, second = Truth(5), Truth(5)
    first.at("BeamSpot", ExpRun(12, 30))
    for name in first.names:
        for key, value in first.at(name, ExpRun(12, 8)).items():
            assert np.array_equal(value, second.at(name, ExpRun(12, 8))[key])


def test_there_is_one_jump_in_every_block():
    levels = [jump_level(4, "x", ExpRun(12, run), every=10) for run in range(100)]
    jumps = [run for run in range(1, 100) if levels[run] != levels[run - 1]]
    assert [run // 10 for run in jumps] == list(range(10))
    assert all(abs(levels[run] - levels[run - 1]) >= 1.4 for run in jumps)


def test_the_average_over_runs_is_weighted():
    truth, one, two = Truth(1), ExpRun(12, 3), ExpRun(12, 9)
    low, high = (truth.at("TOPCalCommonT0", run)["t0"][0] for run in (one, two))
    assert truth.averaged("TOPCalCommonT0", {one: 1, two: 3})["t0"][0] == pytest.approx((low + 3 * high) / 4)


def test_the_average_size_of_the_beam_spot_holds_its_motion():
    truth, one, two = Truth(1), ExpRun(12, 1), ExpRun(12, 9)
    x = [truth.at("BeamSpot", run)["x"][0] for run in (one, two)]
    still = truth.at("BeamSpot", one)["size_xx"][0]
    moved = truth.averaged("BeamSpot", {one: 1, two: 1})["size_xx"][0]
    assert moved == pytest.approx(still + (x[1] - x[0]) ** 2 / 4)


def test_a_payload_without_truth_is_named():
    with pytest.raises(ConfigurationError, match="CDCBadWires"):
        Truth(1).at("CDCBadWires", ExpRun(12, 1))
    with pytest.raises(ConfigurationError, match="no run"):
        Truth(1).averaged("BeamSpot", {})
