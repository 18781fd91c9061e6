"""Working buckets in the process of a command, with progress on the error stream."""

from collections.abc import Sequence

import dagster as dg

from b2cal_assets.bucket_runs import BucketOutcome, BucketRunner, cancel_dead_runs, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.definitions import embedded_workshop
from b2cal_cli.output import tell
from b2cal_cli.progress_listener import ProgressListener
from b2cal_core.buckets import Bucket
from resources.home import Home


def work_buckets(
    home: Home, campaign: str, buckets: Sequence[Bucket], *, only: Sequence[str] = (), again: bool = False
) -> list[tuple[Bucket, BucketOutcome]]:
    """Make what buckets lack, one after the other, each as far as its gates allow.

    Args:
        home: where all state is.
        campaign: name of the campaign.
        buckets: of the campaign; they are worked in their order.
        only: calibrations by any of their names, ``cdst`` or ``published``; by default everything.
        again: make what is there again, too.
    """
    listener = ProgressListener(tell)
    workshop = embedded_workshop(home, listener)
    plan = CampaignPlan.read(workshop.campaigns, campaign)
    outcomes = []
    with quiet_instance(home.dagster_home) as instance:
        cancel_dead_runs(instance)
        tell_full_pool(instance, plan.campaign.pool)
        runner = BucketRunner(plan, workshop, instance=instance)
        for bucket in sorted(buckets):
            listener.subject(bucket.key)
            outcomes.append((bucket, uninterrupted(runner.work(bucket, only_missing=not again, only=only))))
    return outcomes


def tell_full_pool(instance: dg.DagsterInstance, pool: str | None) -> None:
    """Tell that work will wait, when a pool has no free place; Dagster itself waits without a word."""
    if pool is None or not instance.event_log_storage.supports_global_concurrency_limits:
        return
    found = instance.event_log_storage.get_concurrency_info(pool)
    if 0 < found.slot_count <= found.active_slot_count:
        tell(f"pool {pool}: all {found.slot_count} places are taken, so that work waits until one is free")


def uninterrupted(outcome: BucketOutcome) -> BucketOutcome:
    """The outcome; ``KeyboardInterrupt`` when Ctrl-C ended the work, which Dagster makes a failure of the step."""
    if any(dg.DagsterExecutionInterruptedError.__name__ in why for why in outcome.failed.values()):
        raise KeyboardInterrupt
    return outcome
