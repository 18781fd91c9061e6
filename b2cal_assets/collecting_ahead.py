"""Collecting run by run while a bucket is still open, so that at its closing only the algorithms remain.

A job of its own per campaign, asked for by the sensor of new runs. It makes no asset: what it leaves is collector
output in the cache, which the bucket's own step finds there.
"""

from dataclasses import replace

import dagster as dg

from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_assets import run_tags
from b2cal_assets.campaign_plans import PRIORITY, CampaignPlan
from b2cal_assets.observers import LoggingObserver
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket, after_last
from b2cal_core.errors import DataError
from b2cal_core.ports import CafRequest, CampaignStore, RunRegistry
from b2cal_core.runs import RunRecord
from b2cal_core.settings import asset_name

DIRECTORY = "open"
"""Stands for the key of a bucket that has none yet, in the names of work directories."""
_PRIORITY_TAG = "dagster/priority"


def ahead_job_name(campaign: str) -> str:
    """The job that collects for the campaign's open bucket."""
    return f"{campaign}_collect_ahead"


def ahead_calibrations(plan: CampaignPlan) -> tuple[str, ...]:
    """The calibrations that can read a run as soon as it is there; those of the cDST stage wait for its production."""
    return plan.raw_stage if plan.campaign.collect_ahead else ()


def ahead_job(plan: CampaignPlan, executor: dg.ExecutorDefinition, workshop: object) -> dg.JobDefinition:
    """One op for each calibration that can collect ahead; ``workshop`` is the resource, bound here and now.

    Were it bound later, Dagster would build the sensor anew, with an option of its own that it warns of.
    """
    ops = [_collecting(plan, calibration) for calibration in ahead_calibrations(plan)]
    return dg.GraphDefinition(name=ahead_job_name(plan.name), node_defs=ops).to_job(
        description=f"Collects the runs of campaign {plan.name} that are in no bucket yet.",
        tags=run_tags(plan) | {_PRIORITY_TAG: str(plan.campaign.priority - 1)},
        executor_def=executor,
        resource_defs={"workshop": workshop},
    )


def waiting_runs(plan: CampaignPlan, campaigns: CampaignStore, registry: RunRegistry) -> tuple[RunRecord, ...]:
    """The campaign's runs that are in no bucket yet and come after the last one."""
    ahead = after_last(campaigns.buckets(plan.name), plan.campaign.iov)
    return () if ahead is None else registry.runs(ahead)


def _collecting(plan: CampaignPlan, calibration: str) -> dg.OpDefinition:
    name = f"collect_{plan.name}_{asset_name(calibration)}"

    @dg.op(name=name, description=f"Collects for {calibration}.", pool=plan.campaign.pool)
    def collect(context: dg.OpExecutionContext, workshop: dg.ResourceParam[Workshop]) -> None:
        records = waiting_runs(plan, workshop.campaigns, workshop.runs)
        if not records:
            context.log.info("no run waits for a bucket any more")
            return
        bucket = Bucket(records[0].run, records[-1].run)
        work = BucketWork.of(plan, bucket.key, workshop, instance=context.instance)
        with failing_in_words(f"{calibration}, open bucket of {plan.name}"):
            directory = workshop.places(plan.campaign.site).request(plan.name, DIRECTORY, calibration=calibration)
            try:
                asked = work.caf_request(calibration)
                request = replace(asked, directory=directory, priority=asked.priority - PRIORITY)
            except DataError as error:  # its filters pass no file yet; the bucket's own step judges that
                context.log.info(str(error))
                return
            _collect(context, work, request, calibration)

    return collect


def _collect(context: dg.OpExecutionContext, work: BucketWork, request: CafRequest, calibration: str) -> None:
    awaited = {name for other in work.plan.visible(calibration) for name in work.plan.produced(other)}
    caf = work.workshop.caf(work.plan.campaign.site)
    observer = LoggingObserver(context.log, work.workshop.listener)
    try:
        collected = caf.collect_ahead(request, observer, frozenset(awaited))
    except dg.DagsterExecutionInterruptedError:
        caf.cancel()
        raise
    counts = collected.files, collected.jobs, collected.cached
    context.log.info("%s: %s files, %s jobs, %s found in the cache", calibration, *counts)
