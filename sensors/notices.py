"""Who is told what: the state of every bucket becomes notices and tickets.

A bucket of which all was told is not read again until something of it is made anew.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock

import dagster as dg

from b2cal_assets.bucket_ledger import BucketLedger, started_buckets
from b2cal_assets.bucket_situations import finished_versions, situation_of
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket, after_last, form_buckets
from b2cal_core.errors import BackendError
from b2cal_core.forecasts import shortfalls
from b2cal_core.notices import Notice, notices_of, shortfall_notice
from b2cal_core.ranges import ExpRun
from b2cal_core.situations import BucketSituation, Failure
from sensors.dagster_runs import activity, begun_buckets, runs_of_bucket
from sensors.gates import ATTEMPTS, SITUATION_TAG
from sensors.telling import Teller

_BEGUN, _WAITING = "", "waiting"
"""Versions of a bucket of which something is missing, and of one that nobody has begun to work."""
_ONE_AT_A_TIME = Lock()
"""Dagster gives up on a tick after a minute, though it goes on: what it tells must not be told by the next one too."""
OLD = timedelta(days=1)
"""A bucket that was published longer ago, before anything was told of it, is no news."""


def notices_sensor(
    plans: Sequence[CampaignPlan],
    *,
    seconds: float = 60,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor over all campaigns.

    Args:
        plans: of the campaigns.
        seconds: between its ticks; what is not told in half of them is left to the next.
        clock: gives the time in UTC.
    """
    accounts: set[str] = set()

    @dg.sensor(
        name="notices",
        minimum_interval_seconds=int(seconds),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people what waits for them, what failed and what is published, and keeps the tickets.",
    )
    def notices(context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]) -> dg.SkipReason:
        if workshop.correspondence is None:
            return dg.SkipReason("nobody is to be told anything")
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            return dg.SkipReason("the tick before is still at work: somebody it tells answers slowly")
        try:
            end = time.monotonic() + seconds / 2
            teller = Teller(workshop.correspondence(), clock(), end, accounts=accounts)
            return dg.SkipReason(_told(plans, workshop, teller, context=context))
        finally:
            _ONE_AT_A_TIME.release()

    return notices


def _told(
    plans: Sequence[CampaignPlan], workshop: Workshop, teller: Teller, *, context: dg.SensorEvaluationContext
) -> str:
    """Tell all, and put in words what came of it."""
    try:
        tell_all(plans, workshop, teller, instance=context.instance)
    except BackendError as error:
        teller.problems[str(error)] = None
    for problem in teller.problems:
        context.log.warning(problem)
    done = f"{teller.told} notices told, {teller.kept} tickets brought up to date"
    return "; ".join([done, *teller.problems])


def tell_all(
    plans: Sequence[CampaignPlan], workshop: Workshop, teller: Teller, *, instance: dg.DagsterInstance
) -> None:
    """Tell all that is to be told of every bucket; ``BackendError`` when the book or the registry does not answer."""
    for plan in plans:
        finished, settled = finished_versions(plan, instance), teller.office.book.settled(plan.name)
        buckets = sorted(workshop.campaigns.buckets(plan.name))
        unfinished = (bucket.key for bucket in buckets if bucket.key not in finished)
        teller.tell(_shortfalls(plan, buckets, workshop, now=teller.now))
        begun = started_buckets(plan, instance) | begun_buckets(instance, unfinished)
        for bucket in buckets:
            version = finished.get(bucket.key, _BEGUN if bucket.key in begun else _WAITING)
            if version == _BEGUN or settled.get(bucket.key) != version:
                pages = teller.office.dagster_address
                situation = _situation(plan, bucket, buckets, workshop, instance=instance, pages=pages)
                told = _tell(plan, situation, teller, is_new=bucket.key not in settled)
                if told and (situation.is_published or version == _WAITING):
                    teller.office.book.settle(plan.name, bucket.key, version)


def _shortfalls(plan: CampaignPlan, buckets: Sequence[Bucket], workshop: Workshop, *, now: datetime) -> list[Notice]:
    """That calibrations will not have the events they want in the bucket that is filling, where a rule closes it."""
    campaign, policy = plan.campaign, plan.campaign.buckets
    ahead = after_last(buckets, campaign.iov)
    if not campaign.wanted_events or ahead is None or policy.by_hand_only or policy.whole_experiments:
        return []
    formed = form_buckets(workshop.runs.runs(ahead), policy)
    filling = after_last(formed.closed, ahead)
    settings = [plan.settings(name) for name in plan.calibrations]
    found = shortfalls(formed.waiting, campaign.wanted_events, settings, policy, now=now)
    first = ExpRun(*(filling or ahead).start)
    return [shortfall_notice(plan.name, campaign.owner, first, one) for one in found]


def _situation(
    plan: CampaignPlan,
    bucket: Bucket,
    buckets: Sequence[Bucket],
    workshop: Workshop,
    *,
    instance: dg.DagsterInstance,
    pages: str,
) -> BucketSituation:
    runs = runs_of_bucket(instance, plan, bucket.key)
    ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=workshop.sign_offs)
    ledger.read_all()
    seen = situation_of(
        ledger,
        activity(instance, runs),
        buckets,
        at_work=not all(run.is_finished for run in runs),
        dagster_address=pages,
    )
    return replace(seen, failures=(*seen.failures, *_given_up(runs, instance)))


def _given_up(runs: Sequence[dg.DagsterRun], instance: dg.DagsterInstance) -> Iterator[Failure]:
    """That Dagster runs died so often, without a step that says why, that the gates do not start another."""
    if not runs or runs[0].status is not dg.DagsterRunStatus.FAILURE or SITUATION_TAG not in runs[0].tags:
        return
    last, situation = runs[0], runs[0].tags[SITUATION_TAG]
    attempts = sum(run.tags.get(SITUATION_TAG) == situation for run in runs)
    record = instance.get_run_record_by_id(last.run_id)
    if attempts < ATTEMPTS or record is None or record.end_time is None or activity(instance, [last]).failed:
        return
    sentence = (
        f"{attempts} Dagster runs died before their work was done; the log of the last, {last.run_id}, may say why"
    )
    yield Failure("the Dagster runs", sentence, datetime.fromtimestamp(record.end_time, UTC))


def _is_old(situation: BucketSituation, now: datetime) -> bool:
    return situation.is_published and situation.published_at is not None and situation.published_at < now - OLD


def _tell(plan: CampaignPlan, situation: BucketSituation, teller: Teller, *, is_new: bool) -> bool:
    """Tell of one bucket; whether nothing is left as it stands."""
    if is_new and _is_old(situation, teller.now):
        return True
    if is_new:
        teller.office.book.settle(plan.name, situation.bucket.key, _BEGUN)
    found = notices_of(situation, now=teller.now, reminders=plan.campaign.gates.reminders)
    teller.tell(found)
    return teller.keep_tickets(situation) and teller.has_told(found)
