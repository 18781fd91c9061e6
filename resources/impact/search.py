"""The answer to "what is affected when this constant changes": over campaigns, their tags and files, and samples.

A payload counts as affected when something it was made from is affected in a run it was made from; then it is affected
in all runs it is valid for. Payloads are known by name and revision, so that a tag which took them over from another
holds the same ones.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from b2cal_core.errors import ConfigurationError
from b2cal_core.impact import BASE, CDST, AffectedSample, Impact, Sample, spread
from b2cal_core.ranges import IoV
from resources.conditions.schema import edges
from resources.impact.cdst_cells import NAME as CDST_NAME
from resources.impact.cells import Cells, NameCells
from resources.impact.lineages import Found, Lineage, lines_of, together, valid_runs
from resources.impact.run_ranges import Numbers, RunRanges


@dataclass(frozen=True, slots=True)
class _Change:
    """A payload that is another in some runs, one range.

    Attributes:
        makers: campaign to the step that makes it.
        bases: campaigns that are based on tags in which it changes; none when it is made by campaigns.
    """

    name: str
    runs: RunRanges
    makers: Mapping[str, str]
    bases: frozenset[str]


class ImpactSearch:
    """Questions about the campaigns and samples of an installation.

    Args:
        lineages: of the campaigns that are looked at.
        tag: the cells of a global tag.
        samples: that are looked at.
    """

    def __init__(self, lineages: Sequence[Lineage], tag: Callable[[str], Cells], samples: Sequence[Sample]) -> None:
        self._lineages = {lineage.campaign.name: lineage for lineage in lineages}
        self._tag, self._samples = tag, samples

    def ask(self, name: str, iov: IoV, *, campaign: str | None = None) -> Impact:
        """What is affected when the payload is another in these runs.

        Args:
            name: a payload that campaigns make changes where they made it; another one in the tags they are based on.
            iov: the runs in which it changes.
            campaign: only that of this campaign changes, whoever is affected then.

        Raises:
            ConfigurationError: no campaign makes a payload of that name, and no base tag or tag of a sample holds it.
        """
        chosen = [it for of, it in self._lineages.items() if campaign in {None, of}]
        makers = {it.campaign.name: step for it in chosen if (step := it.maker(name)) is not None}
        bases = {it.campaign.name for it in chosen if not makers and self._holds(it.campaign.base_tags, name)}
        if not makers and not bases and (campaign or not self._holds([s.tag for s in self._samples], name)):
            who = f"no campaign called {campaign}" if campaign else "no campaign"
            raise ConfigurationError(
                f"{who} makes a payload {name!r} or is based on a tag that holds one; b2cal catalogue show lists what"
                " calibrations make, b2cal cdb iovs what a tag holds"
            )
        change = _Change(name, RunRanges.of([iov]), makers, frozenset(bases))
        found = self._found(change)
        lines = [line for of, it in found.items() for line in lines_of(self._lineages[of], it)]
        return Impact(
            payloads=tuple(line for line in lines if line.name != CDST_NAME),
            cdst=tuple(line for line in lines if line.name == CDST_NAME),
            samples=self._affected_samples(change, list(found.values())),
        )

    def _holds(self, tags: Iterable[str], name: str) -> bool:
        return any(name in self._tag(tag).by_name for tag in dict.fromkeys(tags))

    def _found(self, change: _Change) -> dict[str, Found]:
        """Campaign to what is affected in it; campaigns based on each other are looked at until nothing is added."""
        found = dict.fromkeys(self._lineages, Found())
        waiting = dict.fromkeys(self._lineages)
        while waiting:
            campaign = next(iter(waiting))
            del waiting[campaign]
            others = [it for other, it in found.items() if other != campaign and it.runs]
            now = self._within(self._lineages[campaign], change, others)
            if now.runs != found[campaign].runs:
                found[campaign] = now
                waiting |= {other: None for other in self._lineages if other != campaign}
        return found

    def _within(self, lineage: Lineage, change: _Change, others: Sequence[Found]) -> Found:
        name, touched = lineage.campaign.name, dict[str, dict[tuple[str, str], Numbers]]()
        start: dict[str, RunRanges] = {}
        maker = change.makers.get(name)
        changed: dict[str, Numbers] = {}
        if maker is not None:
            start[maker] = change.runs
            held = {tag: self._tag(tag).of(change.name) for tag in lineage.tags}
            rows = {tag: cells.rows[change.runs.touches(*cells.valid)] for tag, cells in held.items()}
            changed = {tag: some for tag, some in rows.items() if len(some)}
        base = self._changed_base(lineage.campaign.base_tags, change, others)
        if name in change.bases:
            base = change.runs if base is None else base | change.runs
        if base is not None:
            start[BASE] = base

        def hit(step: str, read: RunRanges) -> RunRanges:
            touched[step] = self._touched(lineage, step, read)
            return valid_runs(touched[step].values())

        runs = spread(start, lineage.needs, hit)
        return Found(runs, touched, (maker, change.name) if maker else None, changed)

    def _touched(self, lineage: Lineage, step: str, read: RunRanges) -> dict[tuple[str, str], Numbers]:
        """(name, tag) to the cells of a step that were made from these runs."""
        held: Iterable[tuple[tuple[str, str], NameCells]]
        if step == CDST:
            held = [((CDST_NAME, ""), lineage.files.of(CDST_NAME))]
        else:
            names = lineage.names.get(step, ())
            held = [((name, tag), self._tag(tag).of(name)) for tag in lineage.tags for name in names]
        touched = ((key, cells.rows[read.touches(*cells.source)]) for key, cells in held)
        return {key: rows for key, rows in touched if len(rows)}

    def _changed_base(self, tags: Sequence[str], change: _Change, others: Sequence[Found]) -> RunRanges | None:
        """In which runs base tags hold payloads of other campaigns that are changed or affected."""
        parts = [runs for tag in tags if others for runs in self._affected_in(tag, change, others).values()]
        together: RunRanges | None = None
        for part in parts:
            together = part if together is None else together | part
        return together

    def _affected_in(self, tag: str, change: _Change, found: Sequence[Found]) -> dict[str, RunRanges]:
        """Name to the runs in which a tag holds payloads that were found to be changed or affected."""
        runs: dict[str, RunRanges] = {}
        for name, affected in together(one.touched_revisions() for one in found).items():
            rows = self._tag(tag).of(name).rows
            rows = rows[np.isin(rows[:, 4], affected)]
            runs[name] = RunRanges(rows[:, 0], rows[:, 1])
        for name, changed in together(one.changed_revisions() for one in found).items():
            rows = self._tag(tag).of(name).rows
            rows = rows[np.isin(rows[:, 4], changed)]
            ((first,), (after,)) = change.runs.starts, change.runs.stops  # of these only the runs asked for
            starts, stops = np.maximum(rows[:, 0], first), np.minimum(rows[:, 1], after)
            inside = RunRanges(starts[starts < stops], stops[starts < stops])
            runs[name] = runs[name] | inside if name in runs else inside
        return {name: some for name, some in runs.items() if some}

    def _affected_samples(self, change: _Change, found: Sequence[Found]) -> tuple[AffectedSample, ...]:
        names: dict[str, set[str]] = defaultdict(set)
        by_tag: dict[str, list[Sample]] = defaultdict(list)
        for sample in self._samples:
            by_tag[sample.tag].append(sample)
        for tag, samples in by_tag.items():
            affected = self._affected_in(tag, change, found)
            if not change.makers and change.name in self._tag(tag).by_name:
                affected[change.name] = change.runs
            ends = np.array([edges(sample.iov) for sample in samples], dtype=np.int64)
            for name, runs in affected.items():
                for index in np.flatnonzero(runs.touches(ends[:, 0], ends[:, 1])):
                    names[samples[index].name].add(name)
        return tuple(AffectedSample(s, tuple(sorted(names[s.name]))) for s in self._samples if s.name in names)
