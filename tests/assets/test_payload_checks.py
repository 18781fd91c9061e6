"""Checks on payloads, computed from payload files."""

from math import inf
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from b2cal_assets.drifts import drifts
from b2cal_assets.payload_checks import (
    DRIFT_THRESHOLD,
    check_covered,
    check_declared,
    check_disjoint,
    check_drift,
    overlaps,
)
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import write_payload
from b2cal_core.buckets import Bucket
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.verdicts import Threshold

KEY = dg.AssetKey(["prompt", "cdc", "payloads"])
BUCKET = Bucket(ExpRun(12, 1), ExpRun(12, 10))
RUNS = [ExpRun(12, run) for run in range(1, 11)]
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def payload(directory: Path, iov: IoV, values: list[float], *, name: str = "T0", error: float = 0.1) -> LocalPayload:
    file = directory / f"{name}_{iov.run_low}_{len(values)}_{sum(values)}.root"
    write_payload(file, name, {"t0": np.array(values), "t0_err": np.full(len(values), error)})
    return LocalPayload(name, file, iov)


def previous(directory: Path, values: list[float], *, error: float = 0.1) -> Path:
    before = payload(directory, IoV(11, 0, 11, 5), values, error=error)
    LocalDatabase(directory / "previous").add_all([before])
    return directory / "previous"


def test_all_declared_payloads_pass(tmp_path: Path) -> None:
    assert check_declared(KEY, [payload(tmp_path, BUCKET.iov, [1.0])], ["T0"]).passed


def test_a_missing_payload_is_an_error_and_an_undeclared_one_a_warning(tmp_path: Path) -> None:
    made = [payload(tmp_path, BUCKET.iov, [1.0])]
    missing = check_declared(KEY, made, ["T0", "TimeWalk"])
    extra = check_declared(KEY, [*made, payload(tmp_path, BUCKET.iov, [1.0], name="Odd")], ["T0"])
    assert (missing.passed, missing.severity, missing.metadata["missing"].value) == (False, ERROR, "TimeWalk")
    assert (extra.passed, extra.severity, extra.metadata["not declared"].value) == (False, WARN, "Odd")


def test_a_script_that_declares_nothing_is_not_judged(tmp_path: Path) -> None:
    assert check_declared(KEY, [payload(tmp_path, BUCKET.iov, [1.0])], []).passed


def test_an_open_end_covers_the_bucket(tmp_path: Path) -> None:
    assert check_covered(KEY, [payload(tmp_path, IoV(12, 1, -1, -1), [1.0])], BUCKET, runs=RUNS).passed


def test_a_gap_with_runs_is_an_error_and_one_without_a_warning(tmp_path: Path) -> None:
    made = [payload(tmp_path, IoV(12, 1, 12, 3), [1.0]), payload(tmp_path, IoV(12, 6, 12, 10), [2.0])]
    serious = check_covered(KEY, made, BUCKET, runs=RUNS)
    harmless = check_covered(KEY, made, BUCKET, runs=[run for run in RUNS if run.run not in {4, 5}])
    assert (serious.passed, serious.severity) == (False, ERROR)
    assert (harmless.passed, harmless.severity) == (False, WARN)
    (row,) = serious.metadata["gaps"].value.records
    assert row.data == {"payload": "T0", "gap": "12,4,12,5", "registered runs in it": 2}


def test_no_payload_at_all_is_an_error() -> None:
    result = check_covered(KEY, [], BUCKET, runs=RUNS)
    assert (result.passed, result.severity) == (False, ERROR)


def test_an_overlap_is_found_whatever_the_order(tmp_path: Path) -> None:
    made = [payload(tmp_path, IoV(12, 5, 12, 10), [1.0]), payload(tmp_path, IoV(12, 1, 12, 5), [2.0])]
    assert overlaps(made) == (("T0", IoV(12, 1, 12, 5), IoV(12, 5, 12, 10)),)
    assert not check_disjoint(KEY, made).passed


def test_an_overlap_with_one_that_lies_further_back_is_found(tmp_path: Path) -> None:
    made = [
        payload(tmp_path, IoV(12, 1, -1, -1), [1.0]),
        payload(tmp_path, IoV(12, 2, 12, 3), [2.0]),
        payload(tmp_path, IoV(12, 5, 12, 6), [3.0]),
    ]
    assert len(overlaps(made)) == 2


def test_payloads_of_two_names_do_not_overlap(tmp_path: Path) -> None:
    assert overlaps([payload(tmp_path, BUCKET.iov, [1.0]), payload(tmp_path, BUCKET.iov, [1.0], name="Gain")]) == ()


def test_drift_is_in_units_of_both_errors(tmp_path: Path) -> None:
    before = previous(tmp_path, [1.0, 2.0, 3.0], error=0.3)
    (drift,) = drifts([payload(tmp_path, BUCKET.iov, [1.5, 2.0, 5.0], error=0.4)], before)
    assert drift.median == pytest.approx(1.0)
    assert drift.largest == pytest.approx(4.0)
    assert drift.channels == 3


def test_a_large_drift_warns_and_a_campaign_may_make_it_fail(tmp_path: Path) -> None:
    before, now = previous(tmp_path, [1.0]), [payload(tmp_path, BUCKET.iov, [9.0])]
    usual = check_drift(KEY, now, before, threshold=DRIFT_THRESHOLD)
    strict = check_drift(KEY, now, before, threshold=Threshold(high_fail=20.0))
    assert (usual.passed, usual.severity) == (False, WARN)
    assert (strict.passed, strict.severity) == (False, ERROR)


def test_nothing_before_is_no_drift(tmp_path: Path) -> None:
    assert check_drift(KEY, [payload(tmp_path, BUCKET.iov, [9.0])], None, threshold=DRIFT_THRESHOLD).passed
    assert check_drift(
        KEY, [payload(tmp_path, BUCKET.iov, [9.0])], tmp_path / "empty", threshold=DRIFT_THRESHOLD
    ).passed


def test_another_number_of_channels_is_an_infinite_drift(tmp_path: Path) -> None:
    (drift,) = drifts([payload(tmp_path, BUCKET.iov, [1.0, 2.0])], previous(tmp_path, [1.0]))
    assert drift.median == inf


def test_channels_without_an_error_cannot_drift(tmp_path: Path) -> None:
    (drift,) = drifts([payload(tmp_path, BUCKET.iov, [5.0], error=0.0)], previous(tmp_path, [1.0], error=0.0))
    assert (drift.channels, drift.median) == (0, 0.0)
