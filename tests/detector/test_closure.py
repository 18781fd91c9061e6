"""Fitted less true, in units of the stated error, over a whole bucket for each of the seeds 1 to 5."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from quick_bucket import QuickBucket, calibrated, pulls_of

from b2cal_detector.compare import Comparison

SEEDS = range(1, 6)
MANY = {
    ("CDCTimeZeros", "t0"): 14336,
    ("CDCDedxWireGain", "gain"): 14336,
    ("ECLCrystalEnergy", "constant"): 8736,
    ("ECLCrystalEnergyee5x5", "constant"): 8736,
    ("ECLCrystalEnergyGammaGamma", "constant"): 8736,
    ("SVDTimeCalibrations", "offset"): 344,
    ("SVDTimeCalibrations", "slope"): 344,
}
FEW = [
    ("TOPCalCommonT0", "t0"),
    ("CDCDedxRunGain", "gain"),
    *(("BeamSpot", column) for column in ("x", "y", "z", "size_xx", "size_yy", "size_zz")),
    *(("CollisionBoostVector", column) for column in ("x", "y", "z")),
    ("CollisionInvariantMass", "mass"),
]


@pytest.fixture(scope="module")
def buckets(tmp_path_factory) -> Iterator[dict[int, QuickBucket]]:
    """One bucket of twenty runs per seed, made when first asked for."""

    class Buckets(dict[int, QuickBucket]):
        def __missing__(self, seed: int) -> QuickBucket:
            self[seed] = calibrated(seed, tmp_path_factory.mktemp(f"seed{seed}"))
            return self[seed]

    return Buckets()


def _assert_unit_like(pulls: np.ndarray, what: str) -> None:
    """Mean 0 and width 1 within four of their errors and one per cent."""
    mean, width = pulls.mean(), np.sqrt(np.mean(pulls**2))
    assert abs(mean) < 4 / np.sqrt(pulls.size) + 0.01, f"{what}: mean of {pulls.size} pulls is {mean:.3f}"
    assert abs(width - 1) < 4 / np.sqrt(2 * pulls.size) + 0.01, f"{what}: width of {pulls.size} pulls is {width:.3f}"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_channel_closes(seed, buckets):
    comparisons = buckets[seed].comparisons()
    for (name, column), fewest in MANY.items():
        pulls = pulls_of(comparisons, name, column)
        assert pulls.size >= 0.99 * fewest
        _assert_unit_like(pulls, f"seed {seed}, {name} {column}")


@pytest.mark.parametrize("seed", SEEDS)
def test_no_single_constant_is_far_off(seed, buckets):
    for name, column in FEW:
        assert np.abs(pulls_of(buckets[seed].comparisons(), name, column)).max() < 4.5, f"{name} {column}"


def test_single_constants_close_over_seeds_and_intervals(buckets):
    everything: list[Comparison] = [c for seed in SEEDS for c in buckets[seed].comparisons()]
    for name, column in FEW:
        _assert_unit_like(pulls_of(everything, name, column), f"{name} {column}")


@pytest.mark.parametrize("seed", SEEDS)
def test_intervals_tile_the_bucket_and_stay_open(seed, buckets):
    for name in {name for name, _ in [*MANY, *FEW]}:
        iovs = sorted(made.iov for made in buckets[seed].payloads(name))
        assert iovs[0].start == (12, 1)
        assert iovs[-1].is_open
        assert all(before.stop == after.start for before, after in pairwise(iovs))


def test_the_mechanisms_are_at_work(buckets):
    bucket = buckets[1]
    assert bucket.outcomes["cdc"].passes["tz0"] >= 3
    assert len(bucket.payloads("SVDTimeCalibrations")) == 2
    assert len(bucket.payloads("BeamSpot")) == 3
    assert len(bucket.payloads("TOPCalCommonT0")) < len({r.run for r in bucket.records if "Good" in r.quality}) + 1
    assert "rungain0" in bucket.outcomes["cdcdedx"].payloads
    assert {made.name for made in bucket.outcomes["cdcdedx"].saved} == {"CDCDedxRunGain", "CDCDedxWireGain"}


def test_intervals_change_where_the_truth_jumps(buckets):
    bucket = buckets[1]
    for name, column, least in (("SVDTimeCalibrations", "offset", 2.0), ("BeamSpot", "x", 20e-4)):
        values = {r.run: bucket.truth.at(name, r.run)[column].mean() for r in bucket.records}
        runs = sorted(values)
        jumps = {b for a, b in pairwise(runs) if abs(values[b] - values[a]) > least}
        starts = {made.iov.start for made in bucket.payloads(name)} - {(12, 1)}
        good = [r.run for r in bucket.records if "Good Or Recoverable" in r.quality]
        assert starts == {min((run.exp, run.run) for run in good if run >= jump) for jump in jumps}
