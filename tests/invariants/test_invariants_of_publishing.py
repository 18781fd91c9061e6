"""Publishing: the past stays, the plan says what happens, all or nothing is seen, and nothing is claimed too early."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import pytest
from backends import EmbeddedWorld, RestWorld, changes
from grid import (
    ALWAYS,
    POINTS,
    Answers,
    Line,
    answers_of,
    moderate,
    points,
    published,
    publishes,
)
from hypothesis import given
from hypothesis import strategies as st
from publishing_cases import BEFORE, FIRST, STAGED, ready
from servers.faults import StaleCache, answering
from worlds import RECORD, RELEASE, World, attempt

from b2cal_core.errors import CalibrationError, ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import TagState, broken_link
from b2cal_core.ports import SafeRunSource
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun
from b2cal_core.snapshots import Snapshot, resolve_in
from resources.conditions.publisher import Publisher
from resources.conditions.snapshotting import take_snapshot

Publish = tuple[list[Line], list[Line], ExpRun, UpdateMode]


# I9


def test_i09_whoever_looks_during_a_publish_sees_all_of_it_or_nothing(world: World) -> None:
    case = world.case()
    target, staging = ready(case)
    plan = Publisher(world.conditions).plan_update(target, staging, first_run=FIRST)
    seen: list[Answers] = []
    look = lambda: seen.append(case.answers(target, world.truth))  # noqa: E731 (given away twice)
    world.observe(look, lambda db: db.apply(plan, RELEASE))
    look()
    old, new = answers_of(BEFORE), published(answers_of(BEFORE), answers_of(STAGED), FIRST, UpdateMode.strict)
    assert len(seen) > 5
    turn = next(i for i, answers in enumerate(seen) if answers == new)
    assert seen[:turn] == [old] * turn
    assert seen[turn:] == [new] * (len(seen) - turn)


def test_i09_an_edit_that_is_not_atomic_is_in_the_journal_until_it_is_complete(world: World) -> None:
    """An OPEN tag is read by nobody but its makers; still no run ever has two payloads of one name."""
    case = world.case()
    tag = case.make(BEFORE)
    old, new = answers_of(BEFORE), answers_of([*STAGED[:2], ("q", "2", ALWAYS)])
    seen: list[tuple[Answers, bool]] = []

    def look() -> None:
        lines = world.conditions.audit(tag)
        begun = bool(lines) and lines[-1].action == "begin"
        seen.append((case.answers(tag, world.truth), begun))

    names = [case.name("p"), case.name("q")]
    world.observe(look, lambda db: db.replace_iovs(tag, names, case.local(STAGED)))
    mixed = [begun for answers, begun in seen if answers not in (old, new)]
    if world.conditions.capabilities.atomic_edit:
        assert mixed == []
    else:
        assert mixed
        assert all(mixed)
    assert case.answers(tag) == new
    assert [entry.action for entry in world.conditions.audit(tag)][-1] == "replace_iovs"


# I12


@given(dropped=st.sets(st.sampled_from(sorted(Provenance().missing)), max_size=2), named=st.booleans())
@moderate(12)
def test_i12_nothing_is_published_with_a_field_of_its_provenance_missing(
    world: World, *, dropped: set[str], named: bool
) -> None:
    case = world.case()
    target = case.make(state=TagState.RUNNING)
    staging = case.make([("p", f"content {case.number}", ALWAYS)], TagState.VALIDATED)
    document = case.update(target, staging, FIRST, UpdateMode.strict)
    (payload,) = world.conditions.payloads_of([(case.name("p"), 1)]).values()
    key = payload.name, payload.md5
    if named:
        world.conditions.record_provenance({key: RECORD.model_copy(update=dict.fromkeys(dropped))}, author="anna")
    for publish in (world.conditions.apply, Publisher(world.conditions).apply):
        if dropped or not named:
            with pytest.raises(DataError, match=payload.name) as refused:
                publish(document, RELEASE)
            assert all(field in str(refused.value) for field in dropped if named)
            assert world.conditions.list_iovs(target) == ()
        else:
            publish(document, RELEASE)
    if named and not dropped:
        assert world.conditions.provenance([key]) == {key: RECORD}
        (line,) = [entry for entry in world.conditions.audit(target) if entry.action == "apply"]
        assert (line.author, line.approver, line.reason, line.plan_hash) == (
            "anna",
            "bert",
            RELEASE.reason,
            document.hash,
        )
        assert json.loads(line.detail)["document"] == document.to_json()


@pytest.mark.parametrize("missing", ["author", "approver", "reason"])
def test_i12_nothing_is_published_without_names_and_reason(world: World, missing: str) -> None:
    case = world.case()
    target, staging = ready(case)
    document = case.update(target, staging, FIRST, UpdateMode.strict)
    release = replace(RELEASE, **{missing: " "})
    for publish in (world.conditions.apply, Publisher(world.conditions).apply):
        with pytest.raises(ConfigurationError, match=missing):
            publish(document, release)
    assert case.answers(target) == answers_of(BEFORE)


@given(place=st.integers(0, 10**6), field=st.sampled_from(["author", "detail", "reason", "approver", "tag", "lost"]))
@moderate(15)
def test_i12_a_line_of_the_log_that_was_changed_or_lost_breaks_the_chain(world: World, place: int, field: str) -> None:
    case = world.case()
    target, staging = ready(case)
    world.conditions.apply(case.update(target, staging, FIRST, UpdateMode.strict), RELEASE)
    log = list(world.conditions.audit())
    assert broken_link(log) is None
    place %= len(log) - 1
    if field == "lost":
        broken = log[place + 1]
        log.pop(place)
    else:
        broken = log[place] = replace(log[place], **{field: f"{getattr(log[place], field)} forged"})
    assert broken_link(log) == broken


# I13


def test_i13_after_success_look_ups_at_every_edge_agree_with_the_plan(world: World) -> None:
    case = world.case()
    target, staging = ready(case)
    publisher = Publisher(world.conditions)
    plan = publisher.plan_update(target, staging, first_run=FIRST)
    publisher.apply(plan, RELEASE)
    assert publisher.verify(plan).discrepancies == ()
    expected = published(answers_of(BEFORE), answers_of(STAGED), FIRST, UpdateMode.strict)
    for run in POINTS:
        assert case.look_up([target], run) == {name: found[run] for name, found in expected.items() if run in found}


@contextmanager
def losing_writes(world: EmbeddedWorld) -> Iterator[None]:
    """The database says yes to every new link and keeps another one."""
    liars = {
        "SQLite": "AFTER INSERT ON cdb_iovs BEGIN UPDATE cdb_iovs SET stop = stop - 1 WHERE id = NEW.id; END",
        "MariaDB": "BEFORE INSERT ON cdb_iovs FOR EACH ROW SET NEW.stop = NEW.stop - 1",
    }
    engine = world.truth.engine.execution_options(writes=True)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER liar {liars[world.backend]}")
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER liar")


def test_i13_a_write_that_was_lost_silently_is_found_and_undone(embedded: EmbeddedWorld) -> None:
    case = embedded.case()
    target, staging = ready(case)
    publisher = Publisher(embedded.conditions)
    plan = publisher.plan_update(target, staging, first_run=FIRST)
    with losing_writes(embedded), pytest.raises(CalibrationError, match="reads back differently"):
        publisher.apply(plan, RELEASE)
    assert case.answers(target) == answers_of(BEFORE)
    assert embedded.conditions.fingerprint(target) == plan.fingerprint
    publisher.apply(plan, RELEASE)
    assert embedded.conditions.fingerprint(target) == plan.predicted


def test_i13_a_server_that_says_yes_to_an_update_and_does_nothing_is_not_believed(rest: RestWorld) -> None:
    case = rest.case()
    target, staging = ready(case)
    plan = Publisher(rest.conditions).plan_update(target, staging, first_run=FIRST)
    rest.points(lambda db: db.apply(plan, RELEASE))
    (number,) = [i for i, request in enumerate(rest.faults.requests) if changes(request)]
    case = rest.case()
    target, staging = ready(case)
    plan, client = Publisher(rest.conditions).plan_update(target, staging, first_run=FIRST), rest.client()
    rest.faults.at(number, answering(204, b""))
    with pytest.raises(CalibrationError, match="still reads as before"):
        client.apply(plan, RELEASE)
    rest.faults.reset()
    assert case.answers(target) == answers_of(BEFORE)
    rest.client().apply(plan, RELEASE)
    assert rest.truth.fingerprint(target) == plan.predicted


def test_i13_a_server_that_says_yes_to_a_link_and_does_nothing_is_not_believed(rest: RestWorld) -> None:
    """Whichever of the changes of an OPEN tag was lost; asked again, it is made up for."""
    case = rest.case()
    names, tag = [case.name("p"), case.name("q")], case.make(BEFORE)
    rest.points(lambda db: db.replace_iovs(tag, names, case.local(STAGED)))
    links = [i for i, one in enumerate(rest.faults.requests) if changes(one) and "ayloadIov" in one.path]
    gone = {number for number in links if rest.faults.requests[number].method == "DELETE"}
    assert (len(gone), len(links)) == (2, 5)
    for number in links:
        case = rest.case()
        names, tag, client = [case.name("p"), case.name("q")], case.make(BEFORE), rest.client()
        rest.faults.at(number, answering(204, b"") if number in gone else answering(200, b'{"payloadIovId": 7}'))
        with pytest.raises(CalibrationError, match="reads back differently"):
            client.replace_iovs(tag, names, case.local(STAGED))
        rest.faults.reset()
        rest.client().replace_iovs(tag, names, case.local(STAGED))
        assert case.answers(tag) == answers_of(STAGED)


def test_i13_behind_a_stale_cache_no_success_is_reported(rest: RestWorld) -> None:
    case = rest.case()
    target, staging = ready(case)
    plan = Publisher(rest.conditions).plan_update(target, staging, first_run=FIRST)
    rest.faults.at(0, StaleCache(), times=1 << 30)
    refusal = attempt(lambda: Publisher(rest.client(), sleep=lambda _seconds: None).apply(plan, RELEASE))
    rest.faults.reset()
    assert refusal is not None
    assert [entry.action for entry in rest.conditions.audit(target)].count("verify") == 0
    publisher = Publisher(rest.client())
    publisher.apply(plan, RELEASE)
    assert publisher.verify(plan).discrepancies == ()


# I22


class Moving(SafeRunSource):
    """What was processed, other each time it is asked; it also looks whether the tag is leased then."""

    def __init__(self, world: World, processed: list[ExpRun]) -> None:
        self.world, self.processed, self.leased = world, processed, list[bool]()
        self._times = count()

    def last_processed(self, target: str) -> tuple[ExpRun, str]:
        refusal = attempt(lambda: self.world.conditions.set_state(target, expected=TagState.RUNNING, new=TagState.OPEN))
        self.leased.append("being changed by" in str(refusal))
        return self.processed[min(next(self._times), len(self.processed) - 1)], "a test"


@given(at_plan=st.sampled_from(POINTS[:12]), at_apply=st.sampled_from(POINTS[:15]), first=st.sampled_from(POINTS[5:15]))
@moderate(15)
def test_i22_what_was_processed_between_plan_and_publish_is_heeded_under_the_lease(
    world: World, at_plan: ExpRun, at_apply: ExpRun, first: ExpRun
) -> None:
    case = world.case()
    target, staging = ready(case, [("p", "1", ALWAYS)], [("p", "2", ALWAYS)])
    source = Moving(world, [at_plan])
    publisher = Publisher(world.conditions, [source])
    planning = attempt(lambda: publisher.plan_update(target, staging, first_run=first))
    assert (planning is None) is (at_plan < first)
    if planning is not None:
        assert isinstance(planning, ConflictError)
        assert str(ExpRun(at_plan.exp, at_plan.run + 1)) in str(planning)
        return
    document = publisher.plan_update(target, staging, first_run=first)
    assert document.safe_run is not None
    assert document.safe_run.run <= first
    moved = Moving(world, [at_apply])
    refusal = attempt(lambda: Publisher(world.conditions, [moved]).apply(document, RELEASE))
    assert moved.leased == [True]
    assert (refusal is None) is (at_apply < first)
    if refusal is None:
        assert world.conditions.fingerprint(target) == document.predicted
    else:
        assert isinstance(refusal, ConflictError)
        assert world.conditions.fingerprint(target) == document.fingerprint


# I24


@given(drawn=publishes(), runs=st.lists(points, min_size=2, max_size=2))
@moderate(12)
def test_i24_a_job_with_its_snapshot_sees_the_same_after_the_tag_moved(
    world: World, drawn: Publish, runs: list[ExpRun]
) -> None:
    running, staged, first, mode = drawn
    case = world.case()
    target, staging = ready(case, running, staged)
    base = case.make([("p", "1", ALWAYS), ("r", "1", ALWAYS)])
    before = {run: world.conditions.resolve([base, target], run) for run in runs}
    line = world.truth.audit(target)[-1].id
    stored = take_snapshot(world.conditions, [base, target]).to_json()
    publisher = Publisher(world.conditions)
    refusal = attempt(
        lambda: publisher.apply(publisher.plan_update(target, staging, first_run=first, mode=mode), RELEASE)
    )
    world.conditions.replace_iovs(base, [case.name("r")], case.local([("r", "2", ALWAYS)]))
    snapshot = Snapshot.from_json(stored)
    for run in runs:
        again = resolve_in(snapshot, run)
        assert {name: (one.payload.revision, one.payload.md5, one.tag) for name, one in again.items()} == {
            name: (one.payload.revision, one.payload.md5, one.tag) for name, one in before[run].items()
        }
        for one in again.values():
            assert world.conditions.payload_file(one.payload).read_text() == world.texts[one.payload.md5]
    if world.conditions.capabilities.time_machine:
        assert case.answers(target, as_of=line) == answers_of(running)
    assert refusal is None or case.answers(target) == answers_of(running)
