"""Importing local calibrations: what a subsystem's global tags have of its payloads, clipped to the bucket."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from b2cal_assets import payload_checks as checks
from b2cal_assets import provenances
from b2cal_assets.asset_keys import import_key, offer_key, published_key, step_name
from b2cal_assets.asset_metadata import Metadata, iov_table, table
from b2cal_assets.bucket_records import CONTENT, NAMES
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import wait_at_gate
from b2cal_assets.drifts import drifts
from b2cal_assets.local_offers import OfferedLinks, SourceTags, offered_links, report_offers
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.staging import content_hash, files_of, link, links_of
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_core.errors import DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.publishing import TagIov

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]
_CHECKS = {
    **checks.PAYLOAD_CHECKS,
    checks.DECLARED: "Every payload that the campaign lists was found.",
    checks.DISJOINT: "The source tags have no two answers for a run; where they do, the higher revision is imported.",
}


def import_asset(plan: CampaignPlan, name: str) -> dg.AssetsDefinition:
    """The step that imports the local calibrations of one subsystem."""
    key, buckets = import_key(plan.name, name), bucket_partitions(plan.name)

    @dg.multi_asset(
        name=step_name(key),
        specs=[_spec(plan, name)],
        check_specs=checks.check_specs(key, buckets, _CHECKS),
        partitions_def=buckets,
        can_subset=True,  # without this, a step that waits would owe Dagster the checks
    )
    def bring_in(context: dg.AssetExecutionContext, workshop: dg.ResourceParam[Workshop]) -> Results:
        work = BucketWork.of(plan, context.partition_key, workshop, instance=context.instance)
        tags = SourceTags(workshop.conditions)
        with failing_in_words(f"{name}, bucket {work.bucket.key}"):
            report_offers(work.ledger, tags, context.instance)
            is_published = work.ledger.has(published_key(plan.name))
            offered = _kept(work, name) if is_published else offered_links(plan, name, work.bucket, tags)
            yield from _check_offer(work, name, offered)
            if offered.lacking:
                wait_at_gate(context, offered.lacking, workshop.listener)
                return
            yield from _imported(work, name, offered.links)

    return bring_in


def _spec(plan: CampaignPlan, name: str) -> dg.AssetSpec:
    tags = ", ".join(source.tag for source in plan.sources(name))
    return dg.AssetSpec(
        import_key(plan.name, name),
        deps=[offer_key(plan.name, name)],
        description=f"Payloads made outside ({', '.join(plan.produced(name))}), taken from {tags}, clipped to the"
        " bucket and linked to its staging tag.",
        skippable=True,
        group_name=plan.group(name),
        owners=plan.import_owners(name),
        kinds={"conditions"},
        tags={"subsystem": name.removeprefix("local_"), "kind": plan.campaign.kind.value},
        metadata={"source tags": tags},
    )


def _kept(work: BucketWork, name: str) -> OfferedLinks:
    """What a published bucket has: whoever has it worked again gets that, not what source tags have by now."""
    made = work.ledger.payloads(name)
    if made is None:
        return OfferedLinks((), (), (f"bucket {work.bucket.key} was published without {name}, and stays so",))
    links = tuple(one.bare for one in links_of(work.workshop.conditions, work.staging_tag, made.names))
    return OfferedLinks(links, links, ())


def _imported(work: BucketWork, name: str, offered: Sequence[TagIov]) -> Results:
    conditions, former = work.workshop.conditions, work.ledger.payloads(name)
    firsts = {one.name: one for one in reversed(offered)}  # of each name, by runs, to be compared
    payloads = files_of(conditions, list(firsts.values()))
    links = link(conditions, work.staging_tag, offered, replacing=former.names if former is not None else ())
    content = content_hash(conditions, links)
    _keep_provenance(work, name, links)
    key = import_key(work.plan.name, name)
    metadata: Metadata = {
        CONTENT: dg.MetadataValue.text(content),
        NAMES: dg.MetadataValue.json(sorted({one.name for one in links})),
        "IoVs": iov_table(links),
        "number of IoVs": dg.MetadataValue.int(len(links)),
        "staging tag": dg.MetadataValue.text(work.staging_tag),
        "taken from": table({"tag": s.tag, "payloads": ", ".join(s.payloads)} for s in work.plan.sources(name)),
    }
    yield dg.MaterializeResult(key, metadata=metadata | work.ledger.origin(key), data_version=dg.DataVersion(content))
    yield _check_drift(work, name, payloads)


def _keep_provenance(work: BucketWork, name: str, links: Sequence[TagIov]) -> None:
    conditions = work.workshop.conditions
    found = {"checks": f"listed by campaign {work.plan.name}, covers its bucket {work.bucket.key} without gaps"}
    for source in work.plan.sources(name):
        own = [one for one in links if one.name in source.payloads]
        content = content_hash(conditions, own)
        record = provenances.imported(source, subsystem=name.removeprefix("local_"), content=content, checks=found)
        provenances.keep_imported(conditions, own, record, author=f"import:{name}")


def _check_offer(work: BucketWork, name: str, offered: OfferedLinks) -> Iterator[dg.AssetCheckResult]:
    key, runs = import_key(work.plan.name, name), [record.run for record in work.records]
    yield checks.check_declared(key, offered.links, work.plan.produced(name))
    yield checks.check_covered(key, offered.links, work.bucket, runs=runs)
    yield checks.check_disjoint(key, offered.found, severity=dg.AssetCheckSeverity.WARN)


def _check_drift(work: BucketWork, name: str, payloads: Sequence[LocalPayload]) -> dg.AssetCheckResult:
    """Against the bucket before; payloads of other programs may not be tables of numbers, and are left out then."""
    previous = work.previous_payloads(name)
    strange = {payload.name for payload in payloads if not _is_comparable(payload, previous)}
    key = import_key(work.plan.name, name)
    known = [payload for payload in payloads if payload.name not in strange]
    result = checks.check_drift(key, known, previous, threshold=checks.DRIFT_THRESHOLD)
    left_out = dg.MetadataValue.text(", ".join(sorted(strange)) or "none")
    return result.with_metadata({**result.metadata, "not tables of numbers": left_out})


def _is_comparable(payload: LocalPayload, previous: Path | None) -> bool:
    try:
        drifts([payload], previous)
    except DataError:
        return False
    return True
