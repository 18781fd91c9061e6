"""Random sequences of changes on each kind of database, and on all three side by side, beside a model of dictionaries.

The model knows of every tag its state and what every run of the grid is answered; of every payload name its contents in
the order of their revisions; and what every tag answered after each line of the log.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from grid import ALWAYS, EDGES, NAMES, TEXTS, Answers, Line, answers_of, disjoint, iovs, points, published, sequences
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from worlds import RELEASE, Case, World, attempt

from b2cal_core.errors import CalibrationError, ConflictError
from b2cal_core.payloads import TRANSITIONS, Lease, TagState
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdateRefused, next_possible_run
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_edits import merge_into

LATE = "4"
"""A content that is not there from the beginning."""
lines = st.one_of(disjoint(), disjoint(), st.lists(st.tuples(st.sampled_from(TEXTS), iovs()), max_size=2))
numbers = st.integers(0, 23)
names, texts = st.sampled_from(NAMES), st.sampled_from([*TEXTS, LATE])


@dataclass
class Side:
    """One world in the sequence, with the names that stand for the model's."""

    case: Case
    tags: dict[str, str] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.case.world

    def links(self, tag: str) -> set[tuple[str, int, str]]:
        """Short name, revision and IoV of what a tag has."""
        listed = self.world.conditions.list_iovs(self.tags[tag])
        return {(self.case.short(link.name), link.revision, str(link.iov)) for link in listed}


