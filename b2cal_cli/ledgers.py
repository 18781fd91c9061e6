"""What Dagster has recorded of buckets, opened for a command. Importing this is slow."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg

from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_core.buckets import Bucket
from resources.campaigns.files import FileCampaignStore
from resources.deployment import registry_address
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """A bucket's ledger, with the plan and the Dagster instance it reads."""

    plan: CampaignPlan
    bucket: Bucket
    ledger: BucketLedger
    instance: dg.DagsterInstance


@contextmanager
def ledger_of(home: Home, campaign: str, bucket: Bucket) -> Iterator[OpenLedger]:
    """The ledger of one bucket; closed at the end of the block."""
    plan = CampaignPlan.read(FileCampaignStore(home), campaign)
    with quiet_instance(home.dagster_home) as instance:
        ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=EmbeddedSignOffLog(registry_address(home)))
        yield OpenLedger(plan, bucket, ledger, instance)
