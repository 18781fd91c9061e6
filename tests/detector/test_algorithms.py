from itertools import pairwise

import numpy as np
import pytest
from hist import Hist
from hist.axis import Regular
from quick_bucket import simulated, with_cdst
from quick_caf import InMemoryData, Layers, MadePayload, execute, run_script

from b2cal_caf.calibration import Sums
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.strategies import AlgResult
from b2cal_detector.algorithms.beam_spot import BeamSpotAlgorithm
from b2cal_detector.algorithms.boost import BoostVectorAlgorithm
from b2cal_detector.algorithms.cdc import CdcTimeZeroAlgorithm
from b2cal_detector.algorithms.dedx import DedxRunGainAlgorithm, DedxWireGainAlgorithm
from b2cal_detector.algorithms.ecl import EclEnergyAlgorithm, weighted_average
from b2cal_detector.algorithms.ecms import CollisionMassAlgorithm, MassLikelihood
from b2cal_detector.algorithms.peaks import fit_peak
from b2cal_detector.algorithms.segments import Measurement, best_segments
from b2cal_detector.algorithms.svd import SvdTimeAlgorithm
from b2cal_detector.algorithms.top import TopCommonT0Algorithm
from b2cal_detector.feed import kind_of
from b2cal_detector.truth import Truth

RUNS = [ExpRun(12, number) for number in range(1, 4)]
ALGORITHMS = [
    CdcTimeZeroAlgorithm(),
    SvdTimeAlgorithm(),
    TopCommonT0Algorithm(),
    DedxRunGainAlgorithm(),
    DedxWireGainAlgorithm(),
    EclEnergyAlgorithm("ECLCrystalEnergyee5x5"),
    BeamSpotAlgorithm(),
    BoostVectorAlgorithm(),
    CollisionMassAlgorithm(),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
def test_no_data_is_not_enough_data(algorithm):
    result, execution = execute(algorithm, InMemoryData({}, RUNS), Layers.nominal())
    assert result is AlgResult.not_enough_data
    assert not execution.saved


def _measured(value: float, events: int = 100, error: float = 1.0) -> Measurement:
    weight = events / error**2
    return Measurement(np.array([[weight]]), np.array([weight * value]), weight * value**2, events)


def test_segments_change_where_the_value_does():
    runs = [_measured(value) for value in (0, 0.1, -0.1, 5, 5.1, 4.9, 0)]
    assert best_segments(runs, penalty=30, min_events=1) == [0, 3, 6]


def test_fluctuations_make_no_segment():
    rng = np.random.default_rng(1)
    assert best_segments([_measured(rng.normal(0, 0.1)) for _ in range(50)], penalty=30, min_events=1) == [0]


def test_segments_have_enough_events_or_there_is_none():
    runs = [_measured(0), _measured(9, events=20), _measured(0)]
    assert best_segments(runs, penalty=30, min_events=50) != [0, 1, 2]
    assert best_segments(runs, penalty=30, min_events=1000) == []


def test_a_run_without_events_joins_its_neighbours():
    nothing = Measurement(np.zeros((1, 1)), np.zeros(1), 0.0, 0)
    assert best_segments([nothing, _measured(3), nothing], penalty=30, min_events=50) == [0]


def test_boundaries_are_found_where_raw_times_jump():
    def line(shift: float) -> Sums:
        return Sums({"n": np.full(4, 10.0), "y": np.full(4, 10.0 * (70 + shift))})

    stored = {("default", "line"): dict(zip(RUNS, [line(0), line(0.5), line(4)], strict=True))}
    assert list(SvdTimeAlgorithm().boundaries(InMemoryData(stored, RUNS))) == [RUNS[0], RUNS[2]]


def test_a_peak_is_found_over_background():
    rng = np.random.default_rng(2)
    histogram = Hist(Regular(400, -10, 10))
    histogram.fill(np.concatenate([rng.normal(1.2, 0.2, 5000), rng.uniform(-10, 10, 500)]))
    peak = fit_peak(histogram, 2.5)
    assert peak.valid
    assert abs(peak.position - 1.2) < 4 * peak.position_err
    assert abs(peak.width - 0.2) < 4 * peak.width_err


def test_the_mass_density_is_normalised_within_its_window():
    grid = np.linspace(-0.25, 0.15, 4001)
    likelihood = MassLikelihood(grid, np.full(grid.size, 0.02), (0.25, 0.15))
    one = [
        np.exp(-MassLikelihood(grid[[i]], np.array([0.02]), (0.25, 0.15))(0.01, 1.1, 0.2, 0.04))
        for i in range(0, grid.size, 10)
    ]
    assert np.trapezoid(one, grid[::10]) == pytest.approx(1, rel=1e-4)
    assert np.isfinite(likelihood(0.0, 1.0, 0.1, 0.005))
    assert np.isfinite(likelihood(0.0, 0.2, 1.0, 0.005))


def test_the_average_is_weighted_and_knows_what_is_missing():
    first = {"constant": np.array([1.0, 1.0, 1.0]), "constant_err": np.array([0.01, np.inf, np.inf])}
    second = {"constant": np.array([1.1, 1.1, 1.2]), "constant_err": np.array([0.011, 0.011, np.inf])}
    merged = weighted_average([first, second])
    assert merged["constant"][0] == pytest.approx(2 / (1 + 1 / 1.1))
    assert merged["constant"][1] == pytest.approx(1.1)
    assert merged["constant_err"][1] == pytest.approx(0.011)
    assert np.isinf(merged["constant_err"][2])


def test_wires_without_hits_keep_their_constant_with_an_infinite_error():
    hits = np.full(14336, 100.0)
    hits[:10] = 0
    sums = Sums({"hits": hits, "weight": 0.9 * hits, "residual": 0.1 * hits, "square": 6.25 * hits})
    conditions = Layers.nominal().on_top([MadePayload("CDCTimeZeros", IoV(0, 0, -1, -1), {"t0": np.zeros(14336)})])
    result, execution = execute(
        CdcTimeZeroAlgorithm(), InMemoryData({("default", "residuals"): {None: sums}}, RUNS), conditions
    )
    columns = execution.saved[0].columns
    assert result is AlgResult.ok
    assert np.all(np.isinf(columns["t0_err"][:10]))
    assert np.all(np.isfinite(columns["t0_err"][10:]))


def test_short_runs_are_taken_together(tmp_path):
    short = next(number for number in range(2, 40) if kind_of(1, ExpRun(12, number)) == "short")
    records = simulated(1, tmp_path, first=short - 1, count=5)
    truth = Truth(1)
    true = [
        MadePayload(name, IoV(*r.run, *r.run), truth.at(name, r.run))
        for r in records
        for name in ("CDCTimeZeros", "SVDTimeCalibrations")
    ]
    conditions = Layers.nominal().on_top(true)
    outcome = run_script("top", with_cdst(records, conditions, tmp_path / "cdst"), conditions)
    iovs = [made.iov for made in outcome.saved]
    used = [r for r in records if "Good Or Recoverable" in r.quality]
    assert 1 <= len(iovs) < len(used)
    assert all(before.stop == after.start for before, after in pairwise(iovs))


def test_payload_boundaries_of_the_expert_are_used(tmp_path):
    records = simulated(1, tmp_path, count=6)
    outcome = run_script(
        "cdc", records, Layers.nominal(), payload_boundaries=[[12, 4]], max_files_per_run=2, min_hits=1
    )
    assert [made.iov for made in outcome.saved] == [IoV(12, 1, 12, 3), IoV(12, 4, -1, -1)]
