"""Many events of external assets, reported at once.

Dagster's own call writes each in two transactions and opens two connections for it; a hundred thousand runs would take
most of an hour. Tables and rows are Dagster's own, so that everything that reads them sees no difference.
"""

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.events import AssetObservationData, DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

_BLANK = re.compile(r'"\\u0000(\d+)"')


def report_all(instance: dg.DagsterInstance, materializations: Iterable[dg.AssetMaterialization]) -> None:
    """Report materialisations that have a partition and texts as metadata only; those of one asset keep their order.

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
            connection.execute(SqlEventLogStorageTable.insert(), list(_rows(storage, materializations)))


def _rows(storage: SqlEventLogStorage, materializations: Sequence[dg.AssetMaterialization]) -> Iterator[dict[str, Any]]:
    """Rows of one asset's events, which differ in partition and metadata only: the rest is written once."""
    forms: dict[tuple[str, ...], _Form] = {}
    now = time.time()
    for one in materializations:
        labels = tuple(one.metadata)
        if labels not in forms:
            forms[labels] = _Form(storage, one, now)
        yield forms[labels].row(one)


class _Form:
    """The row of an event with blanks for the partition and the texts of the metadata.

    Args:
        storage: whose row it is.
        example: with the metadata of all that will be filled in, perhaps other values of them.
        now: the event's time, in seconds since 1970.
    """

    def __init__(self, storage: SqlEventLogStorage, example: dg.AssetMaterialization, now: float) -> None:
        blanks = [f"\0{place}" for place in range(len(example.metadata) + 1)]
        form = dg.AssetMaterialization(
            example.asset_key, partition=blanks[0], metadata=dict(zip(example.metadata, blanks[1:], strict=True))
        )
        self._row = storage._event_to_row(_entry(form, now))  # noqa: SLF001 (what makes a row of an event has no public name)
        self._between = _BLANK.split(self._row["event"])

    def row(self, one: dg.AssetMaterialization) -> dict[str, Any]:
        """The row of an event; its metadata must be texts."""
        values = [one.partition, *(value.value for value in one.metadata.values())]
        parts = [json.dumps(values[int(part)]) if place % 2 else part for place, part in enumerate(self._between)]
        return self._row | {"event": "".join(parts), "partition": one.partition}


def report_with_tags(
    instance: dg.DagsterInstance, events: Sequence[dg.AssetMaterialization | dg.AssetObservation]
) -> None:
    """Report events in their order, in one transaction, whatever they have on them."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        for event in events:
            instance.report_runless_asset_event(event)
        return
    now = time.time()
    entries = [_entry(event, now) for event in events]
    if entries:
        with storage.index_transaction() as connection:
            _store(storage, connection, entries)


def _store(storage: SqlEventLogStorage, connection: sa.Connection, entries: Sequence[EventLogEntry]) -> None:
    """What Dagster does for each event in a transaction of its own: it, its tags, and what is kept per asset."""
    ids = [connection.execute(storage.prepare_insert_event(entry)).lastrowid for entry in entries]
    storage._store_asset_event_tags(connection, entries, ids)  # noqa: SLF001 (these have no public name)
    for entry, number in zip(entries, ids, strict=True):
        storage._store_asset_event(connection, entry, number)  # noqa: SLF001


def _content(
    event: dg.AssetMaterialization | dg.AssetObservation,
) -> tuple[DagsterEventType, StepMaterializationData | AssetObservationData]:
    if isinstance(event, dg.AssetMaterialization):
        return DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(event)
    return DagsterEventType.ASSET_OBSERVATION, AssetObservationData(event)


def _entry(event: dg.AssetMaterialization | dg.AssetObservation, now: float) -> EventLogEntry:
    kind, data = _content(event)
    return EventLogEntry(  # type: ignore[no-untyped-call]  # Dagster's own has no types
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=RUNLESS_RUN_ID,
        timestamp=now,
        job_name=RUNLESS_JOB_NAME,
        dagster_event=DagsterEvent(
            event_type_value=kind.value,
            job_name=RUNLESS_JOB_NAME,
            event_specific_data=data,
        ),
    )
