"""When runs arrive: they become partitions, full buckets are booked, and the work on new buckets is asked for.

The book of buckets is the truth; every tick adds to Dagster what it lacks, wherever the one before died.
"""

import time
from collections.abc import Iterable, Sequence

import dagster as dg

from b2cal_assets.assets.runs import run_materializations
from b2cal_assets.bucket_ledger import started_buckets
from b2cal_assets.campaign_assets import AssetJob, bucket_job_name, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_calibrations, ahead_job_name, state_of, waiting_runs
from b2cal_assets.partitions import RUNS, bucket_partitions, run_key
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket, form_buckets
from b2cal_core.errors import BackendError
from b2cal_core.ports import CampaignStore, RunRegistry
from b2cal_core.ranges import IoV
from b2cal_core.runs import RunRecord
from sensors.dagster_runs import runs_of_bucket

PAGE = 100
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
        except BackendError as error:
            return dg.SkipReason(f"the run registry could not be asked, which the next tick does again: {error}")
        requests, partitions = [], []
        for plan, buckets in booked.items():
            requests += _ahead(plan, workshop, context.instance)
            started = started_buckets(plan, context.instance)
            waiting = [b for b in buckets if b.key not in started and not runs_of_bucket(context.instance, plan, b.key)]
            requests += [_request(plan, bucket) for bucket in waiting]
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
        for materialization in run_materializations(records):
            instance.report_runless_asset_event(materialization)
        count += len(records)
        if len(records) < PAGE or time.monotonic() >= end:
            return cursor, count


def _buckets(plan: CampaignPlan, workshop: Workshop) -> tuple[Bucket, ...]:
    """The campaign's buckets, those included that fill up with the runs there are."""
    store, policy = workshop.campaigns, plan.campaign.buckets
    existing = store.buckets(plan.name)
    if policy.runs or policy.events or policy.hours:
        records = _new_records(plan, workshop.runs, existing)
        for bucket in form_buckets(records, policy, existing).closed:
            store.add_bucket(plan.name, bucket, closed_by=_CLOSED_BY)
    return _known(store, plan.name)


def _known(store: CampaignStore, campaign: str) -> tuple[Bucket, ...]:
    return tuple(sorted(store.buckets(campaign)))


def _new_records(plan: CampaignPlan, registry: RunRegistry, existing: Iterable[Bucket]) -> list[RunRecord]:
    """Runs of the campaign after its last bucket; a registry of years is not read anew in every tick."""
    last = max((bucket.last for bucket in existing), default=None)
    within = None if last is None else IoV(last.exp, last.run, -1, -1)
    return [record for record in registry.runs(within) if plan.campaign.takes(record.run)]


def _request(plan: CampaignPlan, bucket: Bucket) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{plan.name}:{bucket.key}",
        job_name=bucket_job_name(plan.name),
        partition_key=bucket.key,
        tags=run_tags(plan),
    )


def _ahead(plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """Have runs collected that wait for their bucket to fill; one Dagster run at a time, each file asked for once."""
    if not ahead_calibrations(plan):
        return []
    records = waiting_runs(plan, workshop.campaigns, workshop.runs)
    job, key = ahead_job_name(plan.name), f"{plan.name}:ahead:{state_of(records)}"
    at_work = dg.RunsFilter(job_name=job, statuses=list(_UNFINISHED))
    asked_before = dg.RunsFilter(job_name=job, tags={_RUN_KEY_TAG: key})
    if not records or any(instance.get_run_records(found, limit=1) for found in (at_work, asked_before)):
        return []
    return [dg.RunRequest(run_key=key, job_name=job, tags=run_tags(plan))]


def _missing_partitions(
    instance: dg.DagsterInstance, plan: CampaignPlan, buckets: Iterable[Bucket]
) -> list[dg.AddDynamicPartitionsRequest]:
    definition = bucket_partitions(plan.name)
    known = set(instance.get_dynamic_partitions(str(definition.name)))
    keys = [bucket.key for bucket in buckets if bucket.key not in known]
    return [definition.build_add_request(keys)] if keys else []
