"""What waits for a person, in all buckets of campaigns. Importing this is slow."""

from collections.abc import Iterable

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, published_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.data_shortages import open_questions
from b2cal_core.reminders import OpenSignOff
from resources.campaigns.files import FileCampaignStore
from resources.deployment import registry_address
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog


def open_sign_offs(home: Home, campaigns: Iterable[str]) -> tuple[OpenSignOff, ...]:
    """What waits for a decision, or for a choice what is done about too few data; what has waited longest first."""
    store, sign_offs = FileCampaignStore(home), EmbeddedSignOffLog(registry_address(home))
    found: list[OpenSignOff] = []
    with quiet_instance(home.dagster_home) as instance:
        for name in campaigns:
            plan = CampaignPlan.read(store, name)
            settled = _settled(plan, instance)
            buckets = store.buckets(name)
            for bucket in buckets:
                if bucket.key not in settled:
                    ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=sign_offs)
                    found += (*ledger.open_sign_offs(), *open_questions(ledger, buckets))
    return tuple(sorted(found, key=lambda one: one.since))


def _settled(plan: CampaignPlan, instance: dg.DagsterInstance) -> set[str]:
    """Keys of the buckets that were published and of which nothing was judged since, so that nothing waits."""
    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    published = instance.get_latest_storage_id_by_partition(published_key(plan.name), made)
    if not published:
        return set()
    keys = (calibration_key(plan.name, name, Part.validation) for name in plan.calibrations)
    judged = [instance.get_latest_storage_id_by_partition(key, made) for key in keys]
    return {bucket for bucket, last in published.items() if all(found.get(bucket, 0) < last for found in judged)}
