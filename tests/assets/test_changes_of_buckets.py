"""What makes the gates sensor look at a bucket again, and what it does not look at; one sensor ticks several times."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, EXP, DownRegistry, FakeValidation, Laboratory
from test_sensors import accept, add_run, turn

from b2cal_assets.asset_keys import bucket_runs_key
from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.campaign_assets import bucket_job
from b2cal_assets.local_offers import SourceTags
from b2cal_core.buckets import Bucket
from b2cal_core.campaign_states import CampaignState
from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.ranges import ExpRun
from b2cal_core.remedies import Remedy
from sensors import gates as gates_module
from sensors.changes import ALL_AGAIN, RESTS, Changes, bucket_name
from sensors.gates import gates_sensor

MakeLaboratory = Callable[..., Laboratory]
BUCKET_3, BUCKET_4 = (Bucket(ExpRun(EXP, first), ExpRun(EXP, first + 3)) for first in (9, 13))
BUCKETS = (BUCKET_1, BUCKET_2, BUCKET_3, BUCKET_4)
NOTHING = "nothing has happened to any bucket"


class Watch:
    """Looks round, and keeps what it saw."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab, self.now = lab, datetime.now(UTC)
        self._changes = Changes([lab.plan], clock=lambda: self.now)

    def touched(self, *, keep: bool = True, **kept: Any) -> list[Bucket]:
        look = self._changes.look(self._lab.workshop(), self._lab.instance, SourceTags(self._lab.conditions))
        if keep:
            self._changes.keep(look, **kept)
        assert look.names == {bucket_name("prompt", key) for key in look.touched["prompt"]}
        return [bucket for bucket in BUCKETS if bucket.key in look.touched["prompt"]]


@pytest.fixture
def lab(laboratory: MakeLaboratory) -> Laboratory:
    """Four buckets that are booked."""
    made = laboratory(runs=0)
    made.book(*BUCKETS)
    return made


@pytest.fixture
def watch(lab: Laboratory) -> Watch:
    """One that has looked at all of them."""
    made = Watch(lab)
    assert made.touched() == list(BUCKETS)
    assert made.touched() == []
    return made


def test_a_choice_touches_its_bucket_and_those_beside_it_once(lab: Laboratory, watch: Watch) -> None:
    lab.sign_offs.choose(
        ShortageChoice("prompt", BUCKET_1.key, "CDC Tracking", Remedy.reuse, "ada", "few", datetime.now(UTC))
    )
    assert watch.touched(keep=False) == [BUCKET_1, BUCKET_2]
    assert watch.touched() == [BUCKET_1, BUCKET_2]
    assert watch.touched() == []


def test_what_is_reported_of_a_bucket_touches_it(lab: Laboratory, watch: Watch) -> None:
    for key in (bucket_runs_key("prompt"), bucket_runs_key("another")):
        lab.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=BUCKET_4.key))
        assert watch.touched() == ([BUCKET_3, BUCKET_4] if key == bucket_runs_key("prompt") else [])


def test_a_dagster_run_touches_its_bucket_when_it_ends_and_not_while_it_works(lab: Laboratory, watch: Watch) -> None:
    run = add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.STARTED, {})
    assert watch.touched() == []
    lab.instance.report_run_canceled(run)
    assert watch.touched() == [BUCKET_1, BUCKET_2]
    assert watch.touched() == []


def test_a_dagster_run_that_failed_rests_before_it_touches_its_bucket(lab: Laboratory, watch: Watch) -> None:
    lab.instance.report_run_failed(add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.STARTED, {}))
    assert watch.touched() == []
    watch.now = datetime.now(UTC) + RESTS
    assert watch.touched() == [BUCKET_1, BUCKET_2]
    assert watch.touched() == []


@pytest.mark.parametrize("state", [CampaignState.paused, CampaignState.archived])
def test_a_campaign_whose_state_changes_is_looked_at_wholly(
    lab: Laboratory, watch: Watch, state: CampaignState
) -> None:
    turn(lab, state)
    assert watch.touched() == list(BUCKETS)
    assert watch.touched() == []


def test_another_bucket_makes_all_be_looked_at(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=0)
    lab.book(BUCKET_1, BUCKET_2)
    watch = Watch(lab)
    watch.touched()
    lab.book(BUCKET_4)
    assert watch.touched() == [BUCKET_1, BUCKET_2, BUCKET_4]


