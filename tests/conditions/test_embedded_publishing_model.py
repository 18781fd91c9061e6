"""Random publishes into random running tags, compared run by run with what the rules say in words."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from contracts.conditions_contract import RELEASE, update_of, vouch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from kept_database import KeptDatabase

from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.plans import fingerprint_of
from b2cal_core.publishing import TagIov, UpdateMode, UpdateRefused, applied
from b2cal_core.ranges import ExpRun, IoV

NAMES, CONTENTS = ("p", "q", "r"), ("1", "2", "3")
RUNS = (0, 1, 2, 99)  # 99 stands for the rest of an experiment
POINTS = [ExpRun(exp, run) for exp in range(4) for run in RUNS] + [ExpRun(50, 0)]
STARTS = [ExpRun(exp, run) for exp in range(4) for run in (0, 1, 2)]

Lines = list[tuple[str, str, IoV]]
Answers = dict[str, dict[ExpRun, str]]


@st.composite
def contiguous(draw: st.DrawFn, starts: Sequence[ExpRun], first: ExpRun | None = None) -> list[tuple[str, IoV]]:
    """One name's payloads without gap, the last one open or closed."""
    cuts = draw(st.lists(st.sampled_from(starts), min_size=1, max_size=3, unique=True).map(sorted))
    if first is not None:
        cuts = [first, *cuts]
    closed = [IoV.of_edges((a.exp, a.run), (b.exp, b.run)) for a, b in pairwise(cuts)]
    after = [start for start in starts if start > cuts[-1]]
    ends = [IoV(*cuts[-1], -1, -1), *(IoV.of_edges((*cuts[-1],), (end.exp, end.run)) for end in after)]
    return [(draw(st.sampled_from(CONTENTS)), iov) for iov in [*closed, draw(st.sampled_from(ends))]]


@st.composite
def publishes(draw: st.DrawFn) -> tuple[Lines, Lines, ExpRun, UpdateMode]:
    """A running tag, a staging tag, the first run and the mode; few of them break a rule."""
    valid_from = draw(st.sampled_from(STARTS[4:]))
    past = [start for start in STARTS if start < valid_from]
    future = [start for start in STARTS if start >= valid_from]
    mode = draw(st.sampled_from(UpdateMode))
    running, staging = [], []
    for name in NAMES:
        if draw(st.booleans()):
            running += [(name, text, iov) for text, iov in draw(contiguous(past))]
        kind = draw(st.sampled_from(["absent", "simple", "from the beginning", "from the first run"]))
        if kind == "simple":
            staging += [(name, draw(st.sampled_from(CONTENTS)), IoV(0, 0, -1, -1))]
        elif kind != "absent":
            beginning = ExpRun(0, 0) if kind == "from the beginning" else None
            staging += [(name, text, iov) for text, iov in draw(contiguous(future, beginning))]
    return running, staging, valid_from, mode


def answers_of(lines: Lines) -> Answers:
    return {
        name: {run: text for other, text, iov in lines if other == name for run in POINTS if iov.contains(run)}
        for name in NAMES
    }


def expected_after(running: Answers, staging: Answers, valid_from: ExpRun, mode: UpdateMode) -> Answers:
    expected = {name: dict(found) for name, found in running.items()}
    for name in NAMES:
        staged = dict(staging[name])
        if staged and mode is UpdateMode.fix_closed:
            last = max(staged)
            staged |= {run: staged[last] for run in POINTS if run > last}
        if staged or mode is UpdateMode.full_replacement:
            start = max(valid_from, min(staged, default=valid_from))
            kept = {run: text for run, text in expected[name].items() if run < start}
            expected[name] = kept | {run: text for run, text in staged.items() if run >= start}
    return expected


class Published:
    """A database in which every example gets tags of its own."""

    def __init__(self, database: KeptDatabase) -> None:
        self.conditions = database.open()
        self.files = {text: database.root / text for text in CONTENTS}
        for text, file in self.files.items():
            file.write_text(text)
        self.made = 0

    def tag(self, lines: Lines, *states: TagState) -> str:
        self.made += 1
        tag = f"tag{self.made}"
        self.conditions.create_tag(tag)
        self.conditions.replace_iovs(tag, NAMES, [LocalPayload(n, self.files[text], iov) for n, text, iov in lines])
        for expected, new in zip((TagState.OPEN, *states), states, strict=False):
            self.conditions.set_state(tag, expected=expected, new=new)
        return tag

    def answers(self, tag: str) -> Answers:
        """By look-up, run by run."""
        found: Answers = {name: {} for name in NAMES}
        for run in POINTS:
            for name, one in self.conditions.resolve([tag], run).items():
                found[name][run] = self.conditions.payload_file(one.payload).read_text()
        return found


@pytest.fixture(scope="module", params=["SQLite", "MariaDB"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("published")
    url = None if request.param == "SQLite" else request.getfixturevalue("mariadb").new_database()
    return Published(KeptDatabase(root, url))


@given(case=publishes())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_publish_gives_every_run_what_the_rules_say_and_the_past_what_it_had(
    published: Published, case: tuple[Lines, Lines, ExpRun, UpdateMode]
) -> None:
    running, staging, valid_from, mode = case
    target = published.tag(running, TagState.RUNNING)
    source = published.tag(staging, TagState.TESTING, TagState.VALIDATED)
    conditions, before = published.conditions, published.conditions.list_iovs(target)
    vouch(conditions, source)
    try:
        plan = update_of(conditions, target, source, valid_from, mode)
    except UpdateRefused:
        event("refused")
        assert published.answers(target) == answers_of(running)
        return
    event(f"published {mode}" if plan.plan.operations else "nothing to do")
    line = conditions.audit(target)[-1].id
    changed = conditions.apply(plan, RELEASE)
    after = conditions.list_iovs(target)
    assert set(changed) <= set(after)
    assert {link for link in after if link not in before} <= set(changed)
    assert published.answers(target) == expected_after(answers_of(running), answers_of(staging), valid_from, mode)
    assert_only_appended(before, after, valid_from)
    assert conditions.fingerprint(target) == fingerprint_of(TagState.RUNNING, applied(before, plan.plan))
    assert conditions.fingerprint(target) == plan.predicted
    assert conditions.list_iovs(target, as_of=line) == before
    assert conditions.apply(plan, RELEASE) == changed
    assert conditions.list_iovs(target) == after


def assert_only_appended(before: Sequence[TagIov], after: Sequence[TagIov], valid_from: ExpRun) -> None:
    """Old links keep name, revision and start; new ones start at the first run or later; none overlap."""
    old = {link.id: link for link in before}
    for link in after:
        if link.id in old:
            was = old[link.id]
            assert (link.name, link.revision, link.iov.start) == (was.name, was.revision, was.iov.start)
            assert link.iov == was.iov or was.iov.is_open
        else:
            assert link.iov.start >= (valid_from.exp, valid_from.run)
    assert {link.id for link in after} >= set(old)
    for i, link in enumerate(after):
        assert not any(other.name == link.name and other.iov.overlaps(link.iov) for other in after[:i])
