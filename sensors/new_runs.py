"""When runs arrive: they become partitions, full buckets are booked, and the work on new buckets is asked for.

The book of buckets is the truth; every tick adds to Dagster what it lacks, wherever the one before died.
"""

import time
from collections.abc import Iterable, Sequence

import dagster as dg

from b2cal_assets.assets.runs import run_materializations
from b2cal_assets.bucket_ledger import started_buckets
from b2cal_assets.bulk_events import report_all
from b2cal_assets.campaign_assets import CAMPAIGN_TAG, AssetJob, bucket_job_name, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_calibrations, ahead_job_name
from b2cal_assets.partitions import RUNS, bucket_partitions, run_key
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket, after_last, form_buckets
from b2cal_core.errors import BackendError
from b2cal_core.ports import RunRegistry
from b2cal_core.runs import RunRecord
from sensors.dagster_runs import runs_of_bucket
from sensors.resting import resting

PAGE = 1000
"""Runs that are in memory at a time; more only while a bucket takes more to fill."""
INTAKE_SECONDS = 20.0
"""A tick has a minute; the pages that are left when this has passed are taken by the next one."""
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
    seconds: int = 30,
    intake_seconds: float = INTAKE_SECONDS,
) -> dg.SensorDefinition:
    """The sensor over all campaigns; ``seconds`` lie between ticks, ``intake_seconds`` at most go into new runs."""

    @dg.sensor(
        name="new_runs",
        jobs=list(jobs),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Registers new runs, forms buckets and starts the work on them.",
    )
    def new_runs(
        context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            cursor, count = _take_in(context.instance, workshop.runs, int(context.cursor or 0), seconds=intake_seconds)
            booked = {plan: _buckets(plan, workshop) for plan in plans}
            idle = resting(workshop.campaigns)
        except BackendError as error:
            return dg.SkipReason(f"the run registry could not be asked, which the next tick does again: {error}")
        requests, partitions = [], []
        for plan, buckets in booked.items():
            if plan.name not in idle:
                requests += _ahead(plan, buckets, workshop, context.instance)
                requests += [_request(plan, bucket) for bucket in _not_started(plan, buckets, context.instance)]
            partitions += _missing_partitions(context.instance, plan, buckets)
        if not count and not requests and not partitions:
            return dg.SensorResult(skip_reason="no new runs, no new buckets", cursor=str(cursor))
        return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=partitions, cursor=str(cursor))

    return new_runs


def _take_in(instance: dg.DagsterInstance, registry: RunRegistry, cursor: int, *, seconds: float) -> tuple[int, int]:
    """Register changed runs with Dagster, page by page; the new cursor and how many runs there were.

    Runs are reported before the cursor moves: a tick that dies in between reports some of them twice, and loses none.
    """
    count, end = 0, time.monotonic() + seconds
    while True:
        records, cursor = registry.changes(cursor, PAGE)
        instance.add_dynamic_partitions(str(RUNS.name), [run_key(record.run) for record in records])
        report_all(instance, run_materializations(records))
        count += len(records)
        if len(records) < PAGE or time.monotonic() >= end:
            return cursor, count


def _buckets(plan: CampaignPlan, workshop: Workshop) -> tuple[Bucket, ...]:
    """The campaign's buckets, those included that fill up with the runs there are.

    Runs are read from the last bucket on, each once; in memory are a page and what waits for its bucket to fill.
    """
    store, policy = workshop.campaigns, plan.campaign.buckets
    buckets, waiting = list(store.buckets(plan.name)), tuple[RunRecord, ...]()
    ahead = None if policy.by_hand_only else after_last(buckets, plan.campaign.iov)
    while ahead is not None:
        page = workshop.runs.runs(ahead, limit=PAGE)
        formed = form_buckets((*waiting, *page), policy)
        buckets += [store.add_bucket(plan.name, bucket, closed_by=_CLOSED_BY) for bucket in formed.closed]
        waiting = formed.waiting
        ahead = ahead.after(page[-1].run) if len(page) == PAGE else None
    return tuple(sorted(buckets))


def _not_started(plan: CampaignPlan, buckets: Iterable[Bucket], instance: dg.DagsterInstance) -> list[Bucket]:
    """The buckets that no Dagster run has worked or will work; one question for those that were asked for here."""
    own = dg.RunsFilter(tags={CAMPAIGN_TAG: plan.name})
    asked = {known.partition for known in instance.get_run_partition_data(own)}
    left = [bucket for bucket in buckets if bucket.key not in asked]
    started = started_buckets(plan, instance) if left else set()
    return [b for b in left if b.key not in started and not runs_of_bucket(instance, plan, b.key)]


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
