"""Runs that change, come late or come out of order, through the sensor: what is stale, what is taken, what is told."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, EXP, Laboratory, run_record
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from test_bucket_cells import cells, work
from test_redos import HonestCaf
from test_sensors import accept, start, tick

from b2cal_assets.asset_keys import Part, bucket_runs_key, calibration_key, cdst_key, published_key
from b2cal_assets.bucket_inputs import LEFT_OUT, runs_of
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.definitions import build_definitions
from b2cal_core.buckets import Bucket
from b2cal_core.ranges import ExpRun
from sensors.gates import gates_sensor
from sensors.new_runs import WAITING_AT_ONCE, new_runs_sensor

MakeLaboratory = Callable[..., Laboratory]
CDC = calibration_key("prompt", "CDC Tracking", Part.collector_output)
CHANGED = "the runs of the bucket, their quality or files changed since CDC Tracking was made"


def stale(lab: Laboratory, bucket: Bucket) -> set[dg.AssetKey]:
    """What Dagster's own pages mark as stale."""
    graph = build_definitions(lab.home, workshop=lab.workshop()).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(lab.instance, graph, LoadingContextForTest(lab.instance))
    keys = lab.plan.asset_keys()
    return {key for key in keys if resolver.get_status(key, bucket.key) is StaleStatus.STALE}


def published(laboratory: MakeLaboratory, *, only: list[str] | None = None, **campaign: Any) -> tuple[Laboratory, str]:
    """Two buckets that the sensor found and that are made, and the sensor's cursor."""
    lab = laboratory(caf=HonestCaf(), campaign=campaign)
    first = tick(lab, new_runs_sensor)
    for request in first.run_requests:
        start(lab, request, dg.DagsterRunStatus.SUCCESS)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    for bucket in (BUCKET_1, BUCKET_2):
        runner.work(bucket, only=only or ())
    return lab, first.cursor


def made(laboratory: MakeLaboratory, **campaign: Any) -> tuple[Laboratory, str]:
    """The same, but for the publishing."""
    return published(laboratory, only=["caf_cdc", "caf_svd", "caf_top", "caf_beam", "caf_ecms", "cdst"], **campaign)


def runs(lab: Laboratory, bucket: Bucket = BUCKET_1) -> list[int]:
    work = BucketWork.of(lab.plan, bucket.key, lab.workshop(), instance=lab.instance)
    return [record.run.run for record in work.records]


def ledger_of(lab: Laboratory) -> BucketLedger:
    return BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)


def reported(lab: Laboratory, bucket: Bucket = BUCKET_1) -> Any:
    ledger = BucketLedger(lab.plan, bucket, instance=lab.instance, sign_offs=lab.sign_offs)
    return ledger.metadata(bucket_runs_key("prompt"))


def test_a_changed_quality_flag_makes_the_bucket_stale_and_the_next_work_on_it_redoes_it(
    laboratory: MakeLaboratory,
) -> None:
    lab, cursor = made(laboratory)
    assert stale(lab, BUCKET_1) == stale(lab, BUCKET_2) == set()
    lab.registry.add([run_record(2, quality="Bad For Alignment")])
    tick(lab, new_runs_sensor, cursor)
    assert {CDC, calibration_key("prompt", "CDC Tracking", Part.payloads), cdst_key("prompt")} <= stale(lab, BUCKET_1)
    assert stale(lab, BUCKET_2) == set()
    cell = cells(lab)["prompt/cdc_tracking/payloads"]
    assert (cell.state, cell.reasons) == ("stale", (CHANGED,))
    lab.caf.requests.clear()
    work(lab, only=())
    first = lab.caf.requests[0]
    assert [run.run for _, run in first.input_data["hadron_calib"]] == [1, 3, 4]
    assert sorted(lab.caf.scripts) == ["caf_beam", "caf_cdc", "caf_ecms", "caf_svd", "caf_top"]
    assert stale(lab, BUCKET_1) == set()
    lab.caf.requests.clear()
    work(lab)
    assert lab.caf.requests == []


