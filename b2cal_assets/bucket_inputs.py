"""Which runs a bucket has, which came too late for it, and what its steps read of them.

Dagster is told whenever that changes: what was made from other files is stale then, and is made again when asked for.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from b2cal_assets.asset_keys import bucket_runs_key, published_key
from b2cal_assets.asset_metadata import Metadata
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_records import SELECTED
from b2cal_assets.campaign_plans import CDST, CampaignPlan
from b2cal_core.buckets import LateRuns, frozen_at
from b2cal_core.ports import CampaignStore, RunRegistry
from b2cal_core.runs import RunRecord, selection_digest

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


def runs_of(ledger: BucketLedger, registry: RunRegistry, campaigns: CampaignStore) -> BucketRuns:
    """The runs of the ledger's bucket, as its campaign's policy for late runs has it."""
    late, iov = ledger.plan.campaign.buckets.late, ledger.bucket.iov
    published = ledger.made_at(published_key(ledger.plan.name))
    until = frozen_at(
        late,
        closed_at=None if late is LateRuns.reopen else _closed_at(ledger, campaigns),
        published_at=datetime.fromtimestamp(published, UTC) if published else None,
    )
    registered = registry.runs(iov)
    if until is None:
        return BucketRuns(registered)
    taken = registry.runs(iov, registered_by=until)
    known = {record.run for record in taken}
    what = "published" if late is LateRuns.reopen else f"closed, and buckets.late is {late.value}"
    why = f"registered after the bucket was {what}"
    return BucketRuns(taken, tuple(record for record in registered if record.run not in known), why)


def report_runs(ledger: BucketLedger, found: BucketRuns, instance: dg.DagsterInstance) -> bool:
    """Tell Dagster which runs the bucket has and what its steps read of them; whether that was news."""
    selected = _selections(ledger.plan, found.taken)
    left_out = [f"{record.run}: {found.why}" for record in found.left_out]
    key = bucket_runs_key(ledger.plan.name)
    known = ledger.metadata(key)
    if known is not None and (known[SELECTED].value, known[LEFT_OUT].value) == (selected, left_out):
        return False
    # Of an asset that others make, Dagster takes the data version from observations, and what there is from the rest.
    version = {_DATA_VERSION_TAG: _together(selected.values())}
    instance.report_runless_asset_event(dg.AssetObservation(key, partition=ledger.bucket.key, tags=version))
    metadata: Metadata = {
        "runs": dg.MetadataValue.int(len(found.taken)),
        LEFT_OUT: dg.MetadataValue.json(left_out),
        SELECTED: dg.MetadataValue.json(selected),
    }
    instance.report_runless_asset_event(
        dg.AssetMaterialization(key, partition=ledger.bucket.key, metadata=metadata, tags=version)
    )
    return True


def _selections(plan: CampaignPlan, records: Sequence[RunRecord]) -> dict[str, str]:
    """Calibration, and the production of cDST files, to a hash of the registered files that it is made from."""
    found = {}
    for name in plan.calibrations:
        settings = plan.settings(name)
        filters = {given: settings.input_data_filters.get(given, ()) for given in settings.input_data_names}
        found[name] = selection_digest(records, filters, _FORMATS_OF_STAGE[settings.stage])
    return found | {CDST: _together(found[name] for name in plan.cdst_stage)}


def _together(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def _closed_at(ledger: BucketLedger, campaigns: CampaignStore) -> datetime | None:
    book = campaigns.book(ledger.plan.name)
    return next((entry.closed_at for entry in book if entry.bucket.key == ledger.bucket.key), None)
