"""States of tags: what is fixed stays fixed, and only the documented ways lead from one state to another."""

from collections.abc import Callable
from functools import partial

import pytest
from backends import RestWorld
from grid import ALWAYS, NAMES, TEXTS, Line, contents, iovs, moderate
from hypothesis import given
from hypothesis import strategies as st
from worlds import PATHS, RELEASE, Case, World, attempt

from b2cal_core.errors import CalibrationError, ConflictError
from b2cal_core.payloads import TRANSITIONS, TagState
from b2cal_core.plans import PlanKind
from b2cal_core.publishing import Operation, TagIov
from b2cal_core.ranges import ExpRun, IoV

FIXED = [TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED, TagState.INVALID]
# The documentation's table, written down again so that the code's is compared with something.
WAYS = {
    "OPEN": {"TESTING", "RUNNING"},
    "TESTING": {"VALIDATED", "OPEN"},
    "VALIDATED": {"PUBLISHED", "OPEN"},
    "PUBLISHED": {"INVALID"},
    "RUNNING": set(),
    "INVALID": set(),
}
writes = st.lists(
    st.tuples(
        st.sampled_from(["replace", "add", "edit", "running update", "rollback"]),
        st.sampled_from(NAMES),
        st.sampled_from(TEXTS),
        iovs(),
    ),
    min_size=1,
    max_size=3,
)


def write(case: Case, tag: str, kind: str, line: Line) -> Callable[[], object]:
    """A change of this kind, as a careless or malicious user would ask for it."""
    conditions, (name, _, iov) = case.world.conditions, line
    full, first = case.name(name), ExpRun(*iov.start)
    create, links = Operation("create", full, 1, iov), case.world.truth.list_iovs(tag)
    dropped = [Operation("drop", link.name, link.revision, link.iov, link.id) for link in links]
    closed = [
        Operation("close", link.name, link.revision, IoV(*link.iov.start, *link.iov.start), link.id)
        for link in links
        if link.iov.is_open
    ]
    if kind == "replace":
        return lambda: conditions.replace_iovs(tag, [full], case.local([line]))
    if kind == "add":
        return lambda: conditions.add_iovs(tag, [TagIov(full, 1, iov)])
    if kind == "edit":
        document = case.document(tag, [*dropped, create], kind=PlanKind.edit)
    elif kind == "rollback":
        document = case.document(tag, dropped, kind=PlanKind.rollback, first=first)
    else:
        document = case.document(tag, [*closed, create], first=first)
    return lambda: conditions.apply(document, RELEASE)


@pytest.mark.parametrize("state", FIXED)
@given(lines=contents(), asked=writes)
@moderate(5)
def test_i05_no_write_changes_a_fixed_tag(
    world: World, state: TagState, lines: list[Line], asked: list[tuple[str, str, str, IoV]]
) -> None:
    case = world.case()
    for name in NAMES:
        world.truth.put_payload(case.name(name), world.file("1"))
    tag = case.make(lines, state, vouched=True)
    before = world.conditions.fingerprint(tag), world.truth.list_iovs(tag)
    for kind, name, text, iov in asked:
        refusal = attempt(write(case, tag, kind, (name, text, iov)))
        assert isinstance(refusal, CalibrationError)
        assert (world.conditions.fingerprint(tag), world.truth.list_iovs(tag)) == before


@pytest.mark.parametrize("state", FIXED)
def test_i05_the_server_itself_refuses_single_writes_to_a_fixed_tag(rest: RestWorld, state: TagState) -> None:
    """Whatever the client believes: the calls are sent without any check of its own."""
    case = rest.case()
    tag = case.make([("p", "1", ALWAYS)], state)
    calls, before = rest.client()._calls, rest.truth.list_iovs(tag)
    record = calls.tag(tag)
    assert record is not None
    (link,) = before
    assert link.id is not None
    payload = calls.payloads_named(case.name("p"))[0].id
    asked = [
        lambda: calls.create_iov(record, payload, IoV(1, 0, 1, 5)),
        lambda: calls.change_iov(link.id, IoV(0, 0, 0, 5)),
        lambda: calls.delete_iov(link.id),
        lambda: calls.update_running(tag, [{"operation": "MODIFY", "data": [link.id, 0, 5]}]),
        lambda: calls.change_tag(record, {"name": f"{tag}_new"}),
    ]
    for work in asked:
        assert attempt(work) is not None
    assert rest.truth.list_iovs(tag) == before
    found = rest.truth.get_tag(tag)
    assert found is not None
    assert found.state is state


@given(tried=st.lists(st.sampled_from(TagState), min_size=6, max_size=12))
@moderate(12)
def test_i06_any_walk_keeps_to_the_documented_transitions(world: World, tried: list[TagState]) -> None:
    case = world.case()
    tag, now = case.make(), TagState.OPEN
    for new in tried:
        refusal = attempt(partial(world.conditions.set_state, tag, expected=now, new=new))
        assert (refusal is None) is (new.value in WAYS[now.value])
        assert refusal is None or isinstance(refusal, ConflictError)
        now = new if refusal is None else now
        found = world.truth.get_tag(tag)
        assert found is not None
        assert found.state is now


def test_i06_from_published_only_invalid_is_reached_and_from_there_nothing(world: World) -> None:
    reached, waiting = set(), {TagState.PUBLISHED}
    while waiting:
        state = waiting.pop()
        for new in TagState:
            case = world.case()
            tag = case.make(state=state)
            if (
                attempt(lambda tag=tag, state=state, new=new: world.conditions.set_state(tag, expected=state, new=new))
                is None
            ):
                waiting |= {new} - reached
                reached.add(new)
    assert reached == {TagState.INVALID}
    assert {state.value: {new.value for new in ways} for state, ways in TRANSITIONS.items()} == WAYS


def test_i06_a_state_that_somebody_else_changed_is_not_changed_again(world: World) -> None:
    case = world.case()
    tag = case.make()
    case.bring(tag, TagState.TESTING)
    refusal = attempt(lambda: world.conditions.set_state(tag, expected=TagState.OPEN, new=TagState.RUNNING))
    assert isinstance(refusal, ConflictError)
    found = world.truth.get_tag(tag)
    assert found is not None
    assert found.state is TagState.TESTING


@pytest.mark.parametrize("state", list(TagState))
def test_i06_invalid_is_never_served_and_open_only_to_those_who_calibrate(world: World, state: TagState) -> None:
    """A reader that processes data is opened with the usable states; ours reads its own staging tags besides."""
    case = world.case()
    tag = case.make([("p", "1", ALWAYS)], state)
    usable = world.client(served=frozenset(one for one in TagState if one.is_usable))
    refusal = attempt(lambda: usable.resolve([tag], ExpRun(1, 1)))
    assert (refusal is None) is (state in {TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED, TagState.RUNNING})
    refusal = attempt(lambda: world.conditions.resolve([tag], ExpRun(1, 1)))
    assert (refusal is None) is (state is not TagState.INVALID)
    with pytest.raises(CalibrationError, match="never served"):
        world.client(served=frozenset(TagState))


def test_i06_every_state_is_reached_by_its_path(world: World) -> None:
    """What the other tests prepare with is a way that the adapter itself allows."""
    for state, path in PATHS.items():
        case = world.case()
        tag, now = case.make(), TagState.OPEN
        for new in path:
            assert world.conditions.set_state(tag, expected=now, new=new).state is new
            now = new
        assert now is state
