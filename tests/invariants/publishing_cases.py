"""A RUNNING tag and what is to be published into it, as several invariants are tried with."""

from dataclasses import replace

from grid import ALWAYS, Line
from worlds import Case

from b2cal_core.payloads import TagState
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV

FIRST = ExpRun(1, 0)
BEFORE: list[Line] = [("p", "1", ALWAYS), ("q", "1", IoV(0, 0, 0, 2))]
STAGED: list[Line] = [("p", "2", IoV(1, 0, 2, 1)), ("p", "3", IoV(2, 2, -1, -1)), ("q", "2", ALWAYS)]


def ready(case: Case, before: list[Line] = BEFORE, staged: list[Line] = STAGED) -> tuple[str, str]:
    """A RUNNING tag and a staging tag that fits it."""
    return case.make(before, TagState.RUNNING), case.make(staged, TagState.VALIDATED, vouched=True)


def bare(links: tuple[TagIov, ...]) -> set[TagIov]:
    """The links without the database's ids."""
    return {replace(link, id=None) for link in links}
