"""When a gate opens: what waited behind it, in buckets that were worked before, is started, once.

A step that failed by its own fault is left to people, and so is a bucket whose last run a person ended. While nothing
is at work on a bucket, its assets show why they are not made.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from b2cal_assets.asset_specs import inputs_of
from b2cal_assets.bucket_cells import Activity, cells_of
from b2cal_assets.bucket_ledger import BucketLedger, finished_buckets, started_buckets
from b2cal_assets.campaign_assets import AssetJob, bucket_job_name, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import Shown, show_cells
from b2cal_assets.local_offers import SourceTags, report_offers
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError
from sensors.dagster_runs import activity, begun_buckets, runs_of_bucket
from sensors.resting import resting

SITUATION_TAG = "b2cal/situation"
ATTEMPTS = 3
"""How often the same steps are started over the same payloads; after that people must look."""


@dataclass(frozen=True, slots=True)
class _OpenBucket:
    """A bucket that was worked and is not finished."""

    ledger: BucketLedger
    buckets: Sequence[Bucket]
    runs: Sequence[dg.DagsterRun]
    activity: Activity

    @property
    def name(self) -> str:
        """Campaign and bucket."""
        return f"{self.ledger.plan.name}:{self.ledger.bucket.key}"

    @property
    def is_idle(self) -> bool:
        """Whether no Dagster run is at work on it, or waits to be."""
        return all(run.is_finished for run in self.runs)


def gates_sensor(plans: Sequence[CampaignPlan], jobs: Sequence[AssetJob], *, seconds: int = 30) -> dg.SensorDefinition:
    """The sensor over all campaigns; ``seconds`` lie between its ticks. Its cursor is what it has shown last."""

    @dg.sensor(
        name="gates",
        jobs=list(jobs),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts what waited for a sign-off or for an earlier bucket, resumes what was killed, and shows "
        "why the rest is not made.",
    )
    def gates(
        context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]
    ) -> dg.SensorResult | dg.SkipReason:
        shown: dict[str, Shown] = json.loads(context.cursor or "{}")
        try:
            tags = SourceTags(workshop.conditions)
            found = [bucket for plan in plans for bucket in _open_buckets(plan, workshop, context.instance, tags)]
            idle = resting(workshop.campaigns)
            waiting = [bucket for bucket in found if bucket.is_idle and bucket.ledger.plan.name not in idle]
            requests = [request for bucket in waiting for request in _request(bucket)]
            now = {bucket.name: _show(bucket, shown, context.instance) for bucket in found}
        except BackendError as error:
            return dg.SkipReason(f"gates could not be looked at, which the next tick does again: {error}")
        reason = None if requests else "no gate has opened"
        return dg.SensorResult(run_requests=requests, skip_reason=reason, cursor=json.dumps(now))

    return gates


def _open_buckets(
    plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance, tags: SourceTags
) -> Iterator[_OpenBucket]:
    started, complete = started_buckets(plan, instance), finished_buckets(plan, instance)
    buckets = sorted(workshop.campaigns.buckets(plan.name))
    unfinished = [bucket for bucket in buckets if bucket.key not in complete]
    begun = started | begun_buckets(instance, (bucket.key for bucket in unfinished))
    for bucket in unfinished:
        if bucket.key not in begun:
            continue  # the business of the sensor that found its runs
        runs = runs_of_bucket(instance, plan, bucket.key)
        if runs or bucket.key in started:  # not only a bucket of that name in another campaign
            ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=workshop.sign_offs)
            if report_offers(ledger, tags, instance):
                ledger = ledger.of(bucket)
            yield _OpenBucket(ledger, buckets, runs, activity(instance, runs))


def _show(bucket: _OpenBucket, shown: Mapping[str, Shown], instance: dg.DagsterInstance) -> Shown:
    before = shown.get(bucket.name, {})
    if not bucket.is_idle:
        return before
    cells = cells_of(bucket.ledger, bucket.buckets, bucket.activity)
    return show_cells(instance, bucket.ledger, cells, shown=before)


def _request(bucket: _OpenBucket) -> Iterator[dg.RunRequest]:
    ledger, plan = bucket.ledger, bucket.ledger.plan
    ended_by_a_person = bool(bucket.runs) and bucket.runs[0].status is dg.DagsterRunStatus.CANCELED
    if ended_by_a_person:
        return
    lacking = [key for key in ledger.missing() if not ledger.is_left_to_people(key)]
    candidates = [key for key in lacking if not bucket.activity.failure(ledger, key)]
    opened = startable(candidates, ledger=ledger, buckets=bucket.buckets)
    if not opened:
        return
    situation = _situation(opened, ledger)
    attempts = sum(run.tags.get(SITUATION_TAG) == situation for run in bucket.runs)
    if attempts < ATTEMPTS:
        yield dg.RunRequest(
            run_key=f"{bucket.name}:{situation}:{attempts}",
            job_name=bucket_job_name(plan.name),
            partition_key=ledger.bucket.key,
            asset_selection=with_followers(opened, candidates, ledger=ledger),
            tags=run_tags(plan) | {SITUATION_TAG: situation},
        )


def startable(missing: Sequence[dg.AssetKey], *, ledger: BucketLedger, buckets: Sequence[Bucket]) -> list[dg.AssetKey]:
    """The missing assets whose inputs are made and whose gate is open."""
    return [
        key
        for key in missing
        if all(ledger.is_made(needed) for needed in inputs_of(ledger.plan, key))
        and not ledger.reasons_against(key, buckets)
    ]


def with_followers(
    opened: Sequence[dg.AssetKey], missing: Sequence[dg.AssetKey], *, ledger: BucketLedger
) -> list[dg.AssetKey]:
    """What can be started, and what of the missing can follow in the same Dagster run, if its gate then lets it."""
    chosen = dict.fromkeys(opened)
    todo = [key for key in missing if key not in chosen]
    while True:
        following = [k for k in todo if all(n in chosen or ledger.is_made(n) for n in inputs_of(ledger.plan, k))]
        if not following:
            return list(chosen)
        chosen |= dict.fromkeys(following)
        todo = [key for key in todo if key not in chosen]


def _situation(opened: Sequence[dg.AssetKey], ledger: BucketLedger) -> str:
    """A hash of what may start now and over which payloads, so that one situation is not tried for ever."""
    names = ledger.plan.calibrations
    made = [
        (name, payloads.content, ledger.redo(name).to_json())
        for name in names
        if (payloads := ledger.payloads(name)) is not None
    ]
    offers = [(name, offer.content) for name in ledger.plan.imports if (offer := ledger.offer(name)) is not None]
    content = [[key.to_user_string() for key in opened], made, *([offers] if offers else [])]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
