"""Random sequences of changes, compared run by run with a model that is a dictionary."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

from contracts.conditions_contract import RELEASE, document_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kept_database import KeptDatabase

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import ConflictError
from b2cal_core.payloads import TRANSITIONS, LocalPayload, TagState, broken_link
from b2cal_core.plans import PlanKind, fingerprint_of
from b2cal_core.publishing import Operation, TagIov, merge_tags
from b2cal_core.ranges import ExpRun, IoV

EXPS = RUNS = range(3)
# Every run that IoVs of the grid can tell apart: those of the grid, the rest of each experiment, all later experiments.
POINTS = [ExpRun(e, r) for e in EXPS for r in (*RUNS, 99)] + [ExpRun(50, 0)]
TAGS = ("a", "b", "c")
NAMES = ("p", "q")
CONTENTS = ("1", "2", "3", "4")

grid_runs = st.builds(ExpRun, st.sampled_from(EXPS), st.sampled_from(RUNS))


@st.composite
def grid_iovs(draw: st.DrawFn) -> IoV:
    first = draw(grid_runs)
    ends = [ExpRun(e, r) for e in EXPS for r in RUNS if ExpRun(e, r) >= first]
    closed = st.sampled_from(ends).map(lambda end: IoV(*first, *end))
    rest = st.sampled_from(EXPS).filter(lambda e: e >= first.exp).map(lambda e: IoV(*first, e, -1))
    return draw(st.one_of(closed, rest, st.just(IoV(*first, -1, -1)), st.just(IoV(0, 0, -1, -1))))


Answers = dict[str, dict[ExpRun, str]]
lines = st.lists(st.tuples(st.sampled_from(CONTENTS), grid_iovs()), max_size=3)


class ModelledConditions(RuleBasedStateMachine):
    """The database beside its model: tag to state, tag to name to run to content, and the latter by line of the log."""

    def __init__(self, new_database: Callable[[Path], KeptDatabase]) -> None:
        super().__init__()
        self.new_database = new_database

    @initialize()
    def open_empty(self) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.root = Path(self.scratch.name)
        self.conditions = self.new_database(self.root).open()
        self.files = {text: self.root / f"{text}.root" for text in CONTENTS}
        for text, file in self.files.items():
            file.write_text(text)
        self.states: dict[str, TagState] = {}
        self.answers: dict[str, Answers] = {}
        for tag in TAGS:
            self.conditions.create_tag(tag)
            self.states[tag] = TagState.OPEN
            self.answers[tag] = {name: {} for name in NAMES}
        self.past: dict[int, dict[str, Answers]] = {}

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            assert broken_link(self.conditions.audit()) is None
            self.conditions.engine.dispose()
            self.scratch.cleanup()

    @rule(tag=st.sampled_from(TAGS), name=st.sampled_from(NAMES), chosen=lines)
    def replace(self, tag: str, name: str, chosen: list[tuple[str, IoV]]) -> None:
        iovs = [iov for _, iov in chosen]
        overlap = any(a.overlaps(b) for i, a in enumerate(iovs) for b in iovs[:i])
        before = self.conditions.fingerprint(tag)
        payloads = [LocalPayload(name, self.files[text], iov) for text, iov in chosen]
        try:
            self.conditions.replace_iovs(tag, [name], payloads)
        except ConflictError:
            assert overlap or self.states[tag] is not TagState.OPEN
            assert self.conditions.fingerprint(tag) == before
        else:
            assert not overlap
            assert self.states[tag] is TagState.OPEN
            self.answers[tag][name] = {run: text for text, iov in chosen for run in POINTS if iov.contains(run)}

    @rule(tag=st.sampled_from(TAGS), source=st.sampled_from(TAGS), where=grid_iovs())
    def link_what_another_tag_has(self, tag: str, source: str, where: IoV) -> None:
        found = [TagIov(link.name, link.revision, iov) for link in self.links(source) if (iov := link.iov & where)]
        overlap = any(
            a.name == b.name and a.iov.overlaps(b.iov) and (a.revision, a.iov) != (b.revision, b.iov)
            for a in found
            for b in self.links(tag)
        )
        before = self.conditions.fingerprint(tag)
        try:
            self.conditions.add_iovs(tag, found)
        except ConflictError:
            assert overlap or self.states[tag] is not TagState.OPEN
            assert self.conditions.fingerprint(tag) == before
        else:
            assert not overlap
            for name in NAMES:
                brought = {run: text for run, text in self.answers[source][name].items() if where.contains(run)}
                self.answers[tag][name] = self.answers[tag][name] | brought

    @rule(tag=st.sampled_from(TAGS), index=st.integers(0, 5), where=grid_iovs())
    def edit_by_a_plan(self, tag: str, index: int, where: IoV) -> None:
        links = self.links(tag)
        if not links:
            return
        link = links[index % len(links)]
        if link.iov == where:
            return
        others = [other.iov for other in links if other.name == link.name and other != link]
        operations = [
            Operation("drop", link.name, link.revision, link.iov),
            Operation("create", link.name, link.revision, where),
        ]
        plan = document_of(self.conditions, tag, operations, kind=PlanKind.edit)
        try:
            self.conditions.apply(plan, RELEASE)
        except ConflictError:
            assert self.states[tag] is not TagState.OPEN or any(iov.overlaps(where) for iov in others)
            assert self.conditions.fingerprint(tag) == plan.fingerprint
        else:
            assert self.states[tag] is TagState.OPEN
            assert self.conditions.fingerprint(tag) == plan.predicted
            text, answers = self.text(link), self.answers[tag][link.name]
            kept = {run: other for run, other in answers.items() if not link.iov.contains(run)}
            self.answers[tag][link.name] = kept | {run: text for run in POINTS if where.contains(run)}

    @rule(tag=st.sampled_from(TAGS), new=st.sampled_from(TagState))
    def change_state(self, tag: str, new: TagState) -> None:
        try:
            self.conditions.set_state(tag, expected=self.states[tag], new=new)
        except ConflictError:
            assert new not in TRANSITIONS[self.states[tag]]
        else:
            assert new in TRANSITIONS[self.states[tag]]
            self.states[tag] = new

    @rule(chain=st.lists(st.sampled_from(TAGS), min_size=1, max_size=3), run=st.sampled_from(POINTS))
    def look_up(self, chain: list[str], run: ExpRun) -> None:
        if any(self.states[tag] is TagState.INVALID for tag in chain):
            return
        expected = {
            name: (found[name][run], tag)
            for tag in chain
            if (found := self.answers[tag])
            for name in NAMES
            if run in found[name]
        }
        answers = self.conditions.resolve(chain, run)
        assert {n: (self.conditions.payload_file(r.payload).read_text(), r.tag) for n, r in answers.items()} == expected
        merged = merge_tags([self.conditions.list_iovs(tag) for tag in reversed(chain)])
        one_tag = {link.name: link.revision for link in merged if link.iov.contains(run)}
        assert one_tag == {name: found.payload.revision for name, found in answers.items()}

    @rule(chain=st.lists(st.sampled_from(TAGS), min_size=1, max_size=2), within=grid_iovs())
    def export(self, chain: list[str], within: IoV) -> None:
        if any(self.states[tag] is TagState.INVALID for tag in chain):
            return
        local = LocalDatabase(self.conditions.export(chain, self.root / "out", within=within))
        for name in NAMES:
            for run in POINTS:
                found = local.find(name, run)
                merged = {at: text for tag in chain for at, text in self.answers[tag][name].items()}
                expected = merged.get(run) if within.contains(run) else None
                assert (found.file.read_text() if found else None) == expected

    @precondition(lambda self: self.past)
    @rule(index=st.integers(0, 50), tag=st.sampled_from(TAGS), run=st.sampled_from(POINTS))
    def look_back(self, index: int, tag: str, run: ExpRun) -> None:
        line, answers = list(self.past.items())[index % len(self.past)]
        links = self.conditions.list_iovs(tag, as_of=line)
        for name in NAMES:
            assert self.answers_of(links, name) == answers[tag][name]
        if self.states[tag] is not TagState.INVALID:
            found = self.conditions.resolve([tag], run, as_of=line)
            expected = {name: found[run] for name, found in answers[tag].items() if run in found}
            assert {n: self.conditions.payload_file(r.payload).read_text() for n, r in found.items()} == expected

    @invariant()
    def every_run_has_the_answer_of_the_model(self) -> None:
        for tag, answers in self.answers.items():
            links = self.links(tag)
            for name in NAMES:
                mine = [link for link in links if link.name == name]
                assert not any(a.iov.overlaps(b.iov) for i, a in enumerate(mine) for b in mine[:i])
                assert self.answers_of(links, name) == answers[name]
            found = self.conditions.get_tag(tag)
            assert found is not None
            assert found.state is self.states[tag]
            assert self.conditions.fingerprint(tag) == fingerprint_of(found.state, links)

    @invariant()
    def remember(self) -> None:
        self.past[self.conditions.audit()[-1].id] = copy.deepcopy(self.answers)

    def links(self, tag: str) -> tuple[TagIov, ...]:
        return self.conditions.list_iovs(tag)

    def answers_of(self, links: tuple[TagIov, ...], name: str) -> dict[ExpRun, str]:
        mine = {link: self.text(link) for link in links if link.name == name}
        return {run: text for link, text in mine.items() for run in POINTS if link.iov.contains(run)}

    def text(self, link: TagIov) -> str:
        payload = self.conditions.payload(link.name, link.revision)
        assert payload is not None
        return self.conditions.payload_file(payload).read_text()


def test_random_changes_leave_every_run_with_the_answer_of_the_model(
    new_database: Callable[[Path], KeptDatabase],
) -> None:
    run_state_machine_as_test(
        lambda: ModelledConditions(new_database),
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
