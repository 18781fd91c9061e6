"""When runs arrive: they become partitions, full buckets are booked, and the work on new buckets is asked for.

The book of buckets is the truth; every tick adds to Dagster what it lacks, wherever the one before died.
"""

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice

import dagster as dg

from b2cal_assets.asset_keys import bucket_runs_key
from b2cal_assets.assets.runs import run_materializations
from b2cal_assets.bucket_inputs import BucketRuns, RunsReport, news_of_runs, report_of_runs, runs_of
from b2cal_assets.bucket_ledger import BucketLedger, started_buckets
from b2cal_assets.bulk_events import report_all, report_with_tags
from b2cal_assets.campaign_assets import CAMPAIGN_TAG, AssetJob, bucket_job_name, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_calibrations, ahead_job_name
from b2cal_assets.partitions import RUNS, bucket_partitions, run_key
from b2cal_assets.workshop import Workshop
from b2cal_core.awaited_runs import all_runs_there
from b2cal_core.buckets import Bucket, after_last, bucket_of, form_buckets, form_late_buckets, gap_of
from b2cal_core.errors import BackendError
from b2cal_core.ranges import IoV
from b2cal_core.runs import RunRecord
from sensors.dagster_runs import runs_of_bucket
from sensors.resting import resting

PAGE = 1000
"""Runs that are in memory at a time; more only while a bucket takes more to fill."""
INTAKE_SECONDS = 20.0
"""A tick has a minute; the pages that are left when this has passed are taken by the next one."""
WAITING_AT_ONCE = 10
"""New buckets of a campaign that may wait in Dagster's queue; more would cost every tick, and come no sooner."""
_CLOSED_BY = "sensor:new_runs"
_RUN_KEY_TAG = "dagster/run_key"
_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def new_runs_sensor(
    plans: Sequence[CampaignPlan],
    jobs: Sequence[AssetJob | dg.JobDefinition],
    *,
    registers: bool = True,
    seconds: int = 10,
    intake_seconds: float = INTAKE_SECONDS,
) -> dg.SensorDefinition:
    """The sensor over the campaigns of a code location.

    Args:
        plans: of the campaigns.
        jobs: those that work their buckets, and those that collect ahead.
        registers: whether it registers new runs with Dagster; with several locations, that of one of them does.
        seconds: between its ticks.
        intake_seconds: of a tick at most that go into new runs.
    """
    tasks = {"registers new runs": registers, "forms buckets and starts the work on them": bool(plans)}

    @dg.sensor(
        name="new_runs",
        jobs=list(jobs),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=", ".join(task for task, is_ours in tasks.items() if is_ours).capitalize(),
    )
    def new_runs(
        context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]
    ) -> dg.SensorResult | dg.SkipReason:
        _keep_what_is_loaded()
        try:
            taken = _take_in(context, workshop, plans, registers=registers, seconds=intake_seconds)
            booked = {plan: _buckets(plan, workshop, taken, context.instance) for plan in plans}
            late = [line for plan in plans for line in _tell_changes(plan, workshop, context.instance, taken)]
            idle = resting(workshop.campaigns)
        except BackendError as error:
            return dg.SkipReason(f"the run registry could not be asked, which the next tick does again: {error}")
        for line in late:
            context.log.warning(line)
        requests, partitions = [], []
        for plan, buckets in booked.items():
            if plan.name not in idle:
                requests += _ahead(plan, buckets, workshop, context.instance)
                requests += _started(taken.news[plan.name], buckets, workshop, context.instance)
            partitions += _missing_partitions(context.instance, plan, buckets)
        if requests or partitions or (taken.count and not late):
            return dg.SensorResult(
                run_requests=requests, dynamic_partitions_requests=partitions, cursor=str(taken.cursor)
            )
        return dg.SensorResult(skip_reason="; ".join(late) or "no new runs, no new buckets", cursor=str(taken.cursor))

    return new_runs


@cache
def _keep_what_is_loaded() -> None:
    """Spare the garbage collector what the process loaded: looking through it was a quarter of taking in many runs."""
    gc.collect()
    gc.freeze()