def test_a_source_tag_that_is_filled_makes_all_be_looked_at(laboratory: MakeLaboratory) -> None:
    local = {"svd": {"tag": "local_svd", "payloads": ["SVDNoise"]}}
    lab = laboratory(runs=0, campaign={"local_calibrations": local})
    lab.book(*BUCKETS)
    watch = Watch(lab)
    watch.touched()
    assert watch.touched() == []
    lab.conditions.create_tag("local_svd")
    assert watch.touched() == []  # tags are read now and then only
    watch.now += RESTS
    assert watch.touched() == list(BUCKETS)
    assert watch.touched() == []


def test_after_some_minutes_all_are_looked_at_whatever_happened(watch: Watch) -> None:
    watch.now += ALL_AGAIN
    assert watch.touched() == list(BUCKETS)
    assert watch.touched() == []


def test_what_a_tick_did_not_come_to_is_looked_at_by_the_next(watch: Watch) -> None:
    watch.touched(left=[bucket_name("prompt", BUCKET_1.key)])
    assert watch.touched() == [BUCKET_1, BUCKET_2]
    assert watch.touched() == []


def test_work_that_was_asked_for_is_looked_for_once_more(watch: Watch) -> None:
    watch.touched(asked=[bucket_name("prompt", BUCKET_4.key)])
    assert watch.touched() == []
    watch.now += RESTS
    assert watch.touched() == [BUCKET_3, BUCKET_4]
    assert watch.touched() == []


class Sensor:
    """One sensor that ticks again and again."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._sensor = gates_sensor([lab.plan], [bucket_job(lab.plan, dg.in_process_executor)])

    def tick(self) -> Any:
        resources = {"workshop": self._lab.workshop(DownRegistry())}  # gates ask no registry of runs
        with dg.build_sensor_context(instance=self._lab.instance, resources=resources) as context:
            return self._sensor(context)


def shown(lab: Laboratory, bucket: Bucket) -> int:
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(["prompt", "published"]), asset_partitions=[bucket.key])
    return len(lab.instance.fetch_observations(wanted, limit=100).records)


@pytest.fixture
def waiting(laboratory: MakeLaboratory) -> Laboratory:
    """Two buckets that were worked and wait for an expert."""
    lab = laboratory(validation=FakeValidation({"val_svd": 3.0}))
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    for bucket in (BUCKET_1, BUCKET_2):
        runner.work(bucket)
    return lab


def test_a_decision_is_seen_by_the_next_tick_and_a_tick_without_news_looks_at_nothing(waiting: Laboratory) -> None:
    sensor = Sensor(waiting)
    assert sensor.tick().run_requests == []
    assert sensor.tick().skip_reason.skip_message == NOTHING
    accept(waiting, "SVD time")
    (request,) = sensor.tick().run_requests
    assert request.partition_key == BUCKET_1.key
    assert sensor.tick().skip_reason.skip_message == NOTHING
    add_run(waiting, BUCKET_1.key, dg.DagsterRunStatus.SUCCESS, {})
    assert len(sensor.tick().run_requests) == 1


def test_what_a_page_shows_is_not_told_again_when_another_bucket_is_looked_at(waiting: Laboratory) -> None:
    sensor = Sensor(waiting)
    sensor.tick()
    before = shown(waiting, BUCKET_2)
    add_run(waiting, BUCKET_1.key, dg.DagsterRunStatus.SUCCESS, {})
    sensor.tick()
    Sensor(waiting).tick()  # the service was started anew
    assert shown(waiting, BUCKET_2) == before


def test_a_tick_that_has_no_time_left_leaves_its_buckets_to_the_next(
    waiting: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(waiting, "SVD time")
    sensor = Sensor(waiting)
    with monkeypatch.context() as hurried:
        hurried.setattr(gates_module, "LOOK_SECONDS", -1.0)
        assert sensor.tick().run_requests == []
    (request,) = sensor.tick().run_requests
    assert request.partition_key == BUCKET_1.key


def test_another_campaign_of_the_same_runs_is_not_touched(waiting: Laboratory) -> None:
    other = replace(waiting.plan, campaign=waiting.plan.campaign.model_copy(update={"name": "other"}))
    waiting.store.add_bucket("other", BUCKET_1, closed_by="test")
    changes = Changes([waiting.plan, other])
    tags = SourceTags(waiting.conditions)
    changes.keep(changes.look(waiting.workshop(), waiting.instance, tags))
    accept(waiting, "SVD time")
    look = changes.look(waiting.workshop(), waiting.instance, tags)
    assert look.touched == {"prompt": {BUCKET_1.key, BUCKET_2.key}, "other": frozenset()}
