"""Publishing: what a bucket made is brought into the campaign's target tag and read back."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import published_key, step_name
from b2cal_assets.asset_metadata import Metadata, iov_table, plan_table
from b2cal_assets.asset_specs import bucket_edges, bucket_spec
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import wait_at_gate
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.publication import Publication, publish, refuse_unrecorded
from b2cal_assets.staging import content_hash
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import UpdateMode


def published_asset(plan: CampaignPlan) -> dg.AssetsDefinition:
    """The step that publishes a bucket."""
    key = published_key(plan.name)

    @dg.multi_asset(
        name=step_name(key),
        specs=[
            bucket_spec(
                plan,
                key,
                deps=bucket_edges(plan, key),
                description=f"The bucket's constants in the running tag {plan.campaign.target_tag}, read back. "
                "Buckets are published in order, because a running tag only grows.",
            )
        ],
        partitions_def=bucket_partitions(plan.name),
    )
    def publish_bucket(
        context: dg.AssetExecutionContext, workshop: dg.ResourceParam[Workshop]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        work = BucketWork.of(plan, context.partition_key, workshop, instance=context.instance)
        against = work.ledger.reasons_against_publishing(workshop.campaigns.buckets(plan.name))
        if against:
            wait_at_gate(context, against, workshop.listener)
            return
        with failing_in_words(f"publishing bucket {work.bucket.key} into {plan.campaign.target_tag}"):
            publication = _publish(work, author=f"dagster_run:{context.run.run_id}")
            version = _version(workshop.conditions, publication)
            yield dg.MaterializeResult(key, metadata=_metadata(publication), data_version=version)

    return publish_bucket


def _publish(work: BucketWork, *, author: str) -> Publication:
    campaign, conditions = work.plan.campaign, work.workshop.conditions
    records = {name: work.ledger.payloads(name) for name in work.plan.calibrations}
    refuse_unrecorded(
        conditions, work.staging_tag, {n: (r.names, r.content) for n, r in records.items() if r is not None}
    )
    return publish(
        conditions,
        work.staging_tag,
        campaign.target_tag,
        bucket=work.bucket,
        mode=UpdateMode(campaign.update_mode),
        author=author,
        reason=f"bucket {work.bucket.key} of campaign {campaign.name}, every calibration through its gate",
    )


def _metadata(publication: Publication) -> Metadata:
    applied = publication.plan is not None
    return {
        "target tag": dg.MetadataValue.text(publication.target),
        "staging tag": dg.MetadataValue.text(publication.staging),
        "applied now": dg.MetadataValue.bool(applied),
        "plan": plan_table(publication.plan)
        if publication.plan is not None
        else dg.MetadataValue.text("the target tag held all of it already"),
        "operations": dg.MetadataValue.int(len(publication.plan.operations) if publication.plan is not None else 0),
        "IoVs of the target tag": iov_table(publication.links),
    }


def _version(conditions: ConditionsDB, publication: Publication) -> dg.DataVersion:
    staged = content_hash(conditions, conditions.list_iovs(publication.staging))
    return dg.DataVersion(hashlib.sha256(f"{publication.target} {staged}".encode()).hexdigest()[:32])