@dataclass(slots=True)
class _News:
    """What changed runs mean to one campaign.

    Attributes:
        buckets: its buckets in order, at the beginning of the tick.
        told: keys of the buckets whose runs Dagster knows.
        touched: those that have a changed run's place.
        gaps: where changed runs are that no bucket has, though later ones are closed.
        late: how many of these there are.
    """

    plan: CampaignPlan
    buckets: list[Bucket]
    told: set[str]
    touched: set[Bucket] = field(default_factory=set)
    gaps: set[IoV] = field(default_factory=set)
    late: int = 0

    def note(self, records: Iterable[RunRecord]) -> None:
        """Place changed runs; those after the last bucket are no news to buckets."""
        end = self.buckets[-1].last if self.buckets else None
        for record in records:
            if end is None or end < record.run or not self.plan.campaign.takes(record.run):
                continue
            bucket, gap = bucket_of(record.run, self.buckets), gap_of(record.run, self.buckets)
            self.touched |= {bucket} if bucket is not None else set()
            self.gaps |= {gap} if gap is not None else set()
            self.late += gap is not None


@dataclass(frozen=True, slots=True)
class _Intake:
    """What was taken in: how many runs, up to where, whether that is all, and what that is to each campaign."""

    cursor: int
    count: int
    all: bool
    news: Mapping[str, _News]


def _take_in(
    context: dg.SensorEvaluationContext,
    workshop: Workshop,
    plans: Iterable[CampaignPlan],
    *,
    registers: bool,
    seconds: float,
) -> _Intake:
    """Read changed runs page by page, and register them with Dagster where that is this sensor's business.

    Runs are reported before the cursor moves: a tick that dies in between reports some of them twice, and loses none.
    """
    news = {plan.name: _no_news(plan, workshop, context.instance) for plan in plans}
    cursor, count, end = int(context.cursor or 0), 0, time.monotonic() + seconds
    while True:
        records, cursor = workshop.runs.changes(cursor, PAGE)
        if registers:
            context.instance.add_dynamic_partitions(str(RUNS.name), [run_key(record.run) for record in records])
            report_all(context.instance, run_materializations(records))
        for one in news.values():
            one.note(records)
        count += len(records)
        if len(records) < PAGE or time.monotonic() >= end:
            return _Intake(cursor, count, len(records) < PAGE, news)


def _no_news(plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance) -> _News:
    told = set(instance.get_materialized_partitions(bucket_runs_key(plan.name)))
    return _News(plan, sorted(workshop.campaigns.buckets(plan.name)), told)


def _buckets(
    plan: CampaignPlan, workshop: Workshop, taken: _Intake, instance: dg.DagsterInstance
) -> tuple[Bucket, ...]:
    """The campaign's buckets, those included that fill up with the runs there are once all of these were taken in.

    Runs are read from the last bucket on, each once; in memory are a page and what waits for its bucket to fill. Gaps
    between buckets are looked at when runs came there.
    """
    news, policy = taken.news[plan.name], plan.campaign.buckets
    buckets = list(news.buckets)
    for gap in filter(None, (gap & plan.campaign.iov for gap in sorted(news.gaps))):
        late = workshop.runs.runs(gap)
        buckets += _book(news, form_late_buckets(late, policy, news.buckets), late, workshop, instance)
    waiting = tuple[RunRecord, ...]()
    ahead = after_last(buckets, plan.campaign.iov) if taken.all and not policy.by_hand_only else None
    over = ahead is not None and policy.whole_experiments and all_runs_there(plan.campaign, workshop.runs)
    while ahead is not None:
        page = workshop.runs.runs(ahead, limit=PAGE)
        formed = form_buckets((*waiting, *page), policy, all_there=over and len(page) < PAGE)
        buckets += _book(news, formed.closed, (*waiting, *page), workshop, instance)
        waiting = formed.waiting
        ahead = ahead.after(page[-1].run) if len(page) == PAGE else None
    return tuple(sorted(buckets))


def _book(
    news: _News,
    formed: Iterable[Bucket],
    records: Sequence[RunRecord],
    workshop: Workshop,
    instance: dg.DagsterInstance,
) -> list[Bucket]:
    """Book the buckets that these runs filled, and tell Dagster which of the runs each has."""
    plan = news.plan
    buckets = [workshop.campaigns.add_bucket(plan.name, bucket, closed_by=_CLOSED_BY) for bucket in formed]
    reports: list[RunsReport] = []
    for bucket in buckets:
        if bucket.key not in news.told:
            runs = BucketRuns(tuple(record for record in records if bucket.contains(record.run)))
            reports.append(report_of_runs(plan, bucket, runs))
    report_with_tags(instance, list(chain.from_iterable(reports)))
    news.told |= {bucket.key for bucket in buckets}
    return buckets


