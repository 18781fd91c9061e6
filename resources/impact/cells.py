"""A table of cells: what was made of each name, for which runs it is valid, and from which runs it was made."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from b2cal_caf.atomic_files import write_atomically
from resources.impact.run_ranges import Numbers

UNKNOWN = -1
"""In the columns ``first`` and ``after``: from which runs it was made was not recorded."""
COLUMNS = 5


@dataclass(frozen=True, slots=True, eq=False)
class NameCells:
    """The cells of one name, shape (n, 5): valid from, valid until, made from, made until, and the revision.

    Ranges are half-open. Of cDST files the revision is their number in the run.
    """

    rows: Numbers

    @property
    def valid(self) -> tuple[Numbers, Numbers]:
        """Start and stop of the runs each is valid for."""
        return self.rows[:, 0], self.rows[:, 1]

    @property
    def source(self) -> tuple[Numbers, Numbers]:
        """Start and stop of the runs each was made from, rather too many than too few.

        Equal content is one payload, whose record tells of the last time it was made. So the record is trusted where
        the payload is valid from one of its runs on; otherwise the runs it is valid for count too, or alone.
        """
        start, stop, first, after = self.rows[:, :4].T
        fits = (first <= start) & (start < after)
        overlaps = (first < stop) & (start < after)  # never where it is not known
        begin = np.where(fits, first, np.where(overlaps, np.minimum(first, start), start))
        return begin, np.where(fits, after, np.where(overlaps, np.maximum(after, stop), stop))

    @property
    def revisions(self) -> Numbers:
        """The revision of each."""
        return self.rows[:, 4]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Name to its cells, as they were when what they are derived from had this ``version``."""

    version: str
    by_name: Mapping[str, NameCells]

    def __len__(self) -> int:
        return sum(len(cells.rows) for cells in self.by_name.values())

    def of(self, name: str) -> NameCells:
        """The cells of a name; none when there is no such name."""
        return self.by_name.get(name) or NameCells(np.empty((0, COLUMNS), dtype=np.int64))

    def save(self, file: Path) -> None:
        """Write the table, atomically."""
        names = sorted(self.by_name)
        counts = np.array([len(self.by_name[name].rows) for name in names], dtype=np.int64)
        rows = np.concatenate([np.empty((0, COLUMNS), dtype=np.int64), *(self.by_name[name].rows for name in names)])
        content = io.BytesIO()
        np.savez(content, version=np.array(self.version), names=np.array(names, dtype=str), counts=counts, rows=rows)
        write_atomically(file, content.getvalue())

    @classmethod
    def load(cls, file: Path) -> "Cells | None":
        """The table of a file; ``None`` when there is none or it is damaged, since it can always be made again."""
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
                version, names, counts, rows = (kept[part] for part in ("version", "names", "counts", "rows"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        parts = np.split(rows, np.cumsum(counts)[:-1])
        return cls(str(version), {str(name): NameCells(part) for name, part in zip(names, parts, strict=False)})
