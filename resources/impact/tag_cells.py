"""The cells of a global tag, derived from its links and the provenance of its payloads.

They are kept in a file beside the fingerprint of the tag; a tag that was changed since is read again. Of payloads that
were known before, the provenance is not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from b2cal_core.ports import ConditionsDB
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.schema import edges
from resources.impact.cells import UNKNOWN, Cells, NameCells
from resources.impact.run_ranges import Numbers

_Range = tuple[int, int]
_PART = 50_000
"""Payloads whose records are in memory at a time."""


class TagCells:
    """The cells of the tags of a conditions database.

    Args:
        directory: for the derived files; whatever is in it may be removed.
        conditions: what they are derived from.
    """

    def __init__(self, directory: Path, conditions: ConditionsDB) -> None:
        self._directory, self._conditions = directory, conditions
        self._open: dict[str, Cells] = {}

    def of(self, tag: str) -> Cells:
        """The cells of a tag as it is now; none when there is no such tag. Asked again, it is not read again."""
        if tag not in self._open:
            self._open[tag] = self._read(tag)
        return self._open[tag]

    def _read(self, tag: str) -> Cells:
        if self._conditions.get_tag(tag) is None:
            return Cells("", {})
        fingerprint = self._conditions.fingerprint(tag)
        file = self._directory / f"tag_{hashlib.sha256(tag.encode()).hexdigest()[:32]}.npz"
        kept = Cells.load(file)
        if kept is not None and kept.version == fingerprint:
            return kept
        cells = self._derive(tag, fingerprint, kept)
        cells.save(file)
        return cells

    def _derive(self, tag: str, fingerprint: str, before: Cells | None) -> Cells:
        links = self._conditions.list_iovs(tag)
        sources = _known_sources(before) if before is not None else {}
        sources |= self._sources({(link.name, link.revision) for link in links} - sources.keys())
        rows: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for link in links:
            source = sources.get((link.name, link.revision), (UNKNOWN, UNKNOWN))
            rows[link.name].append((*edges(link.iov), *source, link.revision))
        return Cells(fingerprint, {name: NameCells(_sorted(found)) for name, found in rows.items()})

    def _sources(self, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], _Range]:
        """(name, revision) to the runs it was made from, for those whose provenance says so."""
        ordered = sorted(wanted)
        found: dict[tuple[str, int], _Range] = {}
        for start in range(0, len(ordered), _PART):
            payloads = self._conditions.payloads_of(ordered[start : start + _PART])
            records = self._conditions.provenance((payload.name, payload.md5) for payload in payloads.values())
            for key, payload in payloads.items():
                record = records.get((payload.name, payload.md5))
                if record is not None and record.runs:
                    found[key] = edges(IoV.spanning(ExpRun(*run) for run in record.runs))
        return found


def _known_sources(cells: Cells) -> dict[tuple[str, int], _Range]:
    return {
        (name, revision): (first, after)
        for name, of_name in cells.by_name.items()
        for _, _, first, after, revision in of_name.rows.tolist()
        if first != UNKNOWN
    }


def _sorted(rows: list[tuple[int, ...]]) -> Numbers:
    table = np.array(rows, dtype=np.int64)
    return table[np.argsort(table[:, 0], kind="stable")]
