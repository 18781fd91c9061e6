"""Plans for OPEN tags: merges, gaps filled, ends opened or set, local calibrations copied in. Nothing is changed."""

from collections.abc import Iterable, Sequence

from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.publishing import TagIov, UpdatePlan, applied
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_edits import close_at, copy_clipped, fill_gaps, merge_into, open_last
from b2cal_core.tag_reports import coverage
from resources.conditions.planning import Planner
from resources.conditions.tag_reading import TagReading, read_tag


class EditPlanner(Planner):
    """Makes plans for OPEN tags; those of ``b2cal_core.tag_edits``, with what they raise.

    All raise ``ConfigurationError`` when there is no such tag, and ``ConflictError`` when the target is not OPEN or a
    tag was changed meanwhile.
    """

    def plan_merge(self, target: str, sources: Sequence[str], *, within: IoV | None = None) -> PlanDocument:
        """Fill a tag, which should be empty, with what a chain of tags looks like as one.

        Args:
            target: the tag that is filled.
            sources: the FIRST has the highest priority, as in the Belle II tools.
            within: clip to these runs, ends included.
        """
        chain = [read_tag(self._conditions, source) for source in sources]
        reading = self._open(target)
        plan = merge_into(reading.links, [source.links for source in chain], within=within)
        return self.plan_edit(reading, plan, purpose=f"merge {', '.join(sources)}{_in(within)}", sources=chain)

    def plan_gap_fill(
        self, target: str, within: IoV, *, names: Iterable[str] | None = None, runs: Iterable[ExpRun] | None = None
    ) -> PlanDocument:
        """Fill the gaps inside ``within`` with the payload before; the purpose says what stays without one."""
        chosen = None if names is None else frozenset(names)
        taken = None if runs is None else frozenset(runs)
        reading = self._open(target)
        plan = fill_gaps(reading.links, within, names=chosen, runs=taken)
        purpose = f"fill gaps{_in(within)}"
        if left := _left(applied(reading.links, plan), within, names=chosen, runs=taken):
            purpose += f"; nothing comes before, so these stay: {', '.join(left)}"
        return self.plan_edit(reading, plan, purpose=purpose)

    def plan_open_last(self, target: str, *, names: Iterable[str] | None = None) -> PlanDocument:
        """Make the last payload of each name valid for ever."""
        reading = self._open(target)
        return self.plan_edit(reading, open_last(reading.links, names=names), purpose="open the last IoV of each name")

    def plan_close(self, target: str, stop: ExpRun, *, names: Iterable[str]) -> PlanDocument:
        """Let names end before ``stop``."""
        chosen = sorted(set(names))
        reading = self._open(target)
        plan = close_at(reading.links, stop, names=chosen)
        return self.plan_edit(reading, plan, purpose=f"end {', '.join(chosen)} before {stop}")

    def plan_local_copy(
        self, target: str, source: str, *, within: IoV, names: Iterable[str] | None = None
    ) -> PlanDocument:
        """Bring a subsystem's local calibrations into the tag, for a bucket's runs only."""
        local = read_tag(self._conditions, source)
        reading = self._open(target)
        plan = copy_clipped(reading.links, local.links, within=within, names=names)
        return self.plan_edit(reading, plan, purpose=f"copy {source}{_in(within)}", sources=[local])

    def plan_edit(
        self, reading: TagReading, plan: UpdatePlan, *, purpose: str, sources: Sequence[TagReading] = ()
    ) -> PlanDocument:
        """The document of any change to an OPEN tag that was read."""
        return self._fresh(self._document(PlanKind.edit, reading, plan=plan, purpose=purpose, sources=sources))

    def _open(self, target: str) -> TagReading:
        reading = read_tag(self._conditions, target)
        reading.require(TagState.OPEN, "an edit")
        return reading


def _in(within: IoV | None) -> str:
    return "" if within is None else f" in {within}"


def _left(
    links: Iterable[TagIov], within: IoV, *, names: Iterable[str] | None, runs: frozenset[ExpRun] | None
) -> list[str]:
    """The gaps of each name that matter and are not filled."""
    reports = coverage(links, within, names=names, runs=runs or ())
    return [
        f"{report.name} in {' and '.join(map(str, report.gaps))}"
        for report in reports
        if (report.gaps if runs is None else report.missing_runs)
    ]
