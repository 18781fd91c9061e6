"""Publishing: what a bucket made is brought into the campaign's target tag and read back."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dagster as dg

from b2cal_assets import provenances
from b2cal_assets.asset_keys import published_key, step_name
from b2cal_assets.asset_metadata import Metadata, coverage_table, diff_table, iov_table, plan_table, reasons, table
from b2cal_assets.asset_specs import bucket_edges, bucket_spec
from b2cal_assets.bucket_records import PLAN_HASH, PUBLISHED_AT
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import wait_at_gate
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.payload_checks import check_spec
from b2cal_assets.publication import BucketPublisher, Publication, refuse_unrecorded
from b2cal_assets.staging import content_hash, links_of
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_core.campaigns import CampaignKind
from b2cal_core.errors import BackendError, DataError
from b2cal_core.payloads import Release
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import UpdateMode, applied
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.simulated_runs import runs_without_constants
from b2cal_core.tag_reports import coverage, diff_tags

READ_BACK = "readers_see_the_plan"
SIMULATED = "every_simulated_run_has_constants"
_RUNS_TOLD = 3
"""In a sentence; the check has all of them."""


def published_asset(plan: CampaignPlan) -> dg.AssetsDefinition:
    """The step that publishes a bucket."""
    key = published_key(plan.name)
    buckets = bucket_partitions(plan.name)

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
        check_specs=[
            check_spec(name, key, buckets, description=description) for name, description in _checks(plan).items()
        ],
        partitions_def=buckets,
        can_subset=True,  # without this, a step that waits at its gate would owe Dagster the check
    )
    def publish_bucket(
        context: dg.AssetExecutionContext, workshop: dg.ResourceParam[Workshop]
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        work = BucketWork.of(plan, context.partition_key, workshop, instance=context.instance)
        against = work.ledger.reasons_against_publishing(workshop.campaigns.buckets(plan.name))
        if against:
            wait_at_gate(context, against, workshop.listener)
            return
        with failing_in_words(f"publishing bucket {work.bucket.key} into {plan.campaign.target_tag}"):
            simulated = _simulated(work, work.staging_tag) if SIMULATED in _checks(plan) else None
            if simulated is not None and simulated.missing:
                yield _check_simulated(work, key, simulated)
                raise DataError(_in_words(work, simulated))
            publication = _publish(work, author=f"dagster_run:{context.run.run_id}")
            version = _version(workshop.conditions, publication)
            metadata = _metadata(work, publication) | work.ledger.origin(key) | _latency(work, context.instance)
            yield dg.MaterializeResult(key, metadata=metadata, data_version=version)
            yield _check_read_back(work, key, publication)
            if simulated is not None:
                yield _check_simulated(work, key, _simulated(work))

    return publish_bucket


def _checks(plan: CampaignPlan) -> dict[str, str]:
    """The checks by name, and what they tell."""
    read_back = "Readers of the target tag get, run by run and file by file, what the plan of the bucket says."
    if plan.campaign.kind is not CampaignKind.run_dependent_mc:
        return {READ_BACK: read_back}
    simulated = (
        "Every run of the bucket finds each constant that the base tags, the target tag or the campaign have at all; "
        "if not, the bucket is not published."
    )
    return {READ_BACK: read_back, SIMULATED: simulated}


@dataclass(frozen=True, slots=True)
class _Simulated:
    """How many constants simulation needs for each run of a bucket, and the runs that lack some."""

    constants: int
    missing: Mapping[ExpRun, tuple[str, ...]]


def _simulated(work: BucketWork, *more: str) -> _Simulated:
    """What simulation finds for each run: one that lacks something would be simulated wrongly, or not at all.

    Args:
        work: on the bucket.
        more: tags that are searched beside the base tags and the target tag.
    """
    plan, conditions = work.plan, work.workshop.conditions
    chain = [conditions.list_iovs(tag) for tag in plan.campaign.base_tags]
    chain += [links_of(conditions, tag) for tag in (plan.campaign.target_tag, *more)]
    names = {name for step in (*plan.imports, *plan.calibrations) for name in plan.produced(step)}
    names |= {link.name for links in chain for link in links}
    return _Simulated(len(names), runs_without_constants((record.run for record in work.records), names, chain))


def _in_words(work: BucketWork, simulated: _Simulated) -> str:
    """What is lacking, of the first runs, and who mends it."""
    told = [f"{run}: {', '.join(names)}" for run, names in islice(simulated.missing.items(), _RUNS_TOLD)]
    more = len(simulated.missing) - len(told)
    told += [f"and {more} runs more"] if more else []
    campaign, count = work.plan.campaign, len(simulated.missing)
    return (
        f"{count} of {len(work.records)} runs would be simulated without constants ({', '.join(told)});"
        f" give them to these runs in one of the base tags ({', '.join(campaign.base_tags)}), or have what makes them "
        f"done again; then: b2cal bucket run {campaign.name} {work.bucket.key}"
    )


def _check_simulated(work: BucketWork, key: dg.AssetKey, simulated: _Simulated) -> dg.AssetCheckResult:
    missing = simulated.missing
    rows = [{"run": str(run), "constants that are missing": ", ".join(lacks)} for run, lacks in missing.items()]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=SIMULATED,
        passed=not missing,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"runs": len(work.records), "constants": simulated.constants, "runs without constants": table(rows)},
    )


def _publish(work: BucketWork, *, author: str) -> Publication:
    campaign, conditions = work.plan.campaign, work.workshop.conditions
    steps = (*work.plan.imports, *work.plan.calibrations)
    recorded = {name: record for name in steps if (record := work.ledger.payloads(name)) is not None}
    refuse_unrecorded(conditions, work.staging_tag, {n: (r.names, r.content) for n, r in recorded.items()})
    records = {name: record for name, record in recorded.items() if name in work.plan.calibrations}
    made = {name: links_of(conditions, work.staging_tag, record.names) for name, record in records.items()}
    provenances.complete(work, made, author=author)
    reason = f"bucket {work.bucket.key} of campaign {campaign.name}, every calibration through its gate"
    release = Release(author, provenances.approvers(work.ledger, records), reason)
    publisher = BucketPublisher(
        conditions, work.workshop.publisher, work.bucket, UpdateMode(campaign.update_mode), release
    )
    return publisher.publish(work.staging_tag, campaign.target_tag)


def _metadata(work: BucketWork, publication: Publication) -> Metadata:
    document = publication.document
    runs = [record.run for record in work.records]
    covered = coverage(publication.links, work.bucket.iov, runs=runs)
    metadata: Metadata = {
        "target tag": dg.MetadataValue.text(publication.target),
        "staging tag": dg.MetadataValue.text(publication.staging),
        "applied now": dg.MetadataValue.bool(publication.applied_now),
        "coverage of the bucket": coverage_table(covered),
    }
    if publication.applied_at is not None:
        metadata |= {PUBLISHED_AT: dg.MetadataValue.text(publication.applied_at.isoformat())}
    if document is not None:
        metadata |= _plan_metadata(publication, document, runs)
    return metadata | {"IoVs of the target tag": iov_table(publication.links)}


def _latency(work: BucketWork, instance: dg.DagsterInstance) -> Metadata:
    """How long the bucket took; nothing when that cannot be read now, since it is published all the same."""
    from b2cal_assets.latencies import CampaignLatencies  # noqa: PLC0415 (it knows the jobs, which know this asset)
    from b2cal_assets.latency_report import latency_metadata  # noqa: PLC0415 (plots load only where work is done)

    try:
        found = CampaignLatencies(work.plan, work.workshop, instance=instance).of(work.bucket)
    except BackendError:
        return {}
    return {} if found is None else latency_metadata(found)


def _plan_metadata(publication: Publication, document: PlanDocument, runs: list[ExpRun]) -> Metadata:
    metadata: Metadata = {
        PLAN_HASH: dg.MetadataValue.text(document.hash),
        "runs that could not change": dg.MetadataValue.text(
            f"before {document.safe_run.run}: {document.safe_run.reason}" if document.safe_run else "not asked"
        ),
        "operations": dg.MetadataValue.int(len(document.plan.operations)),
    }
    if publication.applied_now:
        within = None if document.first_run is None else IoV.since(document.first_run)
        after = applied(publication.before, document.plan)
        metadata["what changes for readers"] = diff_table(diff_tags(publication.before, after, within, runs=runs))
    return metadata | {"plan": plan_table(document.plan)}


def _check_read_back(work: BucketWork, key: dg.AssetKey, publication: Publication) -> dg.AssetCheckResult:
    document = publication.document
    if document is None:
        found: tuple[str, ...] = (f"no plan is on record that brought {publication.staging} in",)
        seen = "not read back"
    else:
        verification = work.workshop.publisher.verify(document)
        found, seen = verification.discrepancies, verification.visibility
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=READ_BACK,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR if document is not None else dg.AssetCheckSeverity.WARN,
        metadata={"discrepancies": reasons(found) if found else "none", "seen": seen},
    )


def _version(conditions: ConditionsDB, publication: Publication) -> dg.DataVersion:
    staged = content_hash(conditions, conditions.list_iovs(publication.staging))
    return dg.DataVersion(hashlib.sha256(f"{publication.target} {staged}".encode()).hexdigest()[:32])
