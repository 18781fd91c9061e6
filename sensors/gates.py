"""When a gate opens: what waited behind it, in buckets that were worked before, is started, once.

A step that failed by its own fault is left to people, and so is a bucket whose last run a person ended.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import dagster as dg

from b2cal_assets.asset_keys import step_name
from b2cal_assets.asset_specs import inputs_of
from b2cal_assets.bucket_ledger import BucketLedger, finished_buckets, started_buckets
from b2cal_assets.campaign_assets import AssetJob, bucket_job_name, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError
from sensors.dagster_runs import failed_steps, runs_of_bucket

SITUATION_TAG = "b2cal/situation"
ATTEMPTS = 3
"""How often the same steps are started over the same payloads; after that people must look."""


def gates_sensor(plans: Sequence[CampaignPlan], jobs: Sequence[AssetJob], *, seconds: int = 30) -> dg.SensorDefinition:
    """The sensor over all campaigns; ``seconds`` lie between its ticks."""

    @dg.sensor(
        name="gates",
        jobs=list(jobs),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts what waited for a sign-off or for an earlier bucket, and resumes what was killed.",
    )
    def gates(
        context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            requests = [r for plan in plans for r in _requests(plan, workshop, context.instance)]
        except BackendError as error:
            return dg.SkipReason(f"gates could not be looked at, which the next tick does again: {error}")
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else "no gate has opened")

    return gates


def _requests(plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance) -> Iterator[dg.RunRequest]:
    begun, complete = started_buckets(plan, instance), finished_buckets(plan, instance)
    for bucket in sorted(workshop.campaigns.buckets(plan.name)):
        if bucket.key not in complete:
            yield from _request(plan, bucket, workshop, instance=instance, begun=bucket.key in begun)


def _request(
    plan: CampaignPlan, bucket: Bucket, workshop: Workshop, *, instance: dg.DagsterInstance, begun: bool
) -> Iterator[dg.RunRequest]:
    runs = runs_of_bucket(instance, plan, bucket.key)
    never_worked = not begun and not runs  # which is the business of the sensor that found its runs
    ended_by_a_person = bool(runs) and runs[0].status is dg.DagsterRunStatus.CANCELED
    if never_worked or ended_by_a_person or not all(run.is_finished for run in runs):
        return
    ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=workshop.sign_offs)
    failed = {step for run in runs for step in failed_steps(instance, run)}
    candidates = [key for key in ledger.missing() if step_name(key) not in failed]
    opened = startable(plan, candidates, ledger=ledger, buckets=workshop.campaigns.buckets(plan.name))
    if not opened:
        return
    situation = _situation(plan, opened, ledger)
    attempts = sum(run.tags.get(SITUATION_TAG) == situation for run in runs)
    if attempts < ATTEMPTS:
        yield dg.RunRequest(
            run_key=f"{plan.name}:{bucket.key}:{situation}:{attempts}",
            job_name=bucket_job_name(plan.name),
            partition_key=bucket.key,
            asset_selection=with_followers(plan, opened, candidates, ledger=ledger),
            tags=run_tags(plan) | {SITUATION_TAG: situation},
        )


def startable(
    plan: CampaignPlan, missing: Sequence[dg.AssetKey], *, ledger: BucketLedger, buckets: Sequence[Bucket]
) -> list[dg.AssetKey]:
    """The missing assets whose inputs are made and whose gate is open."""
    return [
        key
        for key in missing
        if all(ledger.is_made(needed) for needed in inputs_of(plan, key)) and not ledger.reasons_against(key, buckets)
    ]


def with_followers(
    plan: CampaignPlan, opened: Sequence[dg.AssetKey], missing: Sequence[dg.AssetKey], *, ledger: BucketLedger
) -> list[dg.AssetKey]:
    """What can be started, and what of the missing can follow in the same Dagster run, if its gate then lets it."""
    chosen = dict.fromkeys(opened)
    todo = [key for key in missing if key not in chosen]
    while True:
        following = [k for k in todo if all(n in chosen or ledger.is_made(n) for n in inputs_of(plan, k))]
        if not following:
            return list(chosen)
        chosen |= dict.fromkeys(following)
        todo = [key for key in todo if key not in chosen]


def _situation(plan: CampaignPlan, opened: Sequence[dg.AssetKey], ledger: BucketLedger) -> str:
    """A hash of what may start now and over which payloads, so that one situation is not tried for ever."""
    made = [(name, payloads.content) for name in plan.calibrations if (payloads := ledger.payloads(name)) is not None]
    content = [[key.to_user_string() for key in opened], made]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