def test_an_acceptance_before_a_run_turned_bad_lets_nothing_through_and_one_after_it_does(
    laboratory: MakeLaboratory,
) -> None:
    lab, cursor = made(laboratory)
    for calibration in lab.plan.calibrations:
        accept(lab, calibration)
    lab.registry.add([run_record(2, quality="Bad For Alignment")])
    tick(lab, new_runs_sensor, cursor)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    assert runner.work(BUCKET_1, only=["published"], only_missing=False).done == ()
    assert lab.target_content() == []
    ledger = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)
    for gate in (ledger.reasons_against_publishing([BUCKET_1]), ledger.reasons_against_cdst()):
        assert gate[0].startswith(f"{CHANGED}; redo it, or accept it as it is: b2cal bucket run prompt {BUCKET_1.key}")
    for calibration in lab.plan.calibrations:
        accept(lab, calibration)
    assert "prompt/published" in runner.work(BUCKET_1, only=["published"], only_missing=False).done


def test_a_change_that_no_calibration_asks_about_makes_nothing_stale(laboratory: MakeLaboratory) -> None:
    lab, cursor = made(laboratory)
    record = run_record(2)
    lab.registry.add([type(record)(**{**fields(record), "quality": frozenset({"Good", ">=30 Minute Run"})})])
    again = tick(lab, new_runs_sensor, cursor)
    assert again.cursor != cursor
    assert stale(lab, BUCKET_1) == set()
    assert {cell.state for cell in cells(lab).values()} <= {"made", "can start"}


def fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def test_a_published_bucket_is_stale_too_when_a_quality_flag_changes(laboratory: MakeLaboratory) -> None:
    lab, cursor = published(laboratory)
    lab.registry.add([run_record(2, quality="Bad For Alignment")])
    tick(lab, new_runs_sensor, cursor)
    assert CDC in stale(lab, BUCKET_1)
    assert cells(lab)["prompt/cdc_tracking/payloads"].state == "stale"


@pytest.mark.parametrize(("redo_downstream", "by_itself"), [("ask", False), ("always", True)])
def test_what_changed_runs_make_stale_is_redone_without_a_person_where_the_campaign_says_so(
    laboratory: MakeLaboratory, redo_downstream: str, *, by_itself: bool
) -> None:
    lab, cursor = made(laboratory, gates={"redo_downstream": redo_downstream})
    lab.registry.add([run_record(2, quality="Bad For Alignment")])
    tick(lab, new_runs_sensor, cursor)
    asked = {key for request in tick(lab, gates_sensor).run_requests for key in request.asset_selection}
    assert (CDC in asked) is by_itself


def without_run_3(laboratory: MakeLaboratory, make: Any = made, **campaign: Any) -> tuple[Laboratory, str]:
    """Buckets 1 to 4 and 5 to 8; run 3 is not there yet."""
    lab = laboratory(runs=0, caf=HonestCaf(), campaign={"buckets": {"runs": 3, **campaign}})
    lab.registry.add(run_record(run) for run in (1, 2, 4, 5, 6, 8))
    first = tick(lab, new_runs_sensor)
    for request in first.run_requests:
        start(lab, request, dg.DagsterRunStatus.SUCCESS)
    assert lab.store.buckets("prompt") == (BUCKET_1, BUCKET_2)
    everything = [*lab.plan.calibrations, "cdst", *(["published"] if make is published else [])]
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, only=everything)
    return lab, first.cursor


def test_a_late_run_in_the_range_of_a_bucket_reopens_it(laboratory: MakeLaboratory) -> None:
    lab, cursor = without_run_3(laboratory)
    lab.registry.add([run_record(3)])
    tick(lab, new_runs_sensor, cursor)
    assert CDC in stale(lab, BUCKET_1)
    assert runs(lab) == [1, 2, 3, 4]
    lab.caf.requests.clear()
    work(lab)
    assert [run.run for _, run in lab.caf.requests[0].input_data["hadron_calib"]] == [1, 2, 3, 4]
    assert stale(lab, BUCKET_1) == set()


def test_a_published_bucket_is_never_reopened_and_says_which_run_it_leaves_out(laboratory: MakeLaboratory) -> None:
    lab, cursor = without_run_3(laboratory, published)
    assert lab.instance.get_materialized_partitions(published_key("prompt")) == {BUCKET_1.key}
    lab.registry.add([run_record(3)])
    answer = tick(lab, new_runs_sensor, cursor)
    why = "registered after the bucket was published"
    assert answer.skip_reason.skip_message == f"1 runs are left out of prompt {BUCKET_1.key}: {why}"
    assert stale(lab, BUCKET_1) == set()
    assert runs(lab) == [1, 2, 4]
    assert reported(lab)[LEFT_OUT].value == [f"exp 12 run 3: {why}"]
    assert tick(lab, new_runs_sensor, answer.cursor).skip_reason.skip_message == "no new runs, no new buckets"


