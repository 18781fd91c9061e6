"""Which runs a bucket has, which came too late for it, and what its steps read of them.

Dagster is told whenever that changes: what was made from other files is stale then, and is made again when asked for.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from b2cal_assets.asset_keys import bucket_runs_key
from b2cal_assets.asset_metadata import Metadata
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_records import SELECTED
from b2cal_assets.bulk_events import report_with_tags
from b2cal_assets.campaign_plans import CDST, CampaignPlan
from b2cal_assets.publication import story_of
from b2cal_assets.workshop import Publishing
from b2cal_core.buckets import Bucket, LateRuns, frozen_at
from b2cal_core.ports import CampaignStore, RunRegistry
from b2cal_core.runs import RunRecord, Selection, selection_digests
from b2cal_core.settings import CalibrationSettings

LEFT_OUT = "left out"
"""Metadata: the runs that came too late, as a JSON list of words."""
_DATA_VERSION_TAG = "dagster/data_version"
_FORMATS_OF_STAGE = {"raw": {"raw"}, "cdst": {"raw", "cdst", "mdst", "udst"}}
"""The registered files behind what is read: cDST files of the platform's own production are made from raw ones."""


@dataclass(frozen=True, slots=True)
class BucketRuns:
    """The registered runs in the range of a bucket.

    Attributes:
        taken: those that belong to it.
        left_out: those that came too late, and ``why``, a sentence.
    """

    taken: tuple[RunRecord, ...]
    left_out: tuple[RunRecord, ...] = ()
    why: str = ""


def runs_of(ledger: BucketLedger, registry: RunRegistry, campaigns: CampaignStore, publisher: Publishing) -> BucketRuns:
    """The runs of the ledger's bucket, as its campaign's policy for late runs has it.

    What was published is asked of the conditions database where Dagster has no record of it, or lost it.
    """
    late, iov = ledger.plan.campaign.buckets.late, ledger.bucket.iov
    reopens = late is LateRuns.reopen
    until = frozen_at(
        late,
        closed_at=None if reopens else _closed_at(ledger, campaigns),
        published_at=(ledger.published_at or _applied_at(ledger, publisher)) if reopens else None,
    )
    registered = registry.runs(iov)
    if until is None:
        return BucketRuns(registered)
    taken = registry.runs(iov, registered_by=until)
    known = {record.run for record in taken}
    what = "published" if late is LateRuns.reopen else f"closed, and buckets.late is {late.value}"
    why = f"registered after the bucket was {what}"
    return BucketRuns(taken, tuple(record for record in registered if record.run not in known), why)


RunsReport = Sequence[dg.AssetObservation | dg.AssetMaterialization]
"""What Dagster is told of the runs of a bucket; nothing when it was told before."""


def report_runs(ledger: BucketLedger, found: BucketRuns, instance: dg.DagsterInstance) -> bool:
    """Tell Dagster which runs the bucket has and what its steps read of them; whether that was news."""
    news = news_of_runs(ledger, found)
    report_with_tags(instance, news)
    return bool(news)


def news_of_runs(ledger: BucketLedger, found: BucketRuns) -> RunsReport:
    """What is to be told of the bucket's runs, if it is news."""
    report = report_of_runs(ledger.plan, ledger.bucket, found)
    known = ledger.metadata(bucket_runs_key(ledger.plan.name))
    as_before = known is not None and all(known[label] == report[-1].metadata[label] for label in (SELECTED, LEFT_OUT))
    return () if as_before else report


def report_of_runs(plan: CampaignPlan, bucket: Bucket, found: BucketRuns) -> RunsReport:
    """What is to be told of the runs a bucket has, and of what its steps read of them."""
    selected, key = _selections(plan, found.taken), bucket_runs_key(plan.name)
    metadata: Metadata = {
        "runs": dg.MetadataValue.int(len(found.taken)),
        LEFT_OUT: dg.MetadataValue.json([f"{record.run}: {found.why}" for record in found.left_out]),
        SELECTED: dg.MetadataValue.json(selected),
    }
    # Of an asset that others make, Dagster takes the data version from observations, and what there is from the rest.
    version = {_DATA_VERSION_TAG: _together(selected.values())}
    return (
        dg.AssetObservation(key, partition=bucket.key, tags=version),
        dg.AssetMaterialization(key, partition=bucket.key, metadata=metadata, tags=version),
    )


def _selections(plan: CampaignPlan, records: Sequence[RunRecord]) -> dict[str, str]:
    """Calibration, and the production of cDST files, to a hash of the registered files that it is made from."""
    found = selection_digests(records, {name: _selection(plan.settings(name)) for name in plan.calibrations})
    return found | {CDST: _together(found[name] for name in plan.cdst_stage)}


def _selection(settings: CalibrationSettings) -> Selection:
    filters = {given: settings.input_data_filters.get(given, ()) for given in settings.input_data_names}
    return filters, _FORMATS_OF_STAGE[settings.stage]


def _together(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def _applied_at(ledger: BucketLedger, publisher: Publishing) -> datetime | None:
    story = story_of(publisher, ledger.plan.staging_tag(ledger.bucket), ledger.plan.campaign.target_tag)
    return story.applied.when if story is not None and story.applied is not None else None


def _closed_at(ledger: BucketLedger, campaigns: CampaignStore) -> datetime | None:
    book = campaigns.book(ledger.plan.name)
    return next((entry.closed_at for entry in book if entry.bucket.key == ledger.bucket.key), None)
