"""Calibrations that have not enough data in their bucket: what the campaign or a person says is done about it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_work import BucketWork
from b2cal_caf.local_database import LocalDatabase
from b2cal_core.buckets import Bucket
from b2cal_core.data_shortage import SHORTAGE_RULE, ShortageChoice, asks_a_person, remedy_after
from b2cal_core.errors import DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ports import CafRequest, CafResult
from b2cal_core.ranges import IoV
from b2cal_core.remedies import Remedy
from b2cal_core.reminders import OpenSignOff
from b2cal_core.settings import asset_name


def calibrated(
    work: BucketWork, calibration: str, run: Callable[[CafRequest], CafResult], *, instance: dg.DagsterInstance
) -> tuple[BucketWork, CafRequest, CafResult]:
    """Run the CAF, and again with more data where there was not enough and the campaign has more taken.

    Returns:
        The work with all that was chosen meanwhile, and what the CAF was asked for and answered last. When that is for
        want of data, ``work.shortage_reasons`` says what is waited for; nothing when payloads are to be reused.
    """
    while True:
        request = work.caf_request(calibration)
        result = run(request)
        if not _is_short(result) or work.remedy(calibration) is Remedy.reuse:
            return work, request, result
        remedy = remedy_after(work.plan.campaign.shortage(calibration), work.remedy(calibration))
        reason = "; ".join(result.errors[name] for name in sorted(result.short_of_data))
        subject = (work.plan.name, work.bucket.key, calibration)
        work.workshop.sign_offs.choose(ShortageChoice(*subject, remedy, SHORTAGE_RULE, reason, datetime.now(UTC)))
        work = work.looking_again(instance)
        if work.shortage_reasons(calibration) or remedy is Remedy.reuse:
            return work, request, result


def _is_short(result: CafResult) -> bool:
    """Whether more data would help: nothing failed but for want of them."""
    failed = {name for name, state in result.states.items() if state == "failed"}
    return bool(failed) and failed <= result.short_of_data


def clipped(payloads: Sequence[LocalPayload], bucket: Bucket) -> list[LocalPayload]:
    """The payloads for the bucket's own runs; one that has an open end keeps it, as it would with these data alone."""
    found = []
    for payload in payloads:
        shared = payload.iov & bucket.iov
        if shared is not None:
            end = (-1, -1) if payload.iov.is_open else (shared.exp_high, shared.run_high)
            found.append(replace(payload, iov=IoV(shared.exp_low, shared.run_low, *end)))
    return found


def reused_payloads(work: BucketWork, calibration: str) -> list[LocalPayload]:
    """The payloads that were valid before the bucket, for its runs.

    Raises:
        DataError: there is none.
    """
    before = work.previous_payloads(calibration)
    entries = LocalDatabase(before).entries() if before is not None else ()
    if not entries:
        place = f"{work.plan.name} {work.bucket.key} {asset_name(calibration)}"
        raise DataError(
            f"nothing of {calibration} was valid before bucket {work.bucket.key} that could be reused; choose"
            f' something else: b2cal bucket data {place} merge|extend --reason "…"'
        )
    return [LocalPayload(entry.name, entry.file, work.bucket.iov) for entry in entries]


def open_questions(ledger: BucketLedger, buckets: Iterable[Bucket]) -> tuple[OpenSignOff, ...]:
    """The calibrations of the bucket that lack data and wait for a person's choice; ``buckets`` are all there are."""
    known = tuple(buckets)
    return tuple(_question(ledger, name, known) for name in ledger.plan.calibrations if _is_open(ledger, name, known))


def _is_open(ledger: BucketLedger, calibration: str, buckets: Sequence[Bucket]) -> bool:
    plan = ledger.plan
    is_last = plan.campaign.ends_in(ledger.bucket)
    asks = asks_a_person(ledger.choices(calibration), ledger.bucket, buckets, is_last=is_last)
    return asks and not ledger.is_made(calibration_key(plan.name, calibration, Part.payloads))


def _question(ledger: BucketLedger, calibration: str, buckets: Sequence[Bucket]) -> OpenSignOff:
    plan, choices = ledger.plan, ledger.choices(calibration)
    asked = choices[-1].when
    return OpenSignOff(
        plan.name,
        ledger.bucket.key,
        calibration,
        evidence=f"{asked:%Y%m%dT%H%M%S}",
        since=asked,
        verdict="",
        deciders=plan.campaign.deciders(plan.settings(calibration).expert_username),
        question="; ".join(ledger.shortage_reasons(calibration, buckets)),
    )
