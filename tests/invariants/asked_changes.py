"""Three changes that a user asks for, to be tried while something fails."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from grid import ALWAYS, Line
from worlds import RELEASE, Case

from b2cal_core.payloads import TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun, IoV

BEFORE: list[Line] = [("p", "1", IoV(0, 0, 0, 5))]


@dataclass(frozen=True)
class Job:
    """A change: what it needs, and the change."""

    name: str
    ready: Callable[[Case], Any]
    work: Callable[[ConditionsDB, Case, Any], object]


def _ready_update(case: Case) -> Any:
    target = case.make([("p", "1", ALWAYS)], TagState.RUNNING)
    staging = case.make([("p", "2", ALWAYS)], TagState.VALIDATED, vouched=True)
    return case.update(target, staging, ExpRun(1, 0), UpdateMode.strict)


JOBS = [
    Job(
        "replace",
        lambda case: case.make(BEFORE),
        lambda db, case, tag: db.replace_iovs(tag, [case.name("p")], case.local([("p", f"new {case.number}", ALWAYS)])),
    ),
    Job("running update", _ready_update, lambda db, case, plan: db.apply(plan, RELEASE)),
    Job(
        "state",
        lambda case: case.make(BEFORE),
        lambda db, case, tag: db.set_state(tag, expected=TagState.OPEN, new=TagState.TESTING),
    ),
]
jobs = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
