"""The cDST files of a campaign as cells, one per run, derived from the lists that its buckets keep of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from b2cal_core.errors import DataError
from b2cal_core.ranges import IoV
from b2cal_core.runs import RunRecord
from resources.conditions.schema import edges
from resources.impact.cells import Cells, NameCells

NAME = "cDST"
_RECORDS: TypeAdapter[tuple[RunRecord, ...]] = TypeAdapter(tuple[RunRecord, ...])


def cdst_cells(file: Path, manifests: Iterable[Path]) -> Cells:
    """The cells of the files in these lists; lists that are not there are passed over.

    Args:
        file: where the table is kept between questions; it is made again when a list was changed.
        manifests: one per bucket, JSON, the runs with their cDST files.

    Raises:
        DataError: a list is damaged.
    """
    there = sorted(manifest for manifest in manifests if manifest.is_file())
    stats = [(str(manifest), manifest.stat().st_mtime_ns, manifest.stat().st_size) for manifest in there]
    version = hashlib.sha256(repr(stats).encode()).hexdigest()
    kept = Cells.load(file)
    if kept is not None and kept.version == version:
        return kept
    rows = [
        (*runs, *runs, len(record.files))
        for manifest in there
        for record in _records(manifest)
        for runs in [edges(IoV.spanning([record.run]))]
    ]
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 5)
    cells = Cells(version, {NAME: NameCells(table)})
    cells.save(file)
    return cells


def _records(manifest: Path) -> tuple[RunRecord, ...]:
    try:
        return _RECORDS.validate_json(manifest.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{manifest} is damaged; make the cDST files of its bucket again: b2cal bucket run … --only cdst"
        ) from error
