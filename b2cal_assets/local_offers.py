"""What subsystems' global tags have of local calibrations for a bucket, and Dagster's record of it.

Whoever looks tells Dagster when that is news: what was imported from something else is stale then, and an import that
had to wait may go on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from b2cal_assets.asset_keys import offer_key, published_key, source_tag_key
from b2cal_assets.asset_metadata import Metadata, reasons
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_records import CONTENT, LACKING
from b2cal_assets.campaign_plans import CampaignPlan, dagster_owners
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.staging import content_hash
from b2cal_core.buckets import Bucket
from b2cal_core.local_calibrations import LocalSource, taken, uncovered
from b2cal_core.payloads import TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov

_VERSIONS, _ASKED = "source tags", "asked for"
"""Metadata: source tag to a hash of all it had, and a hash of what the campaign's file asked of it then."""
_NONE = "there is no such tag"
_GROUP = "local"
_DATA_VERSION_TAG = "dagster/data_version"


class SourceTags:
    """The subsystems' global tags, each hash of one read once; make a new one to look again."""

    def __init__(self, conditions: ConditionsDB) -> None:
        self.conditions = conditions
        self._versions: dict[str, str] = {}

    def version(self, tag: str) -> str:
        """A hash of the tag's state and content; a word when there is no such tag."""
        if tag not in self._versions:
            there = self.conditions.get_tag(tag) is not None
            self._versions[tag] = self.conditions.fingerprint(tag) if there else _NONE
        return self._versions[tag]

    def links(self, source: LocalSource, bucket: Bucket) -> tuple[TagIov, ...]:
        """What the tag has of the payloads asked for in runs of the bucket, as it is; nothing of an unusable tag."""
        if self.why_unusable(source.tag):
            return ()
        found = self.conditions.list_iovs(source.tag, bucket.iov)
        return tuple(link.bare for link in found if link.name in source.payloads)

    def why_unusable(self, tag: str) -> str:
        """Why the tag as a whole is of no use, in words; empty when it is."""
        found = self.conditions.get_tag(tag)
        if found is None:
            return f"there is no source tag {tag}"
        return f"source tag {tag} is INVALID" if found.state is TagState.INVALID else ""


@dataclass(frozen=True, slots=True)
class OfferedLinks:
    """What source tags have for an import.

    Attributes:
        found: their links as they are, in runs of the bucket.
        links: what is to be imported of them: clipped, one answer for each run.
        lacking: what hinders the import, in sentences for whoever fills the tag.
    """

    found: tuple[TagIov, ...]
    links: tuple[TagIov, ...]
    lacking: tuple[str, ...]


def offered_links(plan: CampaignPlan, name: str, bucket: Bucket, tags: SourceTags) -> OfferedLinks:
    """What the source tags of an import have for a bucket now."""
    found: list[TagIov] = []
    links: list[TagIov] = []
    lacking: list[str] = []
    for source in plan.sources(name):
        there = tags.links(source, bucket)
        clipped = taken(there, source.payloads, bucket.iov)
        lacking += _lacking(source, clipped, bucket, tags.why_unusable(source.tag), whose=name.removeprefix("local_"))
        found += there
        links += clipped
    return OfferedLinks(tuple(found), tuple(links), tuple(lacking))


def _lacking(
    source: LocalSource, clipped: tuple[TagIov, ...], bucket: Bucket, unusable: str, *, whose: str
) -> list[str]:
    who = f"{source.responsible} ({whose})" if source.responsible else f"the person responsible for {whose}"
    then = f"{who} mends that, and the import starts by itself"
    if unusable:
        named = ", ".join(source.payloads)
        return [f"{unusable}, which should have {named} for bucket {bucket.key}; {then}; the tags: b2cal cdb tags"]
    return [
        f"source tag {source.tag} has no {payload} in {' and '.join(map(str, gaps))} of bucket {bucket.key}; {then};"
        f" what it has: b2cal cdb iovs {source.tag}"
        for payload, gaps in uncovered(clipped, source.payloads, bucket.iov).items()
    ]


