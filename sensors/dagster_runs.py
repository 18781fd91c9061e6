"""Questions about the Dagster runs of a bucket."""

import dagster as dg

from b2cal_assets.campaign_assets import CAMPAIGN_TAG, bucket_job_name
from b2cal_assets.campaign_plans import CampaignPlan

_PARTITION_TAG = "dagster/partition"
_ENOUGH = 50
"""More attempts than that at one bucket tell nothing new."""


def runs_of_bucket(instance: dg.DagsterInstance, plan: CampaignPlan, bucket: str) -> list[dg.DagsterRun]:
    """The Dagster runs that worked or will work on a bucket, newest first, those started in the UI included."""
    records = instance.get_run_records(dg.RunsFilter(tags={_PARTITION_TAG: bucket}), limit=_ENOUGH)
    return [record.dagster_run for record in records if _belongs(record.dagster_run, plan)]


def _belongs(run: dg.DagsterRun, plan: CampaignPlan) -> bool:
    """Bucket keys of two campaigns may be equal; a run of single assets has no campaign tag, only its assets."""
    if CAMPAIGN_TAG in run.tags or run.job_name == bucket_job_name(plan.name):
        return run.tags.get(CAMPAIGN_TAG, plan.name) == plan.name
    return any(key.path[0] == plan.name for key in run.asset_selection or ())


def failed_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The steps that failed in a Dagster run, by their own fault."""
    stats = instance.get_run_step_stats(run.run_id)
    return {step.step_key for step in stats if step.status is not None and step.status.value == "FAILURE"}
