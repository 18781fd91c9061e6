"""Where the time of buckets went, read from what the platform records while it works them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, FakeCaf, FakeValidation, Laboratory, payload_names
from matplotlib.image import imread

from b2cal_assets.asset_keys import Part, calibration_key, published_key
from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.latencies import SENSOR, CampaignLatencies
from b2cal_assets.latency_report import draw_latencies, in_words, summary, to_json
from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.latency import BucketLatency, Spread, WaitsFor
from b2cal_core.ports import CafObserver, CafRequest, CafResult
from b2cal_core.redo import Redo
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Decision, SignOff

MakeLaboratory = Callable[..., Laboratory]
LATER = timedelta(days=1)
MOMENT = timedelta(minutes=1)
"""More than any test takes, and far less than the days they tell of."""


def work(lab: Laboratory, *buckets: Any, closed_by: str = f"{SENSOR}new_runs") -> None:
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    for bucket in buckets:
        lab.store.add_bucket("prompt", bucket, closed_by=closed_by)
        runner.work(bucket)


def latencies(lab: Laboratory, *, after: timedelta = timedelta(0)) -> tuple[BucketLatency, ...]:
    """As they stand a while from now."""
    now = datetime.now(UTC) + after
    return CampaignLatencies(lab.plan, lab.workshop(), instance=lab.instance, now=now).all()


def days(found: BucketLatency) -> dict[str, float]:
    """Shares of more than a minute, in days."""
    return {
        what.name: pytest.approx(length / LATER, abs=MOMENT / LATER)
        for what, length in found.shares.items()
        if length > MOMENT
    }


def decide(lab: Laboratory, calibration: str, decision: Decision, *, after: timedelta, **terms: Any) -> None:
    wanted = dg.AssetRecordsFilter(
        asset_key=calibration_key("prompt", calibration, Part.payloads), asset_partitions=[BUCKET_1.key]
    )
    made = lab.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert made is not None
    content, when = str(made.metadata["content"].value), datetime.now(UTC) + after
    lab.sign_offs.record(SignOff("prompt", BUCKET_1.key, calibration, decision, "ada", "so", content, when, **terms))


def test_the_way_of_a_published_bucket_is_told_in_full_and_people_have_no_share_in_it(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=4)
    work(lab, BUCKET_1)
    (found,) = latencies(lab, after=LATER)
    assert found.is_published
    assert found.first_run <= found.last_run <= found.closed <= found.end <= datetime.now(UTC)
    assert sum(found.shares.values(), timedelta(0)) == found.from_first_run
    assert sum(found.shares_since_closing.values(), timedelta(0)) == found.from_closing
    assert found.shares[WaitsFor.machine] > timedelta(0)
    assert found.shares[WaitsFor.people] == found.shares[WaitsFor.queue] == timedelta(0)


def test_the_published_asset_shows_how_long_its_bucket_took(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    work(lab, BUCKET_1)
    (found,) = latencies(lab)
    wanted = dg.AssetRecordsFilter(asset_key=published_key("prompt"), asset_partitions=[BUCKET_1.key])
    made = lab.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert made is not None
    shown: dict[str, Any] = dict(made.metadata)
    rows = {record.data["waiting for"]: record.data for record in shown["latency"].value.records}
    assert rows["people"]["from the first run"] == "0.0 s"
    assert set(rows) == {what.value for what in WaitsFor}
    hours = found.from_closing / timedelta(hours=1)
    assert shown["hours from the closing"].value == pytest.approx(hours, abs=MOMENT / timedelta(hours=1))
    assert shown["plot latency"].value.startswith("![latency](data:image/png;base64,")


def test_a_sign_off_that_is_open_is_waited_for_by_its_bucket_and_by_all_later_ones(laboratory: MakeLaboratory) -> None:
    lab = laboratory(validation=FakeValidation({"val_svd": 3.0}))
    work(lab, BUCKET_1, BUCKET_2)
    first, second = latencies(lab, after=LATER)
    assert not first.is_published
    assert days(first) == days(second) == {"people": 1}


def test_what_follows_a_decision_late_is_the_platforms(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    work(lab, BUCKET_1)
    decide(lab, "SVD time", Decision.accepted, after=LATER / 4)
    (found,) = latencies(lab, after=LATER)
    assert days(found) == {"people": 0.25, "platform": 0.75}


def test_after_a_rejection_people_are_waited_for_unless_the_campaign_redoes_it(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    work(lab, BUCKET_1)
    decide(lab, "SVD time", Decision.rejected, after=LATER / 2, redo=Redo(expert_config={"minimum": 5}))
    assert days(latencies(lab, after=LATER)[0]) == {"people": 1}


def test_a_campaign_that_redoes_by_itself_waits_for_the_platform_after_a_rejection(laboratory: MakeLaboratory) -> None:
    by_itself = {"gates": {"redo": "always"}}
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}), campaign=by_itself)
    work(lab, BUCKET_1)
    decide(lab, "SVD time", Decision.rejected, after=LATER / 2, redo=Redo(expert_config={"minimum": 5}))
    assert days(latencies(lab, after=LATER)[0]) == {"people": 0.5, "platform": 0.5}


def test_where_the_gates_ask_for_verdicts_only_a_warning_waits_for_nobody(laboratory: MakeLaboratory) -> None:
    verdicts = {"gates": {"cdst": "verdict", "publish": "verdict"}}
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}), campaign=verdicts)
    work(lab, BUCKET_1)
    (found,) = latencies(lab, after=LATER)
    assert found.is_published
    assert days(found) == {}


def test_a_step_that_failed_waits_for_people(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, caf=FakeCaf(payload_names(), broken={"caf_beam": "BeamSpot: no"}))
    work(lab, BUCKET_1)
    assert days(latencies(lab, after=LATER)[0]) == {"people": 1}


@pytest.mark.parametrize(
    ("policy", "shares"), [("ask", {"people": 1}), ("merge", {"people": 1}), ("extend", {"data": 1})]
)
def test_a_bucket_with_too_few_data_waits_for_a_choice_or_for_the_next_bucket(
    laboratory: MakeLaboratory, policy: str, shares: dict[str, float]
) -> None:
    lab = laboratory(
        runs=4,
        caf=FakeCaf(payload_names(), hungry={"caf_cdc": 5}),
        campaign={"not_enough_data_of": {"caf_cdc": policy}},
    )
    work(lab, BUCKET_1)
    assert days(latencies(lab, after=LATER)[0]) == shares


def test_a_choice_over_too_few_data_ends_the_waiting_for_it(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, caf=FakeCaf(payload_names(), hungry={"caf_cdc": 5}))
    work(lab, BUCKET_1)
    when = datetime.now(UTC) + LATER / 4
    lab.sign_offs.choose(ShortageChoice("prompt", BUCKET_1.key, "CDC Tracking", Remedy.reuse, "ada", "so", when))
    assert days(latencies(lab, after=LATER)[0]) == {"people": 0.25, "platform": 0.75}


def test_the_next_bucket_ends_the_waiting_for_its_data(laboratory: MakeLaboratory) -> None:
    policy = {"not_enough_data_of": {"caf_cdc": "extend"}}
    lab = laboratory(caf=FakeCaf(payload_names(), hungry={"caf_cdc": 5}), campaign=policy)
    work(lab, BUCKET_1)
    lab.book(BUCKET_2)
    first, _ = latencies(lab, after=LATER)
    assert days(first) == {"platform": 1}


def test_a_failure_that_was_mended_is_waited_for_until_then(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, caf=FakeCaf(payload_names(), broken={"caf_beam": "BeamSpot: no"}))
    work(lab, BUCKET_1)
    lab.caf = FakeCaf(payload_names())
    work(lab, BUCKET_1)
    (found,) = latencies(lab, after=LATER)
    assert found.is_published
    assert timedelta(0) < found.shares[WaitsFor.people] < MOMENT


@pytest.mark.parametrize(
    ("closed_by", "policy", "what"),
    [
        ("mia", {}, WaitsFor.people),
        (f"{SENSOR}new_runs", {"runs": 4, "counted": []}, WaitsFor.platform),
        (f"{SENSOR}new_runs", {"runs": 9, "counted": []}, WaitsFor.data),
    ],
)
def test_with_all_its_runs_a_bucket_waits_for_its_manager_or_if_full_the_sensor_or_else_for_the_run_after_it(
    laboratory: MakeLaboratory, closed_by: str, policy: dict[str, Any], what: WaitsFor
) -> None:
    lab = laboratory(runs=4, campaign={"buckets": policy})
    lab.store.add_bucket("prompt", BUCKET_1, closed_by=closed_by)
    (found,) = latencies(lab)
    before = {kind: found.shares[kind] - found.shares_since_closing[kind] for kind in WaitsFor}
    arriving = found.last_run - found.first_run
    assert before[what] - (arriving if what is WaitsFor.data else timedelta(0)) == found.closed - found.last_run
    assert sum(before.values(), timedelta(0)) == found.closed - found.first_run


def test_a_dagster_run_that_waits_for_its_place_is_the_platforms(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    work(lab, BUCKET_1)
    tags = {"b2cal/campaign": "prompt", "dagster/partition": BUCKET_1.key}
    lab.instance.create_run_for_job(some_job, status=dg.DagsterRunStatus.STARTING, tags=tags)
    assert days(latencies(lab, after=LATER)[0]) == {"platform": 1}


def test_a_dagster_run_of_another_campaign_is_not_looked_at(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    work(lab, BUCKET_1)
    tags = {"b2cal/campaign": "second", "dagster/partition": BUCKET_1.key}
    lab.instance.create_run_for_job(some_job, status=dg.DagsterRunStatus.STARTING, tags=tags)
    assert days(latencies(lab, after=LATER)[0]) == {"people": 1}


@dg.job
def some_job() -> None:
    """Stands for one that the daemon has asked for."""


class QueueingCaf(FakeCaf):
    """Its jobs wait until the clock has moved."""

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        observer.state("c", "running_collector", 0)
        observer.jobs("c", {"submitted": 4, "running": 0})
        until = datetime.now(UTC) + timedelta(milliseconds=5)
        while datetime.now(UTC) < until:
            pass
        observer.jobs("c", {"submitted": 0, "running": 4})
        return super().run(request, observer)


def test_the_time_in_which_jobs_of_a_step_waited_is_the_batch_queues(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, caf=QueueingCaf(payload_names()))
    work(lab, BUCKET_1)
    (found,) = latencies(lab)
    assert found.shares[WaitsFor.queue] >= 4 * timedelta(milliseconds=5)
    assert found.shares[WaitsFor.machine] > timedelta(0)


def test_a_bucket_that_is_not_in_the_book_has_no_latency(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    work(lab, BUCKET_1)
    reader = CampaignLatencies(lab.plan, lab.workshop(), instance=lab.instance)
    assert reader.of(BUCKET_2) is None
    assert reader.of(BUCKET_1) == reader.all()[0]


def test_only_published_buckets_are_summed_up(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    assert summary(latencies(lab)) == {}
    work(lab, BUCKET_1)
    (found,) = latencies(lab)
    assert summary([found])["from closing"] == Spread(found.from_closing, found.from_closing, found.from_closing)
    told = to_json(found)
    assert sum(told["shares_since_closing"].values()) == pytest.approx(told["from_closing"])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (7260, "2 h 01 min"), (180000, "2 d 02 h")],
)
def test_times_are_told_with_their_two_largest_units(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


def test_the_picture_shows_each_share_as_wide_as_it_is_long(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    work(lab, BUCKET_1)
    decide(lab, "SVD time", Decision.accepted, after=LATER / 4)
    image = imread(BytesIO(draw_latencies(latencies(lab, after=LATER), title="prompt")))[..., :3]
    red, amber = ((abs(image - colour) < 0.01).all(axis=2) for colour in ((0.843, 0.098, 0.11), (0.957, 0.655, 0.259)))
    bar = red[80:].any(axis=0).sum() / amber[80:].any(axis=0).sum()
    assert bar == pytest.approx(1 / 3, rel=0.02)
