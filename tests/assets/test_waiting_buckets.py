"""Buckets whose work has not begun cost little: few of them wait in Dagster's queue, and none is looked at closely."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from asset_fakes import BUCKET_1, BUCKET_2, Laboratory
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from servers.fake_gitlab import FakeGitLab
from test_bucket_cells import cells
from test_notices_sensor import Office
from test_sensors import start, tick, turn

from b2cal_core.campaign_states import CampaignState
from b2cal_core.notices import NoticeKind
from sensors.dagster_runs import begun_buckets
from sensors.gates import gates_sensor
from sensors.new_runs import WAITING_AT_ONCE, new_runs_sensor

MakeLaboratory = Callable[..., Laboratory]


@dg.job
def some_job() -> None:
    """Stands for the bucket job in the queue."""


def queue(lab: Laboratory, bucket: str, campaign: str = "prompt") -> str:
    """A Dagster run over the bucket that waits in the queue."""
    location = GrpcServerCodeLocationOrigin(host="localhost", port=4000, location_name="b2cal")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "some_job")
    tags = {"b2cal/campaign": campaign, "dagster/partition": bucket}
    queued = dg.DagsterRunStatus.QUEUED
    return lab.instance.create_run_for_job(some_job, status=queued, tags=tags, remote_job_origin=origin).run_id


def requests(answer: Any) -> list[Any]:
    return list(answer.run_requests or ()) if isinstance(answer, dg.SensorResult) else []


def test_a_campaign_has_only_so_many_new_buckets_in_the_queue(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=2 * WAITING_AT_ONCE, campaign={"buckets": {"runs": 1}})
    first = tick(lab, new_runs_sensor)
    queued = [queue(lab, request.partition_key) for request in first.run_requests]
    assert len(queued) == WAITING_AT_ONCE
    assert not requests(tick(lab, new_runs_sensor, first.cursor))
    for run_id in queued[:3]:
        lab.instance.report_run_failed(lab.instance.get_run_by_id(run_id))
    assert len(requests(tick(lab, new_runs_sensor, first.cursor))) == 3


def test_what_other_campaigns_have_in_the_queue_takes_no_room(laboratory: MakeLaboratory) -> None:
    lab = laboratory(campaign={"buckets": {"runs": 1}})
    for number in range(WAITING_AT_ONCE):
        queue(lab, f"e0001r{number:05d}-e0001r{number:05d}", campaign="recalibration")
    assert requests(tick(lab, new_runs_sensor))


def test_a_bucket_is_begun_when_a_dagster_run_left_the_queue(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    request = tick(lab, new_runs_sensor).run_requests[0]
    queue(lab, BUCKET_2.key)
    both = (BUCKET_1.key, BUCKET_2.key)
    assert begun_buckets(lab.instance, both) == set()
    start(lab, request, dg.DagsterRunStatus.STARTED)
    assert begun_buckets(lab.instance, both) == {request.partition_key}
    assert begun_buckets(lab.instance, ()) == set()


def test_what_is_asked_for_and_not_begun_is_told_to_be_in_the_queue(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    turn(lab, CampaignState.paused)
    queue(lab, BUCKET_1.key)
    found = cells(lab)["prompt/cdc_tracking/payloads"]
    assert (found.state, found.command) == ("queued", "b2cal up")
    assert found.reasons[0].startswith("its Dagster run waits in Dagster's queue")


def test_the_gates_of_a_bucket_are_looked_at_when_its_work_has_begun(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    first, second = tick(lab, new_runs_sensor).run_requests
    queue(lab, first.partition_key)
    start(lab, second, dg.DagsterRunStatus.FAILURE)
    (again,) = tick(lab, gates_sensor).run_requests
    assert again.partition_key == second.partition_key


def test_that_a_bucket_is_closed_is_told_before_its_work_begins_and_what_comes_of_it_later(
    laboratory: MakeLaboratory, gitlab: FakeGitLab
) -> None:
    lab = laboratory()
    office = Office(lab, gitlab)
    first, second = tick(lab, new_runs_sensor).run_requests
    office.tick()
    book = office.correspondence().book
    assert book.settled("prompt") == dict.fromkeys((first.partition_key, second.partition_key), "waiting")
    closed = [notice for notice in office.chat.notices if notice.kind is NoticeKind.bucket_closed]
    assert len(closed) == 2
    start(lab, first, dg.DagsterRunStatus.FAILURE)
    office.tick()
    assert office.tick().startswith("0 notices told")
