"""Asking the service to work several buckets: a Dagster backfill, which its daemon carries out."""

import getpass
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.execution.backfill import (  # there is no public way to ask for one
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.utils import make_new_backfill_id

from b2cal_assets.bucket_ledger import started_buckets
from b2cal_assets.bucket_runs import cancel_dead_runs, quiet_instance
from b2cal_assets.campaign_assets import run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.definitions import build_definitions
from b2cal_assets.partitions import bucket_partitions_name
from b2cal_core.buckets import Bucket
from resources.campaigns.files import FileCampaignStore
from resources.home import Home
from sensors.dagster_runs import runs_of_bucket
from sensors.resting import resting


@dataclass(frozen=True, slots=True)
class RequestedBackfill:
    """What came of asking for a backfill.

    Attributes:
        backfill: its id; ``None`` when no bucket was left for it.
        buckets: keys of those it makes again.
        left_out: key to why the bucket is not among them.
    """

    backfill: str | None
    buckets: tuple[str, ...]
    left_out: Mapping[str, str]


def request_backfill(home: Home, campaign: str, buckets: Sequence[Bucket]) -> RequestedBackfill:
    """Ask for everything of these buckets to be made again, but for those that are worked already or will be."""
    store = FileCampaignStore(home)
    plan = CampaignPlan.read(store, campaign)
    keys = [bucket.key for bucket in buckets]
    with quiet_instance(home.dagster_home) as instance:
        cancel_dead_runs(instance)
        left_out = dict(_taken_up(plan, keys, instance, starts_new=campaign not in resting(store)))
        wanted = tuple(key for key in keys if key not in left_out)
        return RequestedBackfill(_add_backfill(home, plan, wanted, instance) if wanted else None, wanted, left_out)


def _taken_up(
    plan: CampaignPlan, keys: Sequence[str], instance: dg.DagsterInstance, *, starts_new: bool
) -> Iterator[tuple[str, str]]:
    """The buckets that would be worked twice, and why; ``starts_new`` when sensors start what was never worked."""
    asked, started = _in_backfills(plan, instance), started_buckets(plan, instance)
    for key in keys:
        runs = runs_of_bucket(instance, plan, key)
        unfinished = [run.run_id for run in runs if not run.is_finished]
        if unfinished:
            yield key, f"Dagster run {unfinished[0]} works it, or waits to"
        elif key in asked:
            yield key, f"backfill {asked[key]} is asked for already"
        elif starts_new and not runs and key not in started:
            yield key, "it was never worked, which the service starts by itself"


def _in_backfills(plan: CampaignPlan, instance: dg.DagsterInstance) -> dict[str, str]:
    """The campaign's buckets that backfills have which are not over, each with the backfill's id."""
    unfinished = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    return {
        key: backfill.backfill_id
        for backfill in instance.get_backfills(filters=unfinished)
        if backfill.asset_backfill_data is not None
        for asset, subset in backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key.items()
        if asset in plan.asset_keys()
        for key in subset.get_partition_keys()
    }


def _add_backfill(home: Home, plan: CampaignPlan, keys: Sequence[str], instance: dg.DagsterInstance) -> str:
    graph = build_definitions(home, plans=[plan]).resolve_asset_graph()
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
