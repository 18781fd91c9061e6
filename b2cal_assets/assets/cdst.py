"""cDST production: a bucket's raw files reconstructed with the constants of its raw stage."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import bucket_runs_key, cdst_key, step_name
from b2cal_assets.asset_metadata import Metadata, table
from b2cal_assets.asset_specs import bucket_edges, bucket_spec
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import wait_at_gate
from b2cal_assets.observers import LoggingObserver
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_core.errors import DataError
from b2cal_core.ports import CafObserver, CdstResult
from b2cal_core.runs import RunRecord


def cdst_asset(plan: CampaignPlan) -> dg.AssetsDefinition:
    """The step that makes the cDST files of a bucket, or takes registered ones when the campaign has no raw stage."""
    key = cdst_key(plan.name)

    @dg.multi_asset(
        name=step_name(key),
        specs=[
            bucket_spec(
                plan,
                key,
                deps=_deps(plan),
                description="cDST files of the bucket, made from raw files with the constants of the raw stage.",
            )
        ],
        partitions_def=bucket_partitions(plan.name),
        pool=plan.campaign.pool,
    )
    def produce(
        context: dg.AssetExecutionContext, workshop: dg.ResourceParam[Workshop]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        work = BucketWork.of(plan, context.partition_key, workshop, instance=context.instance)
        against = work.ledger.reasons_against_cdst()
        if against:
            wait_at_gate(context, against, workshop.listener)
            return
        with failing_in_words(f"cDST production, bucket {work.bucket.key}"):
            observer = LoggingObserver(context.log, workshop.listener)
            result, chain = _produce(work, observer)
            _refuse_empty(result)
            manifest = work.keep_cdst(result.runs)
            metadata = _metadata(result, chain) | {"manifest": dg.MetadataValue.path(str(manifest))}
            metadata |= work.ledger.origin(key) | observer.queued()
            yield dg.MaterializeResult(key, metadata=metadata, data_version=dg.DataVersion(_version(result.runs)))

    return produce


def _deps(plan: CampaignPlan) -> Sequence[dg.AssetDep]:
    return [dg.AssetDep(bucket_runs_key(plan.name)), *bucket_edges(plan, cdst_key(plan.name))]


def _produce(work: BucketWork, observer: CafObserver) -> tuple[CdstResult, Sequence[str]]:
    """The files, and the tags whose constants they were made with."""
    registered = () if work.plan.raw_stage else work.registered_cdst()
    if registered:
        return CdstResult(registered, rejected={}, seconds=0.0), ()
    request = work.cdst_request()
    producer = work.workshop.cdst(work.plan.campaign.site)
    return producer.produce(request, observer), request.database_chain


def _refuse_empty(result: CdstResult) -> None:
    if not any(record.files for record in result.runs):
        rejected = "; ".join(f"{file}: {reason}" for file, reason in result.rejected.items())
        raise DataError(f"no cDST file could be made ({rejected or 'no input'}); mend or replace the raw files")


def _metadata(result: CdstResult, chain: Sequence[str]) -> Metadata:
    return {
        "runs": dg.MetadataValue.int(len(result.runs)),
        "files": dg.MetadataValue.int(sum(len(record.files) for record in result.runs)),
        "events": dg.MetadataValue.int(sum(_events(record) for record in result.runs)),
        "jobs": dg.MetadataValue.int(result.jobs),
        "jobs found in the cache": dg.MetadataValue.int(result.cached),
        "seconds production": dg.MetadataValue.float(round(result.seconds, 3)),
        "constants from": dg.MetadataValue.text(" < ".join(chain) or "the production that made the files"),
        "rejected files": _rejected(result.rejected),
        "files per run": table(
            {"run": str(record.run), "files": len(record.files), "events": _events(record)} for record in result.runs
        ),
    }


def _rejected(rejected: Mapping[str, str]) -> dg.MetadataValue[Any]:
    return table({"file": file, "reason": reason} for file, reason in rejected.items())


def _events(record: RunRecord) -> int:
    return sum(file.events for file in record.files)


def _version(records: Sequence[RunRecord]) -> str:
    checksums = sorted(f"{record.run} {file.tag} {file.checksum}" for record in records for file in record.files)
    return hashlib.sha256("\n".join(checksums).encode()).hexdigest()[:32]
