"""Who writes, when: one writer at a time, whatever the clock says, and only who has the right to."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from backends import RestWorld
from grid import ALWAYS, Line, answers_of, contents, moderate, published, publishes
from hypothesis import given
from hypothesis import strategies as st
from worlds import RELEASE, Case, World, attempt

from b2cal_core.errors import CalibrationError, ConflictError
from b2cal_core.payloads import TagState, broken_link
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import Operation, TagIov, UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.book import utc_now
from resources.conditions.publisher import Publisher

FIRST = ExpRun(1, 0)
BEFORE: list[Line] = [("p", "1", ALWAYS)]


def two_plans(case: Case) -> tuple[str, PlanDocument, PlanDocument]:
    """A RUNNING tag and two plans for it that exclude each other."""
    target = case.make(BEFORE, TagState.RUNNING)
    first, second = (case.make([("p", text, ALWAYS)], TagState.VALIDATED, vouched=True) for text in ("2", "3"))
    return target, *(case.update(target, staging, FIRST, UpdateMode.strict) for staging in (first, second))


def outcome_of(case: Case, text: str) -> dict[str, dict[ExpRun, str]]:
    return published(answers_of(BEFORE), answers_of([("p", text, ALWAYS)]), FIRST, UpdateMode.strict)


# I10


def other_computer(world: World) -> ConditionsDB:
    """A client that shares no lock files with the others."""
    return world.client(cache="another computer") if isinstance(world, RestWorld) else world.client()


def interfering(world: World, at: int, work: Callable[[ConditionsDB], object], second: Callable[[], object]) -> Any:
    """Do the work, and let another thread begin the second at this point of it; returns how both ended."""
    passed = count()
    begun: list[threading.Thread] = []
    ended: list[CalibrationError | None] = []

    def look() -> None:
        if next(passed) == at:
            begun.append(threading.Thread(target=lambda: ended.append(attempt(second))))
            begun[0].start()

    first: list[CalibrationError | None] = []
    world.observe(look, lambda db: first.append(attempt(lambda: work(db))))
    if not begun:
        ended.append(attempt(second))
    for thread in begun:
        thread.join()
    return first[0], ended[0]


@pytest.mark.parametrize("at", [0, 3, 6, 9, 12, 15, 20, 30])
def test_i10_of_two_publishers_one_wins_and_the_other_changes_nothing(world: World, at: int) -> None:
    """The second begins at some point of the first; both are made from the same fingerprint."""
    case = world.case()
    target, mine, theirs = two_plans(case)
    first, second = interfering(
        world,
        at,
        lambda db: Publisher(db, holder="first").apply(mine, RELEASE),
        lambda: Publisher(other_computer(world), holder="second").apply(theirs, RELEASE),
    )
    assert (first is None) is not (second is None)
    assert isinstance(first or second, ConflictError)
    winner, text = (mine, "2") if first is None else (theirs, "3")
    assert case.answers(target) == outcome_of(case, text)
    assert world.conditions.fingerprint(target) == winner.predicted
    applied = [entry.plan_hash for entry in world.conditions.audit(target) if entry.action == "apply"]
    assert applied == [winner.hash]


@pytest.mark.parametrize("kind", ["another name", "the same name", "an edit"])
def test_i10_a_plan_is_worth_nothing_after_any_other_change_of_its_target(world: World, kind: str) -> None:
    """Also after one that it does not touch: what was approved was the whole."""
    case = world.case()
    target, mine, theirs = two_plans(case)
    if kind == "another name":
        other = case.make([("q", "1", IoV(1, 0, -1, -1))], TagState.VALIDATED, vouched=True)
        theirs = case.update(target, other, FIRST, UpdateMode.strict)
    elif kind == "an edit":
        target = case.make([*BEFORE, ("q", "1", ALWAYS)])
        (link,) = [link for link in world.truth.list_iovs(target) if link.name == case.name("p")]
        drop = Operation("drop", link.name, link.revision, link.iov, link.id)
        mine = case.document(target, [drop], kind=PlanKind.edit)
    if kind == "an edit":
        world.conditions.replace_iovs(target, [case.name("q")], [])
    else:
        world.conditions.apply(theirs, RELEASE)
    before = world.truth.list_iovs(target), world.conditions.fingerprint(target)
    for publish in (world.conditions.apply, Publisher(world.conditions).apply):
        with pytest.raises(ConflictError):
            publish(mine, RELEASE)
        assert (world.truth.list_iovs(target), world.conditions.fingerprint(target)) == before


@pytest.mark.parametrize("at", [0, 2, 4, 6, 8, 10, 14, 18])
def test_i10_a_reported_freeze_is_never_lost(world: World, at: int) -> None:
    """Somebody brings an OPEN tag to TESTING during a change: from that moment on its content stays."""
    case = world.case()
    tag = case.make([("p", "1", IoV(0, 0, 0, 1)), ("q", "1", ALWAYS)])
    lines: list[Line] = [("p", "2", IoV(1, 0, 1, 1)), ("p", "3", IoV(2, 0, 2, 1)), ("q", "2", ALWAYS)]
    frozen: list[set[TagIov]] = []

    def freeze() -> None:
        other_computer(world).set_state(tag, expected=TagState.OPEN, new=TagState.TESTING)
        frozen.append(set(world.truth.list_iovs(tag)))

    _, second = interfering(
        world,
        at,
        lambda db: db.replace_iovs(tag, [case.name("p"), case.name("q")], case.local(lines)),
        freeze,
    )
    assert second is None
    assert frozen == [set(world.truth.list_iovs(tag))]
    found = world.truth.get_tag(tag)
    assert found is not None
    assert found.state is TagState.TESTING
    case.answers(tag)


@given(lines=contents(), stale=st.booleans())
@moderate(8)
def test_i10_a_stale_lease_changes_nothing_and_a_valid_one_keeps_others_out(
    world: World, lines: list[Line], *, stale: bool
) -> None:
    case = world.case()
    target, mine, _ = two_plans(case)
    old = world.conditions.lease(target, holder="anna", seconds=0 if stale else 3600)
    if stale:
        world.conditions.lease(target, holder="bert", seconds=3600)
        for work in (
            lambda: world.conditions.apply(mine, RELEASE, lease=old),
            lambda: world.conditions.apply(mine, RELEASE),
            lambda: world.conditions.end_lease(old),
            lambda: world.conditions.apply(mine, RELEASE),
        ):
            refusal = attempt(work)
            assert refusal is None or isinstance(refusal, ConflictError)
            assert case.answers(target) == answers_of(BEFORE)
    else:
        with pytest.raises(ConflictError, match="anna"):
            world.conditions.lease(target, holder="bert", seconds=60)
        with pytest.raises(ConflictError, match="anna"):
            Publisher(world.conditions).apply(mine, RELEASE)
        world.conditions.apply(mine, RELEASE, lease=old)
        assert world.conditions.fingerprint(target) == mine.predicted
    open_tag = case.make(lines)
    world.conditions.lease(open_tag, holder="carl", seconds=3600)
    before = world.conditions.fingerprint(open_tag)
    with pytest.raises(ConflictError, match="carl"):
        world.conditions.replace_iovs(open_tag, [case.name("p")], [])
    assert world.conditions.fingerprint(open_tag) == before


def test_i10_of_many_writers_at_once_just_one_publishes(world: World) -> None:
    """All begin at the same time; a barrier and nothing else decides."""
    case = world.case()
    target = case.make(BEFORE, TagState.RUNNING)
    staged = [case.make([("p", f"{case.number} {i}", ALWAYS)], TagState.VALIDATED, vouched=True) for i in range(4)]
    plans = [case.update(target, staging, FIRST, UpdateMode.strict) for staging in staged]
    clients = [world.client() for _ in plans]
    barrier = threading.Barrier(len(plans))

    def publish(i: int) -> CalibrationError | None:
        barrier.wait()
        return attempt(lambda: Publisher(clients[i], holder=f"publisher {i}").apply(plans[i], RELEASE))

    with ThreadPoolExecutor(len(plans)) as pool:
        ends = list(pool.map(publish, range(len(plans))))
    winners = [i for i, refusal in enumerate(ends) if refusal is None]
    assert all(isinstance(refusal, ConflictError) for refusal in ends if refusal is not None)
    assert len(winners) == 1
    assert world.conditions.fingerprint(target) == plans[winners[0]].predicted


# I19

NOW = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def clocks() -> dict[str, Callable[[], datetime]]:
    """Clocks that are wrong, each in its own way."""
    back, jumps = count(), count()
    return {
        "right": utc_now,
        "constant": lambda: NOW,
        "backwards": lambda: NOW - timedelta(hours=next(back)),
        "jumping": lambda: NOW + timedelta(days=(-1) ** (i := next(jumps)) * i * 1000),
    }


@given(drawn=publishes(), lines=contents())
@moderate(8)
def test_i19_a_wrong_clock_changes_nothing_but_the_times_in_the_log(
    world: World, drawn: tuple[list[Line], list[Line], ExpRun, UpdateMode], lines: list[Line]
) -> None:
    running, staged, first, mode = drawn
    ends = {}
    for kind, clock in clocks().items():
        case, client = world.case(), world.client(clock=clock)
        tag, target = case.tag(), case.make(running, TagState.RUNNING)
        staging = case.make(staged, TagState.VALIDATED, vouched=True)
        client.create_tag(tag)
        client.replace_iovs(tag, [case.name("p"), case.name("q")], case.local(lines))
        client.set_state(tag, expected=TagState.OPEN, new=TagState.TESTING)
        middle = client.audit(tag)[-1].id
        client.set_state(tag, expected=TagState.TESTING, new=TagState.OPEN)
        client.replace_iovs(tag, [case.name("p")], [])
        publisher = Publisher(client)
        plan = None
        refusal = attempt(lambda: publisher.plan_update(target, staging, first_run=first, mode=mode))  # noqa: B023
        if refusal is None:
            plan = publisher.plan_update(target, staging, first_run=first, mode=mode)
            if kind != "jumping":  # no lease outlives a clock that jumps over its end, and it is refused
                publisher.apply(plan, RELEASE)
            else:
                client.apply(plan, RELEASE)
        past = case.answers(tag, client, as_of=middle) if client.capabilities.time_machine else answers_of(lines)
        actions = [entry.action for entry in client.audit(tag)]
        ends[kind] = (type(refusal), case.answers(tag), case.answers(target), past, actions, case.revisions())
        assert past == answers_of(lines)
    assert all(end == ends["right"] for end in ends.values())
    assert broken_link(world.conditions.audit()) is None


def test_i19_a_stale_lease_is_told_by_its_number_and_not_by_the_clock(world: World) -> None:
    """A clock that is set back makes an old lease look valid; the newer number still decides."""
    case = world.case()
    target, mine, _ = two_plans(case)
    early = world.client(clock=lambda: NOW - timedelta(days=1))
    old = early.lease(target, holder="anna", seconds=60)
    late = world.client(clock=lambda: NOW)
    new = late.lease(target, holder="bert", seconds=60)
    assert new.number > old.number
    with pytest.raises(ConflictError, match="passed to another"):
        early.apply(mine, RELEASE, lease=old)
    assert case.answers(target) == answers_of(BEFORE)
    late.apply(mine, RELEASE, lease=new)
    assert case.answers(target) == outcome_of(case, "2")
