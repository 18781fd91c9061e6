"""Collecting and calibrating: one CAF request, which makes ``collector_output`` and ``payloads`` of a calibration."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import dagster as dg

from b2cal_assets import payload_checks as checks
from b2cal_assets import provenances
from b2cal_assets.asset_keys import Part, bucket_runs_key, calibration_key, step_name
from b2cal_assets.asset_metadata import Metadata, iov_table, seconds, table
from b2cal_assets.asset_specs import bucket_edges, part_spec
from b2cal_assets.bucket_records import CONTENT, NAMES
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import wait_at_gate
from b2cal_assets.data_shortages import calibrated, clipped, reused_payloads
from b2cal_assets.observers import LoggingObserver
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.staging import content_hash, upload
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import CalibrationError, ConflictError, DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ports import CafObserver, CafRequest, CafResult
from b2cal_core.publishing import TagIov
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Threshold

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


def calibration_asset(plan: CampaignPlan, calibration: str) -> dg.AssetsDefinition:
    """The step that makes collector output and payloads of one calibration."""
    collected_key, payloads_key = (
        calibration_key(plan.name, calibration, part) for part in (Part.collector_output, Part.payloads)
    )

    @dg.multi_asset(
        name=step_name(payloads_key),
        specs=_specs(plan, calibration),
        check_specs=checks.check_specs(payloads_key, bucket_partitions(plan.name)),
        partitions_def=bucket_partitions(plan.name),
        can_subset=True,
        pool=plan.campaign.pool,
    )
    def calibrate(context: dg.AssetExecutionContext, workshop: dg.ResourceParam[Workshop]) -> Results:
        work = BucketWork.of(plan, context.partition_key, workshop, instance=context.instance)
        against = work.ledger.reasons_against_calibrating(calibration)
        if calibration in plan.cdst_stage:
            against += work.ledger.reasons_against_reading_cdst()
        against += work.shortage_reasons(calibration)
        if against:
            wait_at_gate(context, against, workshop.listener)
            return
        directory = work.request_directory(calibration)
        with failing_in_words(f"{calibration}, bucket {work.bucket.key}", {"work directory": _path(directory)}):
            observer = LoggingObserver(context.log, workshop.listener)
            run = partial(_run_caf, work, observer)
            work, request, result = calibrated(work, calibration, run, instance=context.instance)
            if collected_key in context.selected_asset_keys:
                yield _collected(collected_key, request, result, queued=observer.queued())
            if payloads_key not in context.selected_asset_keys:
                return
            if waits := work.shortage_reasons(calibration):
                wait_at_gate(context, waits, workshop.listener)
                return
            yield from _payloads(work, calibration, payloads_key, request=request, result=result)

    return calibrate


def _specs(plan: CampaignPlan, calibration: str) -> list[dg.AssetSpec]:
    settings = plan.settings(calibration)
    runs = dg.AssetDep(bucket_runs_key(plan.name))
    collected_key = calibration_key(plan.name, calibration, Part.collector_output)
    deps = [*([runs] if calibration not in plan.cdst_stage else []), *bucket_edges(plan, collected_key)]
    what = settings.description or f"Calibration {calibration} of {settings.subsystem or 'the detector'}."
    makes = ", ".join(settings.produced_payloads) or "what the script makes"
    return [
        part_spec(plan, calibration, Part.collector_output, deps=deps, description=f"{what} The collected data."),
        part_spec(
            plan,
            calibration,
            Part.payloads,
            deps=[*deps, dg.AssetDep(collected_key)],
            description=f"{what} The payloads ({makes}), uploaded to the bucket's staging tag.",
        ),
    ]


def _run_caf(work: BucketWork, observer: CafObserver, request: CafRequest) -> CafResult:
    caf = work.workshop.caf(work.plan.campaign.site)
    try:
        return caf.run(request, observer)
    except dg.DagsterExecutionInterruptedError:
        caf.cancel()
        raise


def _collected(
    key: dg.AssetKey, request: CafRequest, result: CafResult, *, queued: Metadata
) -> dg.MaterializeResult[Any]:
    collected = result.collected
    rejected = [{"file": file, "reason": reason} for file, reason in collected.rejected.items()]
    metadata: Metadata = {
        "events": dg.MetadataValue.int(sum(collected.events.values())),
        "files": dg.MetadataValue.int(collected.files),
        "jobs": dg.MetadataValue.int(collected.jobs),
        "jobs found in the cache": dg.MetadataValue.int(collected.cached),
        "rejected files": table(rejected),
        "events per run": table({"run": str(run), "events": n} for run, n in sorted(collected.events.items())),
        "input": table({"name": name, "files": len(files)} for name, files in sorted(request.input_data.items())),
        "constants from": dg.MetadataValue.text(" < ".join(request.database_chain)),
        "work directory": _path(request.directory),
    } | seconds({name: value for name, value in result.seconds.items() if name == "collect"})
    return dg.MaterializeResult(key, metadata=metadata | queued, data_version=dg.DataVersion(_input_version(request)))


def _input_version(request: CafRequest) -> str:
    """A hash of everything that collection depends on besides the code."""
    files = {name: [str(path) for path, _ in files] for name, files in sorted(request.input_data.items())}
    content = [files, list(request.database_chain), list(request.requested_iov), dict(request.expert_config)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _payloads(
    work: BucketWork, calibration: str, key: dg.AssetKey, *, request: CafRequest, result: CafResult
) -> Results:
    payloads = _made(work, calibration, result)
    found = checks.overlaps(payloads)
    if found:
        yield checks.check_disjoint(key, payloads)
        name, one, other = found[0]
        raise ConflictError(f"payload {name} has two answers, for {one} and {other}; mend the IoVs the script saves")
    _refuse_imported(work, calibration, payloads)
    former = work.ledger.payloads(calibration)
    links = upload(
        work.workshop.conditions, work.staging_tag, payloads, replacing=former.names if former is not None else ()
    )
    made = provenances.provenance_of(work, request)
    provenances.keep(work.workshop.conditions, links, made, author=f"calibration:{calibration}")
    yield _materialized(work, key, links, result=result)
    yield from _check_results(work, calibration, key, payloads=payloads)


def _refuse_imported(work: BucketWork, calibration: str, payloads: Sequence[LocalPayload]) -> None:
    """Scripts may make what they do not declare; the staging tag has one answer for each name."""
    brought = {name for step in work.plan.imports for name in work.plan.produced(step)}
    doubled = sorted({payload.name for payload in payloads} & brought)
    if doubled:
        raise ConflictError(
            f"{calibration} makes {', '.join(doubled)}, which is imported as a local calibration; take it from"
            f" local_calibrations of campaign {work.plan.name}, or leave that calibration out"
        )


def _made(work: BucketWork, calibration: str, result: CafResult) -> list[LocalPayload]:
    """The bucket's payloads: those that the CAF made, or those before where these are reused."""
    remedy = work.remedy(calibration)
    if remedy is Remedy.reuse:
        return reused_payloads(work, calibration)
    _refuse_failures(result)
    payloads = exported_payloads(result)
    return payloads if remedy is Remedy.alone else clipped(payloads, work.bucket)