class Sequences(RuleBasedStateMachine):
    """Every rule is carried out in each world; all must answer alike, and as the model says."""

    def __init__(self, worlds: Sequence[World]) -> None:
        super().__init__()
        self.sides = [Side(world.case()) for world in worlds]
        self.states: dict[str, TagState] = {}
        self.links: dict[str, set[tuple[str, str, IoV]]] = {}
        self.revisions: dict[str, list[str]] = {name: [] for name in NAMES}
        self.leased: set[str] = set()
        self.past: list[tuple[str, list[int], Answers]] = []
        self.noted: dict[str, set[tuple[str, str, IoV]]] = {}
        self.stale: dict[str, list[PlanDocument]] = {}

    @initialize(past=st.dictionaries(names, disjoint([(0, 0), (0, 2), (1, 1)])))
    def begin(self, past: dict[str, list[tuple[str, IoV]]]) -> None:
        """A RUNNING tag that has a past, and two OPEN ones."""
        for name in NAMES:
            for text in TEXTS:
                self.upload(name, text)
        for _ in range(3):
            self.create()
        for name, chosen in past.items():
            self.replace_in("tag0", name, chosen)
        self.bring("tag0", TagState.RUNNING, with_lease=False)

    # What is done

    @rule()
    def create(self) -> None:
        tag = f"tag{len(self.states)}"
        for side in self.sides:
            side.tags[tag] = side.case.tag()
            side.world.conditions.create_tag(side.tags[tag])
        self.states[tag], self.links[tag] = TagState.OPEN, set()
        self.all_refuse(lambda side: side.world.conditions.create_tag(side.tags[tag]), ConflictError)

    @rule(name=names, text=texts)
    def upload(self, name: str, text: str) -> None:
        revision = self.register(name, text)
        for side in self.sides:
            stored = side.world.conditions.put_payload(side.case.name(name), side.world.file(text))
            assert stored.revision == revision
            assert side.world.conditions.payload_file(stored).read_text() == text

    @rule(number=numbers, name=names, chosen=lines)
    def replace(self, number: int, name: str, chosen: list[tuple[str, IoV]]) -> None:
        self.replace_in(self.pick(number, TagState.OPEN), name, chosen)

    def replace_in(self, tag: str, name: str, chosen: list[tuple[str, IoV]]) -> None:
        """Replace what a tag has of a name."""
        overlap = overlapping([(name, text, iov) for text, iov in chosen])
        done = self.all_alike(
            lambda side: side.world.conditions.replace_iovs(*self.replacement(side, tag, name, chosen))
        )
        assert done is (not overlap and self.is_free(tag))
        if done:
            self.swap(tag, name, chosen)

    @rule(number=numbers, name=names, text=texts, iov=iovs())
    def add(self, number: int, name: str, text: str, iov: IoV) -> None:
        tag, link = self.pick(number, TagState.OPEN), (name, text, iov)
        known = text in self.revisions[name]
        overlap = overlapping({one for one in self.links[tag] if one[0] == name} | {link})
        revision = self.revisions[name].index(text) + 1 if known else 19
        done = self.all_alike(
            lambda side: side.world.conditions.add_iovs(side.tags[tag], [TagIov(side.case.name(name), revision, iov)])
        )
        assert done is (known and not overlap and self.is_free(tag))
        if done:
            self.links[tag].add(link)

    @rule(number=numbers, new=st.sampled_from(TagState), with_lease=st.booleans())
    def change_state(self, number: int, new: TagState, *, with_lease: bool) -> None:
        self.bring(self.pick(number), new, with_lease=with_lease)

    @rule(number=numbers, with_lease=st.booleans())
    def advance(self, number: int, *, with_lease: bool) -> None:
        """A change of state that is allowed."""
        tag = self.pick(number, TagState.TESTING)
        if allowed := sorted(TRANSITIONS[self.states[tag]]):
            self.bring(tag, allowed[number % len(allowed)], with_lease=with_lease)

    def bring(self, tag: str, new: TagState, *, with_lease: bool) -> None:
        """Ask for a state."""
        now = self.states[tag]
        done = self.all_alike(
            lambda side: side.world.conditions.set_state(
                side.tags[tag], expected=now, new=new, lease=side.leases.get(tag) if with_lease else None
            )
        )
        assert done is (new in TRANSITIONS[now] and (with_lease or tag not in self.leased))
        if done:
            self.states[tag] = new

    @rule(number=numbers, chain=st.lists(numbers, min_size=1, max_size=2), within=iovs())
    def merge(self, number: int, chain: list[int], within: IoV) -> None:
        """Fill an OPEN tag with what a chain answers, the first tag having the highest priority."""
        into, sources = self.pick(number, TagState.OPEN), [self.pick(one) for one in chain]
        if self.states[into] is not TagState.OPEN:
            return
        merged: Answers = {}
        for tag in reversed(sources):
            for name, runs in answers_of(self.links[tag]).items():
                merged.setdefault(name, {}).update({run: text for run, text in runs.items() if within.contains(run)})
        present = answers_of(self.links[into])
        clash = any(
            present.get(name, {}).get(run, text) != text for name, runs in merged.items() for run, text in runs.items()
        )
        if self.all_alike(lambda side: self.merge_in(side, into, sources, within)):
            assert not clash
            assert self.is_free(into)
            self.read_links(into)
            expected = {name: present.get(name, {}) | merged.get(name, {}) for name in present.keys() | merged.keys()}
            assert answers_of(self.links[into]) == {name: runs for name, runs in expected.items() if runs}

    @rule(
        number=numbers,
        staged=st.dictionaries(names, disjoint(gaps=False), min_size=1),
        mode=st.sampled_from(UpdateMode),
        edge=st.sampled_from(EDGES),
        fit=st.sampled_from([True, True, False]),
        with_lease=st.booleans(),
    )
    def publish(
        self,
        number: int,
        staged: dict[str, list[tuple[str, IoV]]],
        mode: UpdateMode,
        edge: tuple[int, int],
        *,
        fit: bool,
        with_lease: bool,
    ) -> None:
        """A running update; most are made to fit the rules of their mode."""
        into = self.pick(number, TagState.RUNNING)
        if self.states[into] is not TagState.RUNNING:
            return
        first = ExpRun(*edge)
        if fit:
            first = max(first, next_possible_run(TagIov(name, 1, iov) for name, _, iov in self.links[into]))
            staged = {name: fitted(chosen, first, mode) for name, chosen in staged.items()}
        staging = [(name, text, iov) for name, chosen in staged.items() for text, iov in chosen]
        old, before = self.links[into], answers_of(self.links[into])
        for name, text, _ in staging:
            self.register(name, text)
        refused = self.all_alike_why(lambda side: self.update(side, into, staging, first, mode, with_lease=with_lease))
        if refused is not None:
            assert isinstance(refused, UpdateRefused) or (into in self.leased and not with_lease)
            return
        self.read_links(into)
        after = answers_of(self.links[into])
        assert after == published(before, answers_of(staging), first, mode)
        assert before_run(after, first) == before_run(before, first)
        for name, text, iov in self.links[into] - old:
            closed = any((name, text) == one[:2] and one[2].start == iov.start and one[2].is_open for one in old)
            assert closed or iov.start >= first.edge

    @rule(number=numbers)
    def take_lease(self, number: int) -> None:
        tag = self.pick(number)
        if tag in self.leased:
            return
        for side in self.sides:
            side.leases[tag] = side.world.conditions.lease(side.tags[tag], holder="carl", seconds=3600)
        self.leased.add(tag)
        self.all_refuse(
            lambda side: side.world.conditions.lease(side.tags[tag], holder="dora", seconds=60), ConflictError
        )

    @precondition(lambda self: self.leased)
    @rule(number=numbers)
    def end_lease(self, number: int) -> None:
        tag = sorted(self.leased)[number % len(self.leased)]
        for side in self.sides:
            side.world.conditions.end_lease(side.leases.pop(tag))
        self.leased.remove(tag)

    # What goes wrong

    @rule(number=numbers, name=names, chosen=disjoint(), point=st.integers(0, 30))
    def crash_and_retry(self, number: int, name: str, chosen: list[tuple[str, IoV]], point: int) -> None:
        """A client ends at any point of a change; whoever asks for the same again completes it."""
        tag = self.pick(number, TagState.OPEN)
        for side in self.sides:
            dying = side.world.dying(point)
            try:
                dying.replace_iovs(*self.replacement(side, tag, name, chosen))
            except (*side.world.death, CalibrationError):
                pass
            finally:
                side.world.revive()
            side.case.answers(side.tags[tag])
        self.replace_in(tag, name, chosen)

    @rule(number=numbers)
    def prepare_a_stale_plan(self, number: int) -> None:
        """A second writer plans to empty an OPEN tag."""
        tag = self.pick(number, TagState.OPEN)
        if self.states[tag] is TagState.OPEN and self.links[tag]:
            self.stale[tag] = [self.emptying(side, tag) for side in self.sides]

    @precondition(lambda self: self.stale)
    @rule(number=numbers)
    def apply_the_stale_plan(self, number: int) -> None:
        """The second writer is late: it wins only when nothing was changed since."""
        tag = sorted(self.stale)[number % len(self.stale)]
        plans = dict(zip(map(id, self.sides), self.stale.pop(tag), strict=True))
        fresh = all(plans[id(side)].fingerprint == side.world.truth.fingerprint(side.tags[tag]) for side in self.sides)
        done = self.all_alike(lambda side: side.world.conditions.apply(plans[id(side)], RELEASE))
        assert done is (fresh and self.is_free(tag))
        if done:
            self.links[tag] = set()

    # What is read

    @rule(wanted=st.lists(numbers, min_size=1, max_size=3), run=points)
    def look_up(self, wanted: list[int], run: ExpRun) -> None:
        chain = [self.pick(number) for number in wanted]
        if any(self.states[tag] is TagState.INVALID for tag in chain):
            self.all_refuse(
                lambda side: side.world.conditions.resolve([side.tags[tag] for tag in chain], run), ConflictError
            )
            return
        expected: dict[str, str] = {}
        for tag in chain:
            expected |= {name: runs[run] for name, runs in answers_of(self.links[tag]).items() if run in runs}
        for side in self.sides:
            assert side.case.look_up([side.tags[tag] for tag in chain], run) == expected

    @precondition(lambda self: self.past)
    @rule(number=numbers, run=points)
    def read_the_past(self, number: int, run: ExpRun) -> None:
        tag, ends, answers = self.past[number % len(self.past)]
        then = {name: runs[run] for name, runs in answers.items() if run in runs}
        for side, end in zip(self.sides, ends, strict=True):
            if side.world.conditions.capabilities.time_machine:
                assert side.case.answers(side.tags[tag], as_of=end) == answers
                if self.states[tag] is not TagState.INVALID:
                    assert side.case.look_up([side.tags[tag]], run, as_of=end) == then

    @invariant()
    def every_tag_is_what_the_model_says(self) -> None:
        for tag, state in self.states.items():
            expected = {(n, self.revisions[n].index(text) + 1, str(iov)) for n, text, iov in self.links[tag]}
            for side in self.sides:
                assert side.links(tag) == expected
                found = side.world.conditions.get_tag(side.tags[tag])
                assert found is not None
                assert found.state is state
            self.note_the_past(tag)

    # Inside

    def note_the_past(self, tag: str) -> None:
        """Remember what a tag answers after each line of the log that changed it, and read it so right away."""
        if self.noted.get(tag) == self.links[tag]:
            return
        self.noted[tag] = set(self.links[tag])
        ends = [side.world.truth.audit(side.tags[tag])[-1].id for side in self.sides]
        self.past.append((tag, ends, answers_of(self.links[tag])))
        for side, end in zip(self.sides, ends, strict=True):
            if side.world.conditions.capabilities.time_machine:
                assert side.case.answers(side.tags[tag], as_of=end) == answers_of(self.links[tag])

    def pick(self, number: int, state: TagState | None = None) -> str:
        """One of the tags; three times in four one in the state, if there is one."""
        fitting = [tag for tag, found in self.states.items() if found is state and number % 4]
        chosen = fitting or list(self.states)
        return chosen[number % len(chosen)]

    def register(self, name: str, text: str) -> int:
        """The revision a content has, a new one if it is new."""
        if text not in self.revisions[name]:
            self.revisions[name].append(text)
        return self.revisions[name].index(text) + 1

    def is_free(self, tag: str) -> bool:
        return self.states[tag] is TagState.OPEN and tag not in self.leased

    def replacement(self, side: Side, tag: str, name: str, chosen: list[tuple[str, IoV]]) -> tuple[Any, ...]:
        local = side.case.local((name, text, iov) for text, iov in chosen)
        return side.tags[tag], [side.case.name(name)], local

    def swap(self, tag: str, name: str, chosen: list[tuple[str, IoV]]) -> None:
        for text, _ in chosen:
            self.register(name, text)
        kept = {one for one in self.links[tag] if one[0] != name}
        self.links[tag] = kept | {(name, text, iov) for text, iov in chosen}

    def emptying(self, side: Side, tag: str) -> PlanDocument:
        links = side.world.truth.list_iovs(side.tags[tag])
        dropping = [Operation("drop", link.name, link.revision, link.iov, link.id) for link in links]
        return side.case.document(side.tags[tag], dropping, kind=PlanKind.edit)

    def merge_in(self, side: Side, target: str, chain: list[str], within: IoV) -> None:
        truth = side.world.truth
        contents = [truth.list_iovs(side.tags[tag]) for tag in chain]
        plan = merge_into(truth.list_iovs(side.tags[target]), contents, within=within)
        document = side.case.document(side.tags[target], plan.operations, kind=PlanKind.edit)
        side.world.conditions.apply(document, RELEASE)

    def update(
        self, side: Side, target: str, staging: list[Line], first: ExpRun, mode: UpdateMode, *, with_lease: bool
    ) -> None:
        source = side.case.make(staging, TagState.VALIDATED, vouched=True)
        document = side.case.update(side.tags[target], source, first, mode)
        side.world.conditions.apply(document, RELEASE, lease=side.leases.get(target) if with_lease else None)

    def read_links(self, tag: str) -> None:
        """Take what the first world lists for the model; that all worlds list it is the invariant."""
        self.links[tag] = {
            (name, self.revisions[name][revision - 1], IoV(*map(int, iov.split(","))))
            for name, revision, iov in self.sides[0].links(tag)
        }

    def all_alike_why(self, work: Callable[[Side], object]) -> CalibrationError | None:
        """``None`` when all worlds did it, else why; the reason is of the same kind everywhere."""
        outcomes = [attempt(partial(work, side)) for side in self.sides]
        assert len({type(one) for one in outcomes}) == 1, outcomes
        return outcomes[0]

    def all_alike(self, work: Callable[[Side], object]) -> bool:
        """Whether all worlds did it; ``False`` when all refused it."""
        return self.all_alike_why(work) is None

    def all_refuse(self, work: Callable[[Side], object], error: type[CalibrationError]) -> None:
        """All worlds refuse it with this error."""
        assert isinstance(self.all_alike_why(work), error)


