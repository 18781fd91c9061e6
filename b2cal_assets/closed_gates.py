"""Shut gates in words: in the step that finds its gate shut, and on assets that nothing runs for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import published_key
from b2cal_assets.asset_metadata import Metadata, reasons, table
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_core.cells import Cell, CellState
from b2cal_core.ports import CafObserver

WAITING, CELLS, COMMAND = "waits for", "why not made", "what to do"
Shown = Mapping[str, str]
"""What a bucket's page shows: asset, or ``""`` for the overview, to a hash of it."""
_OVERVIEW = ""


def wait_at_gate(context: dg.AssetExecutionContext, sentences: Sequence[str], listener: CafObserver) -> None:
    """Log the reasons, and leave them as an observation on every asset of the step; nothing is made, nothing fails."""
    for sentence in sentences:
        context.log.warning("not started: %s", sentence)
        listener.log(f"not started: {sentence}")
    for key in sorted(context.selected_asset_keys):
        context.log_event(
            dg.AssetObservation(key, partition=context.partition_key, metadata={WAITING: reasons(sentences)})
        )


def show_cells(
    instance: dg.DagsterInstance, ledger: BucketLedger, cells: Sequence[Cell], *, shown: Shown
) -> dict[str, str]:
    """Leave an observation on each asset whose gate is shut or that is stale, when that is news.

    What is to be published also gets the whole picture, a table with the reason for every asset that is not made.

    Args:
        instance: where observations are reported.
        ledger: of the bucket that the cells are of.
        cells: all of the bucket.
        shown: what this returned the last time.
    """
    missing = [cell for cell in cells if cell.state is not CellState.made]
    shut = [cell for cell in missing if cell.state in {CellState.blocked, CellState.stale}]
    opened = [cell for cell in missing if cell.name in shown and cell not in shut]
    told = {cell.name: (dg.AssetKey.from_user_string(cell.name), _own(cell)) for cell in shut}
    if missing:
        told[_OVERVIEW] = published_key(ledger.plan.name), {CELLS: _overview(missing)}
    marks = {name: _mark(missing, name) for name in told}
    nothing: Metadata = {WAITING: dg.MetadataValue.text("nothing")}
    news = [said for name, said in told.items() if shown.get(name) != marks[name]]
    for key, metadata in (*news, *((dg.AssetKey.from_user_string(cell.name), nothing) for cell in opened)):
        instance.report_runless_asset_event(dg.AssetObservation(key, partition=ledger.bucket.key, metadata=metadata))
    return marks


def _own(cell: Cell) -> Metadata:
    told: Metadata = {WAITING: reasons(cell.reasons)}
    return told | ({COMMAND: dg.MetadataValue.text(cell.command)} if cell.command else {})


def _overview(cells: Sequence[Cell]) -> dg.MetadataValue[Any]:
    return table(
        {"asset": cell.name, "state": cell.state.value, "why": "; ".join(cell.reasons), COMMAND: cell.command}
        for cell in cells
    )


def _mark(missing: Sequence[Cell], name: str) -> str:
    told = [astuple(cell) for cell in missing if name in {_OVERVIEW, cell.name}]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