def _refuse_failures(result: CafResult) -> None:
    """Raise what the CAF says of the calibrations of a script that did not complete."""
    if not result.ok:
        failed = {name: state for name, state in result.states.items() if state != "completed"}
        sentences = [result.errors.get(name, f"{name} is {state}") for name, state in failed.items()]
        raise CalibrationError("; ".join(sentences))
    if not result.databases:
        raise DataError("the script saves no payloads; give one of its calibrations save_payloads=True")


def exported_payloads(result: CafResult) -> list[LocalPayload]:
    """Everything that the calibrations of a script have exported; the same line from two of them counts once."""
    entries = (entry for directory in result.databases.values() for entry in LocalDatabase(directory).entries())
    unique = {(entry.name, entry.iov, entry.file.name): entry for entry in entries}
    if not unique:
        raise DataError("the CAF completed without a payload; see its logs for what its algorithms answered")
    return list(unique.values())


def _materialized(
    work: BucketWork, key: dg.AssetKey, links: Sequence[TagIov], *, result: CafResult
) -> dg.MaterializeResult[Any]:
    content = content_hash(work.workshop.conditions, links)
    metadata: Metadata = {
        CONTENT: dg.MetadataValue.text(content),
        NAMES: dg.MetadataValue.json(sorted({link.name for link in links})),
        "IoVs": iov_table(links),
        "number of IoVs": dg.MetadataValue.int(len(links)),
        "staging tag": dg.MetadataValue.text(work.staging_tag),
        "iterations": table({"calibration": name, "iterations": n} for name, n in result.iterations.items()),
        "done before": dg.MetadataValue.bool(result.resumed),
        **_remedied(work, key),
        "databases": table({"calibration": n, "directory": str(d)} for n, d in result.databases.items()),
    } | seconds({name: value for name, value in result.seconds.items() if name != "collect"})
    return dg.MaterializeResult(key, metadata=metadata | work.ledger.origin(key), data_version=dg.DataVersion(content))


def _remedied(work: BucketWork, key: dg.AssetKey) -> Metadata:
    """What was done about a lack of data, and who chose that; nothing where there was enough."""
    choices = work.ledger.choices(work.plan.calibration_of(key))
    if not choices or choices[-1].remedy is Remedy.alone:
        return {}
    last = choices[-1]
    return {"not enough data": dg.MetadataValue.text(f"{last.remedy}, chosen by {last.author}: {last.reason}")}


def _check_results(
    work: BucketWork, calibration: str, key: dg.AssetKey, *, payloads: Sequence[LocalPayload]
) -> Iterator[dg.AssetCheckResult]:
    own = work.plan.campaign.thresholds.get(calibration, {}).get(checks.DRIFT)
    threshold = Threshold.from_json(own) if own else checks.DRIFT_THRESHOLD
    yield checks.check_declared(key, payloads, work.plan.settings(calibration).produced_payloads)
    yield checks.check_covered(key, payloads, work.bucket, runs=[record.run for record in work.records])
    yield checks.check_disjoint(key, payloads)
    yield checks.check_drift(key, payloads, work.previous_payloads(calibration), threshold=threshold)


def _path(directory: object) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.path(str(directory))
