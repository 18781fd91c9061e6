"""Many materialisations of external assets, reported at once.

Dagster's own call writes each in two transactions and opens two connections for it; a hundred thousand runs would take
most of an hour. Tables and rows are Dagster's own, so that everything that reads them sees no difference.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._serdes import serialize_value


def report_all(instance: dg.DagsterInstance, materializations: Iterable[dg.AssetMaterialization]) -> None:
    """Report materialisations without tags; those of one asset keep their order.

    The last one of every asset is reported by Dagster, which then brings what it keeps per asset up to date. Should the
    process die before, the others are there all the same, and reporting them again adds nothing but history.
    """
    by_asset: dict[dg.AssetKey, list[dg.AssetMaterialization]] = {}
    for materialization in materializations:
        by_asset.setdefault(materialization.asset_key, []).append(materialization)
    for *earlier, last in by_asset.values():
        _report_earlier(instance, earlier)
        instance.report_runless_asset_event(last)


def _report_earlier(instance: dg.DagsterInstance, materializations: Sequence[dg.AssetMaterialization]) -> None:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        for materialization in materializations:
            instance.report_runless_asset_event(materialization)
        return
    if materializations:
        with storage.index_connection() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), _rows(storage, materializations))


def _rows(storage: SqlEventLogStorage, materializations: Sequence[dg.AssetMaterialization]) -> list[dict[str, Any]]:
    """Rows of one asset's events, which differ in the materialisation only: what is around it is written once."""
    first = materializations[0]
    row = storage._event_to_row(_entry(first, time.time()))  # noqa: SLF001 (what makes a row of an event has no public name)
    before, _, after = row["event"].partition(serialize_value(first))
    return [
        row | {"event": f"{before}{serialize_value(other)}{after}", "partition": other.partition}
        for other in materializations
    ]


def _entry(materialization: dg.AssetMaterialization, now: float) -> EventLogEntry:
    return EventLogEntry(  # type: ignore[no-untyped-call]  # Dagster's own has no types
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=RUNLESS_RUN_ID,
        timestamp=now,
        job_name=RUNLESS_JOB_NAME,
        dagster_event=DagsterEvent(
            event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name=RUNLESS_JOB_NAME,
            event_specific_data=StepMaterializationData(materialization),
        ),
    )