def _tell_changes(plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance, taken: _Intake) -> list[str]:
    """Tell Dagster what changed runs mean to buckets whose runs it knows; sentences about those that came late."""
    news = taken.news[plan.name]
    lines = _tell(plan, sorted(bucket for bucket in news.touched if bucket.key in news.told), workshop, instance)
    if news.late:
        listed = f"b2cal bucket list {plan.name}"
        lines.append(f"{news.late} runs of {plan.name} came after the buckets around them were closed: {listed}")
    return lines


def _tell(plan: CampaignPlan, buckets: Iterable[Bucket], workshop: Workshop, instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster which runs the buckets have; sentences about those that are left out and were not before."""
    reports: list[RunsReport] = []
    lines = []
    for bucket in buckets:
        ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=workshop.sign_offs)
        found = runs_of(ledger, workshop.runs, workshop.campaigns, workshop.publisher)
        reports.append(news_of_runs(ledger, found))
        if reports[-1] and found.left_out:
            lines.append(f"{len(found.left_out)} runs are left out of {plan.name} {bucket.key}: {found.why}")
    report_with_tags(instance, list(chain.from_iterable(reports)))
    return lines


def _started(
    news: _News, buckets: Iterable[Bucket], workshop: Workshop, instance: dg.DagsterInstance
) -> list[dg.RunRequest]:
    """Requests for buckets that were never worked, some at a time; their runs are told first where they are not yet."""
    plan = news.plan
    queued = dg.RunsFilter(tags={CAMPAIGN_TAG: plan.name}, statuses=[dg.DagsterRunStatus.QUEUED])
    room = max(0, WAITING_AT_ONCE - instance.get_runs_count(queued))
    chosen = list(islice(_not_started(plan, buckets, instance), room))
    _tell(plan, [bucket for bucket in chosen if bucket.key not in news.told], workshop, instance)
    return [_request(plan, bucket) for bucket in chosen]


def _not_started(plan: CampaignPlan, buckets: Iterable[Bucket], instance: dg.DagsterInstance) -> Iterator[Bucket]:
    """The buckets that no Dagster run has worked or will work; one question for those that were asked for here."""
    own = dg.RunsFilter(tags={CAMPAIGN_TAG: plan.name})
    asked = {known.partition for known in instance.get_run_partition_data(own)}
    left = [bucket for bucket in buckets if bucket.key not in asked]
    started = started_buckets(plan, instance) if left else set()
    return (b for b in left if b.key not in started and not runs_of_bucket(instance, plan, b.key))


def _request(plan: CampaignPlan, bucket: Bucket) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{plan.name}:{bucket.key}",
        job_name=bucket_job_name(plan.name),
        partition_key=bucket.key,
        tags=run_tags(plan),
    )


def _ahead(
    plan: CampaignPlan, buckets: Iterable[Bucket], workshop: Workshop, instance: dg.DagsterInstance
) -> list[dg.RunRequest]:
    """Have runs collected that wait for their bucket to fill; one Dagster run at a time, each change asked for once."""
    waiting = after_last(buckets, plan.campaign.iov) if ahead_calibrations(plan) else None
    changed = workshop.runs.last_change(waiting) if waiting is not None else 0
    if not changed:
        return []
    job, key = ahead_job_name(plan.name), f"{plan.name}:ahead:{waiting}:{changed}"
    at_work = dg.RunsFilter(job_name=job, statuses=list(_UNFINISHED))
    asked_before = dg.RunsFilter(job_name=job, tags={_RUN_KEY_TAG: key})
    if any(instance.get_run_records(found, limit=1) for found in (at_work, asked_before)):
        return []
    return [dg.RunRequest(run_key=key, job_name=job, tags=run_tags(plan))]


def _missing_partitions(
    instance: dg.DagsterInstance, plan: CampaignPlan, buckets: Iterable[Bucket]
) -> list[dg.AddDynamicPartitionsRequest]:
    definition = bucket_partitions(plan.name)
    known = set(instance.get_dynamic_partitions(str(definition.name)))
    keys = [bucket.key for bucket in buckets if bucket.key not in known]
    return [definition.build_add_request(keys)] if keys else []