def overlapping(chosen: Iterable[Line]) -> bool:
    """Whether two of the lines, all of one name, share a run."""
    found = [iov for _, _, iov in chosen]
    return any(one.overlaps(other) for i, one in enumerate(found) for other in found[:i])


def fitted(chosen: list[tuple[str, IoV]], first: ExpRun, mode: UpdateMode) -> list[tuple[str, IoV]]:
    """The payloads of one name in a form that a running update of this mode takes."""
    if mode is UpdateMode.simple:
        return [(chosen[0][0], ALWAYS)]
    future = IoV(*first, -1, -1)
    kept = [(text, both) for text, iov in chosen if (both := iov & future)] or [(chosen[0][0], future)]
    if mode is UpdateMode.strict:
        kept[-1] = kept[-1][0], IoV(*kept[-1][1].start, -1, -1)
    return kept


def before_run(answers: Answers, first: ExpRun) -> Answers:
    """The answers for runs before this one."""
    kept = {name: {run: text for run, text in runs.items() if run < first} for name, runs in answers.items()}
    return {name: runs for name, runs in kept.items() if runs}


def test_i01_i03_to_i06_i10_i15_hold_in_any_sequence_of_changes(world: World) -> None:
    """Overlaps, the past of RUNNING tags, fixed tags, states, leases and stale plans, on one kind of database."""
    run_state_machine_as_test(lambda: Sequences([world]), settings=sequences(14, steps=25))


def test_i17_all_kinds_of_databases_answer_alike_after_any_sequence(worlds: tuple[World, ...]) -> None:
    """The same sequence in all worlds at once: the same answers, revisions, states and kinds of refusals."""
    run_state_machine_as_test(lambda: Sequences(worlds), settings=sequences(9, steps=25))
