"""The sensors: called twice, the second call asks for nothing; what is down is waited for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
from asset_fakes import BUCKET_1, BUCKET_2, DownRegistry, FakeCaf, FakeValidation, Laboratory, payload_names, run_record

from b2cal_assets.asset_keys import RAW_RUNS, Part, bucket_runs_key, calibration_key
from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.campaign_assets import bucket_job
from b2cal_assets.collecting_ahead import ahead_calibrations, ahead_job
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.campaign_states import CampaignChange, CampaignState
from b2cal_core.ranges import ExpRun
from b2cal_core.verdicts import Decision, SignOff
from sensors.gates import ATTEMPTS, SITUATION_TAG, gates_sensor
from sensors.new_runs import PAGE, new_runs_sensor

MakeLaboratory = Callable[..., Laboratory]
MakeSensor = Callable[[Sequence[Any], Sequence[Any]], dg.SensorDefinition]


def tick(lab: Laboratory, make: MakeSensor, cursor: str | None = None, workshop: Workshop | None = None) -> Any:
    """One evaluation; partitions it asks for are added, as the daemon does before it starts runs."""
    jobs = [bucket_job(lab.plan, dg.in_process_executor)]
    ahead = [ahead_job(lab.plan, dg.in_process_executor, lab.workshop())] if ahead_calibrations(lab.plan) else []
    sensor = make([lab.plan], [*jobs, *ahead])
    resources = {"workshop": workshop or lab.workshop()}
    with dg.build_sensor_context(instance=lab.instance, cursor=cursor, resources=resources) as context:
        answer = sensor(context)
    if isinstance(answer, dg.SensorResult):
        for request in answer.dynamic_partitions_requests or ():
            lab.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return answer


def start(lab: Laboratory, request: Any, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> dg.DagsterRun:
    """What the daemon does with a request."""
    return add_run(lab, request.partition_key, status, dict(request.tags))


def add_run(lab: Laboratory, bucket: str, status: dg.DagsterRunStatus, tags: dict[str, str]) -> dg.DagsterRun:
    definitions = dg.Definitions(assets=[], jobs=[some_job], resources={})
    job = definitions.resolve_job_def("some_job")
    tags = {"b2cal/campaign": "prompt", "dagster/partition": bucket} | tags
    return lab.instance.create_run_for_job(job, status=status, tags=tags)


@dg.job
def some_job() -> None:
    """Stands for the bucket job, which the daemon would start."""


def test_new_runs_become_partitions_and_full_buckets_are_started_once(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=9)
    first = tick(lab, new_runs_sensor)
    assert [request.partition_key for request in first.run_requests] == [BUCKET_1.key, BUCKET_2.key]
    assert [request.run_key for request in first.run_requests] == [f"prompt:{BUCKET_1.key}", f"prompt:{BUCKET_2.key}"]
    assert lab.store.buckets("prompt") == (BUCKET_1, BUCKET_2)
    assert len(lab.instance.get_dynamic_partitions("runs")) == 9
    assert len(lab.instance.get_materialized_partitions(RAW_RUNS)) == 9
    for request in first.run_requests:
        start(lab, request)
    again = tick(lab, new_runs_sensor, first.cursor)
    assert again.run_requests == []
    assert again.cursor == first.cursor
    assert again.skip_reason.skip_message == "no new runs, no new buckets"


def test_runs_that_wait_for_their_bucket_are_collected_ahead_one_dagster_run_at_a_time(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=2, campaign={"collect_ahead": True})
    (request,) = tick(lab, new_runs_sensor).run_requests
    assert request.job_name == "prompt_collect_ahead"
    job = ahead_job(lab.plan, dg.in_process_executor, lab.workshop())
    tags = {"dagster/run_key": request.run_key}
    working = lab.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    lab.registry.add([run_record(3)])
    assert tick(lab, new_runs_sensor).run_requests == []
    lab.instance.report_run_canceled(working)
    (another,) = tick(lab, new_runs_sensor).run_requests
    assert another.run_key != request.run_key
    assert job.execute_in_process(instance=lab.instance, tags={"dagster/run_key": another.run_key}).success
    assert tick(lab, new_runs_sensor).run_requests == []
    assert {path.parent.name for path in lab.caf.ahead} == {"open"}
    assert len(lab.caf.ahead) == len(lab.plan.raw_stage)


def test_a_tick_that_died_after_booking_is_made_good_by_the_next(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1, BUCKET_2)
    assert [request.partition_key for request in tick(lab, new_runs_sensor).run_requests] == [
        BUCKET_1.key,
        BUCKET_2.key,
    ]


def test_a_bucket_worked_from_the_command_line_is_not_started_again(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, only=["caf_cdc"])
    assert tick(lab, new_runs_sensor).run_requests == []


def test_a_registry_that_is_down_is_said_and_the_cursor_stays(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    answer = tick(lab, new_runs_sensor, "3", lab.workshop(DownRegistry()))
    assert isinstance(answer, dg.SkipReason)  # which leaves the cursor as it is
    assert "registry.example.org does not answer" in str(answer.skip_message)
    assert len(tick(lab, new_runs_sensor, "3").run_requests) == 2


def test_a_run_whose_quality_changed_is_reported_anew(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=2)
    first = tick(lab, new_runs_sensor)
    lab.registry.add([run_record(2, quality="Bad For Alignment")])
    tick(lab, new_runs_sensor, first.cursor)
    wanted = dg.AssetRecordsFilter(asset_key=RAW_RUNS, asset_partitions=["e0012r00002"])
    record = lab.instance.fetch_materializations(wanted, limit=1).records[0]
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["quality"].value == "Bad For Alignment"


def test_a_large_registry_is_taken_in_over_several_ticks(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=0, campaign={"buckets": {}})
    lab.registry.add(run_record(run) for run in range(1, PAGE + 2))
    one_page = partial(new_runs_sensor, intake_seconds=0.0)
    first = tick(lab, one_page)
    assert len(lab.instance.get_dynamic_partitions("runs")) == PAGE
    tick(lab, one_page, first.cursor)
    assert len(lab.instance.get_dynamic_partitions("runs")) == PAGE + 1


def test_buckets_are_booked_once_all_runs_that_are_there_were_taken_in(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=0, campaign={"buckets": {"runs": PAGE // 2}})
    lab.registry.add(run_record(run) for run in range(1, PAGE + 2))
    one_page = partial(new_runs_sensor, intake_seconds=0.0)
    first = tick(lab, one_page)
    assert lab.store.buckets("prompt") == ()
    second = tick(lab, one_page, first.cursor)
    booked = {bucket.key for bucket in lab.store.buckets("prompt")}
    assert booked == {request.partition_key for request in second.run_requests}
    assert booked == lab.instance.get_materialized_partitions(bucket_runs_key("prompt"))
    assert len(booked) == 2


def test_a_whole_experiment_is_booked_when_the_campaign_s_last_run_or_a_later_one_is_there(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=5, campaign={"buckets": {"whole_experiments": True}, "last_run": [12, 6]})
    first = tick(lab, new_runs_sensor)
    assert (first.run_requests, lab.store.buckets("prompt")) == ([], ())
    lab.registry.add([run_record(7)])
    second = tick(lab, new_runs_sensor, first.cursor)
    whole = Bucket(ExpRun(12, 1), ExpRun(12, 5))
    assert [request.partition_key for request in second.run_requests] == [whole.key]
    assert lab.store.buckets("prompt") == (whole,)
    start(lab, second.run_requests[0])
    assert tick(lab, new_runs_sensor, second.cursor).run_requests == []


def test_a_whole_experiment_without_a_last_run_is_booked_when_the_next_one_begins(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=PAGE + 3, campaign={"buckets": {"whole_experiments": True}})
    first = tick(lab, new_runs_sensor)
    assert lab.store.buckets("prompt") == ()
    lab.registry.add([replace(run_record(1), run=ExpRun(13, 1))])
    tick(lab, new_runs_sensor, first.cursor)
    assert lab.store.buckets("prompt") == (Bucket(ExpRun(12, 1), ExpRun(12, PAGE + 3)),)


def test_a_sign_off_starts_what_waited_for_it_once(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    lab.book(BUCKET_1)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1)
    assert tick(lab, gates_sensor).run_requests == []
    accept(lab, "SVD time")
    (request,) = tick(lab, gates_sensor).run_requests
    assert calibration_key("prompt", "SVD time", Part.sign_off) in request.asset_selection
    assert dg.AssetKey(["prompt", "published"]) in request.asset_selection
    start(lab, request)
    assert tick(lab, gates_sensor).run_requests == []


def accept(lab: Laboratory, calibration: str, decision: Decision = Decision.accepted) -> None:
    wanted = dg.AssetRecordsFilter(
        asset_key=calibration_key("prompt", calibration, Part.payloads), asset_partitions=[BUCKET_1.key]
    )
    materialization = lab.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert materialization is not None
    content = str(materialization.metadata["content"].value)
    now = datetime.now(UTC)
    lab.sign_offs.record(SignOff("prompt", BUCKET_1.key, calibration, decision, "ada", "fine", content, now))


def test_publishing_an_earlier_bucket_starts_the_publishing_of_the_next(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_2)
    assert tick(lab, gates_sensor).run_requests == []
    runner.work(BUCKET_1)
    (request,) = tick(lab, gates_sensor).run_requests
    assert request.partition_key == BUCKET_2.key
    assert [key.path[-1] for key in request.asset_selection] == ["published"]


def test_a_step_that_failed_by_its_own_fault_is_left_to_people(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, caf=FakeCaf(payload_names(), broken={"caf_beam": "BeamSpot: no"}))
    lab.book(BUCKET_1)
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1)
    assert tick(lab, gates_sensor).run_requests == []


def test_a_bucket_that_a_person_stopped_stays_stopped(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, only=["caf_cdc"])
    add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.CANCELED, {})
    assert tick(lab, gates_sensor).run_requests == []


def test_a_bucket_whose_worker_died_is_resumed_but_not_for_ever(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, only=["caf_cdc"])
    keys = set()
    for _ in range(ATTEMPTS):
        (request,) = tick(lab, gates_sensor).run_requests
        keys.add(request.run_key)
        start(lab, request, dg.DagsterRunStatus.FAILURE)
    assert len(keys) == ATTEMPTS
    assert SITUATION_TAG in request.tags
    assert tick(lab, gates_sensor).run_requests == []


def test_a_bucket_closed_by_hand_is_started(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=2, campaign={"buckets": {}})
    tick(lab, new_runs_sensor)
    assert lab.store.buckets("prompt") == ()
    bucket = type(BUCKET_1)(ExpRun(12, 1), ExpRun(12, 2))
    lab.book(bucket)
    assert [request.partition_key for request in tick(lab, new_runs_sensor).run_requests] == [bucket.key]


def turn(lab: Laboratory, state: CampaignState) -> None:
    lab.store.change_state(CampaignChange("prompt", state, "ada", "shutdown", datetime.now(UTC)))


def test_a_paused_campaign_books_runs_and_buckets_and_starts_nothing_until_it_is_resumed(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=9, campaign={"collect_ahead": True})
    turn(lab, CampaignState.paused)
    paused = tick(lab, new_runs_sensor)
    assert not paused.run_requests
    assert lab.store.buckets("prompt") == (BUCKET_1, BUCKET_2)
    assert len(lab.instance.get_dynamic_partitions("prompt_buckets")) == 2
    turn(lab, CampaignState.active)
    keys = [request.partition_key for request in tick(lab, new_runs_sensor, paused.cursor).run_requests]
    assert {BUCKET_1.key, BUCKET_2.key} <= set(keys)


def test_no_gate_of_a_paused_campaign_starts_anything(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    tick(lab, new_runs_sensor)
    add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.FAILURE, {})
    turn(lab, CampaignState.paused)
    assert not tick(lab, gates_sensor).run_requests
    turn(lab, CampaignState.active)
    assert [request.partition_key for request in tick(lab, gates_sensor).run_requests] == [BUCKET_1.key]
