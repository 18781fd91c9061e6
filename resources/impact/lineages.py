"""What a campaign makes from what, what was found to be affected of it, and how that is told."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from b2cal_core.campaigns import Campaign
from b2cal_core.impact import BASE, CDST, AffectedCells
from resources.impact.cells import COLUMNS, Cells
from resources.impact.run_ranges import Numbers, RunRanges

SHOWN = 100
"""So many ranges of runs are given for a name at most."""
_LABELS = {BASE: "base tags", CDST: "cDST"}


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a campaign makes from what.

    Attributes:
        needs: step to the steps it reads from, as ``steps_of`` gives it.
        names: step to the payloads it makes.
        tags: where its payloads are: the target tag, and staging tags of what is not published.
        files: its cDST files.
    """

    campaign: Campaign
    needs: Mapping[str, tuple[str, ...]]
    names: Mapping[str, tuple[str, ...]]
    tags: tuple[str, ...]
    files: Cells

    def maker(self, name: str) -> str | None:
        """The step that makes the payload."""
        return next((step for step, names in self.names.items() if name in names), None)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What is affected in a campaign.

    Attributes:
        runs: step to the runs in which what it made is affected.
        touched: step to (name, tag) to the cells that were made from something affected.
        maker: the step and the name that change to begin with, if they do so in this campaign.
        changed: tag to the cells of that name.
    """

    runs: Mapping[str, RunRanges] = field(default_factory=dict)
    touched: Mapping[str, Mapping[tuple[str, str], Numbers]] = field(default_factory=dict)
    maker: tuple[str, str] | None = None
    changed: Mapping[str, Numbers] = field(default_factory=dict)

    def touched_revisions(self) -> dict[str, Numbers]:
        """Name to the revisions of payloads that were made from something affected."""
        steps = (parts for step, parts in self.touched.items() if step != CDST)
        return together({name: rows[:, 4]} for parts in steps for (name, _), rows in parts.items())

    def changed_revisions(self) -> dict[str, Numbers]:
        """Name to its revisions that change to begin with."""
        return together({self.maker[1]: rows[:, 4]} for rows in self.changed.values()) if self.maker else {}


def together(parts: Iterable[Mapping[str, Numbers]]) -> dict[str, Numbers]:
    """Name to all revisions of the parts, in order."""
    found: dict[str, list[Numbers]] = defaultdict(list)
    for part in parts:
        for name, revisions in part.items():
            found[name].append(revisions)
    return {name: np.unique(np.concatenate(several)) for name, several in found.items()}


def lines_of(lineage: Lineage, found: Found) -> Iterator[AffectedCells]:
    """What is affected in a campaign, a line per name."""
    held: dict[tuple[str, str], dict[str, Numbers]] = defaultdict(dict)
    for step, parts in found.touched.items():
        for (name, tag), rows in parts.items():
            held[step, name][tag] = rows
    if found.maker is not None and found.changed:
        tables = held[found.maker]
        for tag, rows in found.changed.items():
            tables[tag] = np.unique(np.concatenate([tables[tag], rows]), axis=0) if tag in tables else rows
    for (step, name), tables in held.items():
        through = tuple(_LABELS.get(needed, needed) for needed in lineage.needs[step] if needed in found.runs)
        yield _line(lineage, name, tables, through)


def _line(lineage: Lineage, name: str, held: Mapping[str, Numbers], through: tuple[str, ...]) -> AffectedCells:
    runs = valid_runs(held.values())
    return AffectedCells(
        lineage.campaign.name,
        name,
        cells=sum(len(rows) for rows in held.values()),
        ranges=len(runs.starts),
        where=runs.first(SHOWN),
        tags=tuple(sorted(filter(None, held))),
        through=through,
    )


def valid_runs(tables: Iterable[Numbers]) -> RunRanges:
    """All runs that the cells of these tables are valid for."""
    rows = np.concatenate([np.empty((0, COLUMNS), dtype=np.int64), *tables])
    return RunRanges(rows[:, 0], rows[:, 1])