def report_offers(ledger: BucketLedger, tags: SourceTags, instance: dg.DagsterInstance) -> bool:
    """Tell Dagster what source tags have for the bucket, where that is news; whether it was. Published ones rest."""
    plan = ledger.plan
    if not plan.imports or ledger.has(published_key(plan.name)):
        return False
    news = [_report_offer(ledger, name, tags, instance) for name in plan.imports]
    return any(news)


def _report_offer(ledger: BucketLedger, name: str, tags: SourceTags, instance: dg.DagsterInstance) -> bool:
    plan, key = ledger.plan, offer_key(ledger.plan.name, name)
    versions = {source.tag: tags.version(source.tag) for source in plan.sources(name)}
    asked = _asked(plan, name)
    known = ledger.metadata(key) or {}
    if _VERSIONS in known and (known[_VERSIONS].value, known[_ASKED].value) == (versions, asked):
        return False
    offered = offered_links(plan, name, ledger.bucket, tags)
    content = content_hash(tags.conditions, offered.links)
    metadata: Metadata = {
        CONTENT: dg.MetadataValue.text(content),
        LACKING: dg.MetadataValue.json(list(offered.lacking)),
        "why not imported": reasons(offered.lacking or ["nothing is lacking"]),
        _VERSIONS: dg.MetadataValue.json(versions),
        _ASKED: dg.MetadataValue.text(asked),
    }
    _report(instance, key, content, metadata, partition=ledger.bucket.key)
    for tag, version in versions.items():
        _report_tag(instance, tag, version)
    return True


def _asked(plan: CampaignPlan, name: str) -> str:
    return hashlib.sha256("".join(source.model_dump_json() for source in plan.sources(name)).encode()).hexdigest()[:16]


def _report_tag(instance: dg.DagsterInstance, tag: str, version: str) -> None:
    key = source_tag_key(tag)
    known = instance.get_latest_materialization_event(key)
    made = known.asset_materialization if known is not None else None
    if made is None or (made.tags or {}).get(_DATA_VERSION_TAG) != _short(version):
        state = version.partition("-")[2] or _NONE
        _report(instance, key, _short(version), {"state": dg.MetadataValue.text(state)})


def _short(version: str) -> str:
    """As Dagster takes values of tags."""
    return version.replace(" ", "_")[:32]


def _report(
    instance: dg.DagsterInstance, key: dg.AssetKey, version: str, metadata: Metadata, *, partition: str | None = None
) -> None:
    # Of an asset that others make, Dagster takes the data version from observations, and what there is from the rest.
    tags: Mapping[str, str] = {_DATA_VERSION_TAG: version}
    instance.report_runless_asset_event(dg.AssetObservation(key, partition=partition, tags=tags))
    instance.report_runless_asset_event(
        dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags=dict(tags))
    )


def local_specs(plans: Sequence[CampaignPlan]) -> list[dg.AssetSpec]:
    """What imports are taken from: the subsystems' tags, and what these have for the buckets of each campaign."""
    offers = [_offer_spec(plan, name) for plan in plans for name in plan.imports]
    sources = [source for plan in plans for name in plan.imports for source in plan.sources(name)]
    return [*(_source_spec(tag, sources) for tag in dict.fromkeys(source.tag for source in sources)), *offers]


def _offer_spec(plan: CampaignPlan, name: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        offer_key(plan.name, name),
        deps=[source_tag_key(source.tag) for source in plan.sources(name)],
        description=f"What source tags have for {name} in each bucket, and what they lack, told by who looks; another"
        " content makes stale what was imported.",
        group_name=plan.group(name),
        owners=plan.import_owners(name),
        kinds={"conditions"},
        partitions_def=bucket_partitions(plan.name),
    )


def _source_spec(tag: str, sources: Sequence[LocalSource]) -> dg.AssetSpec:
    own = [source for source in sources if source.tag == tag]
    names = dict.fromkeys(name for source in own for name in source.payloads)
    people = dict.fromkeys(source.responsible for source in own)
    return dg.AssetSpec(
        source_tag_key(tag),
        description=f"A global tag that is filled outside the platform. Campaigns take {', '.join(names)} from it.",
        group_name=_GROUP,
        owners=[owner for person in people for owner in dagster_owners(person)],
        kinds={"conditions"},
    )
