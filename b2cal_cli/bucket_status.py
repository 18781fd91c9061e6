"""How far a bucket is: per calibration what exists, its verdict, its sign-off, and why it waits."""

from dataclasses import asdict, dataclass
from typing import Any

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, published_key
from b2cal_assets.bucket_inputs import runs_of
from b2cal_cli.ledgers import OpenLedger
from b2cal_core.buckets import Bucket
from b2cal_core.ports import CampaignStore, RunRegistry
from b2cal_core.verdicts import SignOff
from resources.conditions.publisher import Publisher


@dataclass(frozen=True, slots=True)
class CalibrationStatus:
    """One calibration in one bucket; ``waits_for`` is empty when it is done or may start."""

    calibration: str
    stage: str
    payloads: tuple[str, ...]
    verdict: str | None
    sign_off: str | None
    signed_by: str | None
    waits_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportStatus:
    """One import of local calibrations; ``waits_for`` is empty when it is done or may start."""

    name: str
    payloads: tuple[str, ...]
    imported: bool
    waits_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BucketStatus:
    """One bucket of one campaign; ``cdst`` is none when the campaign needs no cDST files.

    Attributes:
        left_out: registered runs in its range that came too late, and why.
    """

    campaign: str
    bucket: str
    label: str
    staging_tag: str
    imports: tuple[ImportStatus, ...]
    calibrations: tuple[CalibrationStatus, ...]
    cdst: bool | None
    cdst_waits_for: tuple[str, ...]
    published: bool
    published_waits_for: tuple[str, ...]
    left_out: tuple[str, ...]
    left_out_because: str

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def status_of(
    opened: OpenLedger, campaigns: CampaignStore, registry: RunRegistry, publisher: Publisher
) -> BucketStatus:
    """The status of the bucket that the ledger is of."""
    plan, ledger, buckets = opened.plan, opened.ledger, campaigns.buckets(opened.plan.name)
    runs = runs_of(ledger, registry, campaigns, publisher)
    cdst, published = cdst_key(plan.name), published_key(plan.name)
    has_cdst = ledger.has(cdst) if plan.cdst_stage else None
    is_published = ledger.has(published)
    return BucketStatus(
        campaign=plan.name,
        bucket=opened.bucket.key,
        label=opened.bucket.label,
        staging_tag=plan.staging_tag(opened.bucket),
        imports=tuple(_import(opened, name) for name in plan.imports),
        calibrations=tuple(_calibration(opened, name, buckets) for name in plan.calibrations),
        cdst=has_cdst,
        cdst_waits_for=ledger.reasons_against(cdst, buckets) if has_cdst is False else (),
        published=is_published,
        published_waits_for=() if is_published else ledger.reasons_against(published, buckets),
        left_out=tuple(f"{record.run.exp}/{record.run.run}" for record in runs.left_out),
        left_out_because=runs.why,
    )


def _import(opened: OpenLedger, name: str) -> ImportStatus:
    made = opened.ledger.payloads(name) is not None
    waits = () if made else opened.ledger.reasons_against_importing(name)
    return ImportStatus(name, opened.plan.produced(name), imported=made, waits_for=waits)


def _calibration(opened: OpenLedger, name: str, buckets: tuple[Bucket, ...]) -> CalibrationStatus:
    plan, ledger = opened.plan, opened.ledger
    payloads, verdict, signed = ledger.payloads(name), ledger.verdict(name), ledger.sign_off(name)
    next_part = Part.payloads if payloads is None else Part.sign_off
    reasons = () if signed else ledger.reasons_against(calibration_key(plan.name, name, next_part), buckets)
    return CalibrationStatus(
        calibration=name,
        stage=plan.settings(name).stage,
        payloads=payloads.names if payloads else (),
        verdict=verdict.value if verdict else None,
        sign_off=signed.decision.value if signed else None,
        signed_by=_who(signed),
        waits_for=reasons,
    )


def _who(signed: SignOff | None) -> str | None:
    return signed.author if signed else None
