"""A bucket as people are told of it: read from what is recorded of it, and from the Dagster runs at work on it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, published_key, step_name
from b2cal_assets.bucket_cells import Activity
from b2cal_assets.bucket_ledger import BucketLedger, decisive_keys
from b2cal_assets.bulk_records import made_partitions
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.data_shortages import open_questions
from b2cal_core.buckets import Bucket
from b2cal_core.situations import BucketSituation, CalibrationSituation, Failure, Findings, Plot, Row

_MAX_PLOTS, _MAX_IOVS = 8, 20
FIGURES, PLOTS, IOVS, IOV_COUNT = "figures", "plots", "IoVs", "number of IoVs"
"""Metadata that people look at."""


def situation_of(
    ledger: BucketLedger, activity: Activity, buckets: Iterable[Bucket], *, at_work: bool, dagster_address: str
) -> BucketSituation:
    """How far the bucket is.

    Args:
        ledger: of the bucket.
        activity: of the Dagster runs on it.
        buckets: all of the campaign.
        at_work: whether one of them is not finished.
        dagster_address: where people open Dagster's pages; empty for no links.
    """
    plan, published = ledger.plan, published_key(ledger.plan.name)
    steps = dict.fromkeys(step_name(key) for key in plan.asset_keys() if len(key.path) == len(published.path))
    failures = (_failure(ledger, activity, step) for step in steps)
    waiting = {one.calibration: one for one in ledger.open_sign_offs()}
    asked = {one.calibration: one for one in open_questions(ledger, buckets)}
    calibrations = (
        replace(
            _calibration(ledger, name, activity, dagster_address=dagster_address),
            open_sign_off=waiting.get(name),
            open_question=asked.get(name),
        )
        for name in plan.calibrations
    )
    return BucketSituation(
        plan.name,
        ledger.bucket,
        plan.campaign.owner,
        tuple(calibrations),
        plan.campaign.target_tag,
        at_work=at_work,
        failures=tuple(failure for failure in failures if failure is not None),
        published_at=ledger.published_at,
        page=_page(dagster_address, published, ledger.bucket.key),
    )


def finished_versions(plan: CampaignPlan, instance: dg.DagsterInstance) -> Mapping[str, str]:
    """Key to a number that grows whenever an asset of the bucket is made, of buckets of which every asset was made."""
    made = made_partitions(instance, decisive_keys(plan)).values()
    finished = set.intersection(*map(set, made))
    return {bucket: str(max(numbers[bucket] for numbers in made)) for bucket in finished}


def _calibration(ledger: BucketLedger, name: str, activity: Activity, *, dagster_address: str) -> CalibrationSituation:
    plan = ledger.plan
    validation = calibration_key(plan.name, name, Part.validation)
    steps = [step_name(calibration_key(plan.name, name, Part.payloads)), step_name(validation)]
    failures = (_failure(ledger, activity, step) for step in steps)
    return CalibrationSituation(
        ledger.standing(name),
        plan.campaign.deciders(plan.settings(name).expert_username),
        at_work=any(step in activity.running for step in steps),
        failure=next((failure for failure in failures if failure is not None), None),
        findings=_findings(ledger, name),
        page=_page(dagster_address, validation, ledger.bucket.key),
    )


def _failure(ledger: BucketLedger, activity: Activity, step: str) -> Failure | None:
    """How a step failed last, while something that it makes is lacking."""
    failed = activity.failed.get(step)
    if failed is None:
        return None
    keys = [key for key in ledger.plan.asset_keys() if step_name(key) == step and not ledger.is_made(key)]
    if not any(activity.failure(ledger, key) for key in keys):
        return None
    return Failure(step, failed.sentence, datetime.fromtimestamp(failed.when, UTC))


def _findings(ledger: BucketLedger, name: str) -> Findings:
    payloads = ledger.payloads(name)
    if payloads is None:
        return Findings()
    made = ledger.metadata(calibration_key(ledger.plan.name, name, Part.payloads)) or {}
    validation = calibration_key(ledger.plan.name, name, Part.validation)
    is_judged = ledger.verdict(name) is not None
    judged = (ledger.metadata(validation) or {}) if is_judged else {}
    return Findings(
        payloads.content,
        judged_at=_when(ledger, validation) if is_judged else None,
        figures=_rows(judged, FIGURES),
        iovs=_rows(made, IOVS)[:_MAX_IOVS],
        iov_count=int(made[IOV_COUNT].value) if IOV_COUNT in made else 0,
        plots=_plots(judged),
    )


def _rows(metadata: Mapping[str, Any], name: str) -> tuple[Row, ...]:
    """The lines of a table in metadata, in the order of its columns; nothing where there is a word instead."""
    found = metadata.get(name)
    if not isinstance(found, dg.TableMetadataValue):
        return ()
    columns = [column.name for column in found.schema.columns]
    return tuple({column: record.data[column] for column in columns} for record in found.records)


def _plots(metadata: Mapping[str, Any]) -> tuple[Plot, ...]:
    if PLOTS not in metadata:
        return ()
    files = sorted(Path(str(metadata[PLOTS].value)).glob("*.png"))[:_MAX_PLOTS]
    return tuple(Plot(file.stem, file) for file in files)


def _when(ledger: BucketLedger, key: dg.AssetKey) -> datetime | None:
    return datetime.fromtimestamp(ledger.made_at(key), UTC) if ledger.has(key) else None


def _page(dagster_address: str, key: dg.AssetKey, bucket: str) -> str:
    if not dagster_address:
        return ""
    path = "/".join(quote(part, safe="") for part in key.path)
    return f"{dagster_address.rstrip('/')}/assets/{path}?partition={quote(bucket, safe='')}"
