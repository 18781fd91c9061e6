"""What waits for a person, in all buckets of campaigns that are not published yet. Importing this is slow."""

from collections.abc import Iterable

from b2cal_assets.asset_keys import published_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_core.reminders import OpenSignOff
from resources.campaigns.files import FileCampaignStore
from resources.deployment import registry_address
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog


def open_sign_offs(home: Home, campaigns: Iterable[str]) -> tuple[OpenSignOff, ...]:
    """The results that wait for a decision, those that have waited longest first."""
    store, sign_offs = FileCampaignStore(home), EmbeddedSignOffLog(registry_address(home))
    found: list[OpenSignOff] = []
    with quiet_instance(home.dagster_home) as instance:
        for name in campaigns:
            plan = CampaignPlan.read(store, name)
            published = instance.get_materialized_partitions(published_key(name))
            for bucket in store.buckets(name):
                if bucket.key not in published:
                    ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=sign_offs)
                    found += ledger.open_sign_offs()
    return tuple(sorted(found, key=lambda one: one.since))