def test_a_late_run_stays_out_of_a_published_bucket_that_is_worked_again(laboratory: MakeLaboratory) -> None:
    lab, cursor = without_run_3(laboratory, published)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    first = ledger_of(lab).published_at
    lab.registry.add([run_record(3)])
    tick(lab, new_runs_sensor, cursor)
    assert runner.work(BUCKET_1, only_missing=False).ok
    assert ledger_of(lab).published_at == first
    assert runs(lab) == [1, 2, 4]
    assert runner.work(BUCKET_1).done == ()


def test_a_late_run_stays_out_of_a_published_bucket_though_the_record_of_dagster_is_lost(
    laboratory: MakeLaboratory,
) -> None:
    lab, _ = without_run_3(laboratory, published)
    first = ledger_of(lab).published_at
    lab.registry.add([run_record(3)])
    with dg.DagsterInstance.ephemeral() as empty:
        lab.instance = empty
        assert BucketRunner(lab.plan, lab.workshop(), instance=empty).work(BUCKET_1).ok
        assert runs(lab) == [1, 2, 4]
        assert ledger_of(lab).published_at == first


@pytest.mark.parametrize("late", ["next_bucket", "ignore"])
def test_where_closed_buckets_stay_closed_a_late_run_in_their_range_is_left_out(
    laboratory: MakeLaboratory, late: str
) -> None:
    lab, cursor = without_run_3(laboratory, late=late)
    lab.registry.add([run_record(3)])
    answer = tick(lab, new_runs_sensor, cursor)
    assert f"buckets.late is {late}" in answer.skip_reason.skip_message
    assert stale(lab, BUCKET_1) == set()
    assert runs(lab) == [1, 2, 4]
    (left_out,) = runs_of(ledger_of(lab), lab.registry, lab.store, lab.workshop().publisher).left_out
    assert left_out.run == ExpRun(EXP, 3)
    assert tick(lab, new_runs_sensor, answer.cursor).skip_reason.skip_message == "no new runs, no new buckets"


@pytest.mark.parametrize(("late", "taken"), [("reopen", True), ("next_bucket", True), ("ignore", False)])
def test_late_runs_between_two_buckets_make_another_one_when_they_fill_it(
    laboratory: MakeLaboratory, late: str, *, taken: bool
) -> None:
    lab = laboratory(runs=0, campaign={"buckets": {"runs": 2, "late": late}})
    lab.registry.add(run_record(run) for run in (1, 2, 5, 6))
    first = tick(lab, new_runs_sensor)
    lab.registry.add([run_record(4)])
    second = tick(lab, new_runs_sensor, first.cursor)
    told = "1 runs of prompt came after the buckets around them were closed: b2cal bucket list prompt"
    assert len(lab.store.buckets("prompt")) == 2
    assert {request.partition_key for request in second.run_requests} == {b.key for b in lab.store.buckets("prompt")}
    for request in second.run_requests:
        start(lab, request)
    lab.registry.add([run_record(3)])
    third = tick(lab, new_runs_sensor, second.cursor)
    between = Bucket(ExpRun(EXP, 3), ExpRun(EXP, 4))
    assert (between in lab.store.buckets("prompt")) is taken
    assert [request.partition_key for request in third.run_requests] == ([between.key] if taken else [])
    if not taken:
        assert third.skip_reason.skip_message == told


def test_a_tick_asks_for_the_work_on_some_new_buckets_only(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=WAITING_AT_ONCE + 5, campaign={"buckets": {"runs": 1}})
    first = tick(lab, new_runs_sensor)
    assert len(first.run_requests) == WAITING_AT_ONCE
    assert len(lab.store.buckets("prompt")) == WAITING_AT_ONCE + 5
    for request in first.run_requests:
        start(lab, request)
    assert len(tick(lab, new_runs_sensor, first.cursor).run_requests) == 5
