"""The cells of a global tag, derived from its links and the provenance of its payloads.

They are kept in a file beside the fingerprint of the tag. Of a tag that was changed since, what can have changed is
read again; the provenance of payloads that were known before is not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.schema import edges
from resources.impact.cells import UNKNOWN, Cells, NameCells
from resources.impact.growing import growth
from resources.impact.run_ranges import Numbers

_Range = tuple[int, int]
_PART = 50_000
"""Payloads whose records are in memory at a time."""
_WORTH_KEEPING = 200
"""One in so many links is read again more quickly than the whole table is written."""


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
        grown = growth(kept, fingerprint, partial(self._conditions.list_iovs, tag)) if kept is not None else None
        if grown is not None:
            known = _known_sources(grown.dropped)
            cells = self._cells(fingerprint, grown.links, known=known, kept=grown.kept)
        else:
            known = _known_sources({name: cells.rows for name, cells in kept.by_name.items()}) if kept else {}
            cells = self._cells(fingerprint, self._conditions.list_iovs(tag), known=known, kept={})
        if grown is None or len(grown.links) * _WORTH_KEEPING > len(cells):
            cells.save(file)
        return cells

    def _cells(
        self,
        fingerprint: str,
        links: Sequence[TagIov],
        *,
        known: Mapping[tuple[str, int], _Range],
        kept: Mapping[str, Numbers],
    ) -> Cells:
        """The cells of these links, and those that are kept."""
        sources = {**known, **self._sources({(link.name, link.revision) for link in links} - known.keys())}
        rows: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for link in links:
            source = sources.get((link.name, link.revision), (UNKNOWN, UNKNOWN))
            rows[link.name].append((*edges(link.iov), *source, link.revision))
        tables = {name: table for name, table in kept.items() if len(table) or name in rows}
        for name, found in rows.items():
            new = np.array(found, dtype=np.int64)
            tables[name] = np.concatenate([tables[name], new]) if name in tables else new
        return Cells(fingerprint, {name: NameCells(_sorted(table)) for name, table in tables.items()})

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


def _known_sources(tables: Mapping[str, Numbers]) -> dict[tuple[str, int], _Range]:
    return {
        (name, revision): (first, after)
        for name, rows in tables.items()
        for _, _, first, after, revision in rows.tolist()
        if first != UNKNOWN
    }


def _sorted(rows: Numbers) -> Numbers:
    return rows[np.argsort(rows[:, 0], kind="stable")]
