"""The detector's runs as assets that others make: what is registered, told by the sensor that finds it."""

from collections import Counter
from collections.abc import Iterable

import dagster as dg

from b2cal_assets.asset_keys import CDST_RUNS, RAW_RUNS
from b2cal_assets.partitions import RUNS, run_key
from b2cal_core.runs import RunRecord

_GROUP = "runs"
FORMATS = {RAW_RUNS: "raw", CDST_RUNS: "cdst"}


def run_assets() -> list[dg.AssetSpec]:
    """One asset per stage of the data; they have no code, only a history."""
    return [
        dg.AssetSpec(
            RAW_RUNS,
            description="Runs whose raw files are registered, with their quality.",
            group_name=_GROUP,
            partitions_def=RUNS,
            kinds={"root"},
        ),
        dg.AssetSpec(
            CDST_RUNS,
            description="Runs whose cDST files are registered, from a production outside the platform.",
            group_name=_GROUP,
            partitions_def=RUNS,
            kinds={"root"},
        ),
    ]


def run_materializations(records: Iterable[RunRecord]) -> list[dg.AssetMaterialization]:
    """What is to be reported of registered runs: one entry per run and stage it has files of."""
    return [
        _materialization(key, record, data_format)
        for record in records
        for key, data_format in FORMATS.items()
        if any(file.data_format == data_format for file in record.files)
    ]


def _materialization(key: dg.AssetKey, record: RunRecord, data_format: str) -> dg.AssetMaterialization:
    """One of a hundred thousand: what a person looks for, and no more; `b2cal runs show` lists the files."""
    events = Counter[str]()
    for file in record.files:
        if file.data_format == data_format:
            events[file.tag] += file.events
    return dg.AssetMaterialization(
        key,
        partition=run_key(record.run),
        metadata={
            "quality": ", ".join(sorted(record.quality)) or "unknown",
            "run": f"{record.run_type}, beam energy {record.beam_energy or 'none'}, magnet {record.magnet}, "
            f"{record.started:%Y-%m-%d %H:%M} to {record.ended:%Y-%m-%d %H:%M} UTC",
            "events by data tag": ", ".join(f"{tag} {count}" for tag, count in events.items()),
        },
    )
