"""The assets of one campaign, and the job that works a bucket of it."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from b2cal_assets.asset_keys import CDST_RUNS, RAW_RUNS, bucket_runs_key
from b2cal_assets.assets.calibration import calibration_asset
from b2cal_assets.assets.cdst import cdst_asset
from b2cal_assets.assets.local_import import import_asset
from b2cal_assets.assets.published import published_asset
from b2cal_assets.assets.validation import validation_asset
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.partitions import RUNS_OF_A_BUCKET, bucket_partitions
from b2cal_core.campaigns import CampaignKind

AssetJob = UnresolvedAssetJobDefinition
"""What ``define_asset_job`` returns; it has no public name in Dagster."""
CAMPAIGN_TAG = "b2cal/campaign"
_PRIORITY_TAG = "dagster/priority"
_BACKGROUND_TAG = "b2cal/background"
"""On the Dagster runs of all campaigns that are not prompt; `dagster.yaml` limits how many work at a time."""


def bucket_runs_spec(plan: CampaignPlan) -> dg.AssetSpec:
    """The runs of each bucket, told by who finds them; another version of them makes stale what reads runs."""
    return dg.AssetSpec(
        bucket_runs_key(plan.name),
        deps=[dg.AssetDep(key, partition_mapping=RUNS_OF_A_BUCKET) for key in (RAW_RUNS, CDST_RUNS)],
        description="The runs that a bucket has, those that came too late for it, and a hash of what its steps read.",
        group_name=plan.group("runs"),
        owners=plan.owners(),
        partitions_def=bucket_partitions(plan.name),
    )


def campaign_assets(plan: CampaignPlan) -> list[dg.AssetsDefinition]:
    """All assets of the campaign that are made, in the order of the work."""
    imports = [import_asset(plan, name) for name in plan.imports]
    calibrations = [make(plan, name) for name in plan.calibrations for make in (calibration_asset, validation_asset)]
    production = [cdst_asset(plan)] if plan.cdst_stage else []
    return [*imports, *calibrations, *production, published_asset(plan)]


def bucket_job_name(campaign: str) -> str:
    """The job that works a bucket of the campaign."""
    return f"{campaign}_bucket"


def bucket_job(plan: CampaignPlan, executor: dg.ExecutorDefinition) -> AssetJob:
    """The job that makes everything of a bucket, one Dagster run per bucket."""
    return dg.define_asset_job(
        bucket_job_name(plan.name),
        selection=dg.AssetSelection.assets(*plan.asset_keys()),
        description=plan.campaign.description
        or f"Works a bucket of campaign {plan.name} from collection to publishing.",
        tags=run_tags(plan),
        executor_def=executor,
    )


def run_tags(plan: CampaignPlan) -> dict[str, str]:
    """The tags of a Dagster run of the campaign."""
    side = {} if plan.campaign.kind is CampaignKind.prompt else {_BACKGROUND_TAG: plan.campaign.kind.value}
    return {CAMPAIGN_TAG: plan.name, _PRIORITY_TAG: str(plan.campaign.priority), **side}
