"""Asking the service to work several buckets: a Dagster backfill, which its daemon carries out."""

import getpass
import time
from collections.abc import Sequence

from dagster._core.execution.backfill import PartitionBackfill  # there is no public way to ask for one
from dagster._core.utils import make_new_backfill_id

from b2cal_assets.bucket_runs import quiet_instance
from b2cal_assets.campaign_assets import run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.definitions import build_definitions
from b2cal_assets.partitions import bucket_partitions_name
from b2cal_core.buckets import Bucket
from resources.campaigns.files import FileCampaignStore
from resources.home import Home


def request_backfill(home: Home, campaign: str, buckets: Sequence[Bucket]) -> str:
    """Ask for everything of these buckets to be made again, and return the backfill's id."""
    plan = CampaignPlan.read(FileCampaignStore(home), campaign)
    graph = build_definitions(home, plans=[plan]).resolve_asset_graph()
    keys = [bucket.key for bucket in buckets]
    with quiet_instance(home.dagster_home) as instance:
        instance.add_dynamic_partitions(bucket_partitions_name(plan.name), keys)
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=make_new_backfill_id(),
            asset_graph=graph,
            partition_names=keys,
            asset_selection=list(plan.asset_keys()),
            backfill_timestamp=time.time(),
            tags=run_tags(plan) | {"user": getpass.getuser()},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=f"{len(keys)} buckets of {plan.name}",
            description=None,
            run_config=None,
        )
        instance.add_backfill(backfill)
    return backfill.backfill_id
