"""Plans: what they say is what happens, the past of a RUNNING tag stays, and making one writes nothing."""

from functools import partial

import pytest
from backends import RestWorld
from grid import (
    ALWAYS,
    POINTS,
    Line,
    answers_of,
    contents,
    iovs,
    moderate,
    points,
    published,
    publishes,
)
from hypothesis import event, given
from hypothesis import strategies as st
from publishing_cases import FIRST, bare, ready
from worlds import RELEASE, Case, World, attempt

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, fingerprint_of
from b2cal_core.publishing import Operation, TagIov, UpdateMode, applied, next_possible_run
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.publisher import Publisher
from resources.conditions.rest.calls import closing, creating

Publish = tuple[list[Line], list[Line], ExpRun, UpdateMode]


@given(drawn=publishes(), runs=st.lists(points, min_size=3, max_size=3))
@moderate(40)
def test_i03_i04_i11_a_publish_is_what_its_plan_says_and_only_appends(
    world: World, drawn: Publish, runs: list[ExpRun]
) -> None:
    running, staged, first, mode = drawn
    case = world.case()
    target, staging = ready(case, running, staged)
    publisher, before = Publisher(world.conditions), world.conditions.list_iovs(target)
    looked_up = {run: case.look_up([target], run) for run in runs}
    planning = partial(publisher.plan_update, target, staging, first_run=first, mode=mode)
    if (refusal := attempt(planning)) is not None:
        event(f"refused: {type(refusal).__name__}")
        assert isinstance(refusal, ConflictError | DataError)
        assert case.answers(target) == answers_of(running)
        return
    event(f"published {mode}")
    plan = planning()
    publisher.apply(PlanDocument.from_json(plan.to_json()), RELEASE)
    after = world.conditions.list_iovs(target)
    assert world.conditions.fingerprint(target) == plan.predicted == fingerprint_of(TagState.RUNNING, after)
    assert bare(after) == bare(applied(before, plan.plan))
    expected = published(answers_of(running), answers_of(staged), first, mode)
    assert case.answers(target) == expected
    assert_past_kept(before, after, first)
    for run in runs:
        found = case.look_up([target], run)
        assert found == {name: answers[run] for name, answers in expected.items() if run in answers}
        assert run >= first or found == looked_up[run]


def assert_past_kept(before: tuple[TagIov, ...], after: tuple[TagIov, ...], first: ExpRun) -> None:
    """Old links keep name, revision and start, and lose runs from the first on at most; new ones start there."""
    new = {link.id: link for link in after}
    for link in before:
        now = new.pop(link.id)
        assert (now.name, now.revision, now.iov.start) == (link.name, link.revision, link.iov.start)
        assert now.iov == link.iov or (link.iov.is_open and now.iov.stop >= first.edge)
    assert all(link.iov.start >= first.edge for link in new.values())


@st.composite
def forged(draw: st.DrawFn) -> list[tuple[str, int, IoV]]:
    """Operations that no planner made: kind, which of the tag's links it is about, IoV."""
    kinds = st.sampled_from(["close", "close", "create", "create", "drop"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 5), iovs()), min_size=1, max_size=2))


def forged_operations(case: Case, links: tuple[TagIov, ...], drawn: list[tuple[str, int, IoV]]) -> list[Operation]:
    """The operations, about links of the tag where it has any; two in three look as if they were right."""
    made = []
    for kind, number, iov in drawn:
        fitting = [link for link in links if kind != "close" or number % 3 == 0 or link.iov.is_open] or links
        link = fitting[number % len(fitting)] if fitting else TagIov(case.name("p"), 1, IoV(0, 0, 0, 0))
        start = iov.start
        if number % 3 and kind == "close":
            start = link.iov.start
        elif number % 3:
            start = max([iov.start, *(one.iov.stop for one in links if one.name == link.name and not one.iov.is_open)])
        ends = IoV.of_edges(start, iov.stop) if start < iov.stop else iov
        made.append(Operation(kind, link.name, link.revision, link.iov if kind == "drop" else ends, link.id))
    return made


@given(lines=contents(), drawn=forged(), first=st.sampled_from(POINTS[:6]))
@moderate(30)
def test_i03_a_plan_that_would_change_the_past_is_refused_whoever_made_it(
    world: World, lines: list[Line], drawn: list[tuple[str, int, IoV]], first: ExpRun
) -> None:
    case = world.case()
    world.truth.put_payload(case.name("p"), world.file("1"))
    target = case.make(lines, TagState.RUNNING, vouched=True)
    before, fingerprint = world.conditions.list_iovs(target), world.conditions.fingerprint(target)
    operations = forged_operations(case, before, drawn)
    refusal = attempt(lambda: world.conditions.apply(case.document(target, operations, first=first), RELEASE))
    after = world.conditions.list_iovs(target)
    if refusal is None:
        event("applied")
        assert_past_kept(before, after, first)
        case.answers(target)
    else:
        event("refused")
        assert world.conditions.fingerprint(target) == fingerprint
        assert after == before


one_open = contents(("q",)).map(lambda lines: [*lines, ("p", "1", ALWAYS)])


@given(lines=st.one_of(contents(), one_open, one_open), drawn=forged())
@moderate(80)
def test_i03_the_server_itself_keeps_the_past_of_a_running_tag(
    rest: RestWorld, lines: list[Line], drawn: list[tuple[str, int, IoV]]
) -> None:
    """A client that knows nothing of the rules; the tag's own starts and ends say what is past."""
    case = rest.case()
    rest.truth.put_payload(case.name("p"), rest.file("1"))
    target = case.make(lines, TagState.RUNNING)
    before, calls = rest.truth.list_iovs(target), rest.client()._calls
    ids = {(one.payload.name, one.payload.revision): one.id for one in calls.payloads_of_tag(target)}
    ids[case.name("p"), 1] = calls.payloads_named(case.name("p"))[0].id
    sent = [
        closing(op.id, op.iov) if op.kind == "close" and op.id else creating(ids[op.name, op.revision], op.iov)
        for op in forged_operations(case, before, drawn)
    ]
    refusal = attempt(lambda: calls.update_running(target, sent))
    after = rest.truth.list_iovs(target)
    event("refused" if refusal else "applied")
    assert refusal is None or after == before
    assert_past_kept(before, after, next_possible_run(before))
    case.answers(target)


GOLDEN_BEFORE = [
    ("p", "1", IoV(0, 1, 1, 0)),
    ("p", "2", IoV(1, 1, -1, -1)),
    ("q", "1", IoV(0, 1, -1, -1)),
    ("r", "1", IoV(0, 1, 1, 0)),
    ("s", "1", IoV(0, 1, -1, -1)),
    ("t", "1", IoV(0, 1, -1, -1)),
]
GOLDEN_STAGED = [
    ("p", "3", IoV(0, 0, 1, 8)),
    ("p", "4", IoV(1, 9, 1, 20)),
    ("q", "2", IoV(1, 5, 1, 20)),
    ("r", "2", IoV(0, 0, -1, -1)),
    ("s", "1", IoV(0, 0, 1, 20)),
]
GOLDEN_AFTER = {
    ("p", 1, "0,1,1,0"),
    ("p", 2, "1,1,1,1"),
    ("p", 3, "1,2,1,8"),
    ("p", 4, "1,9,1,20"),
    ("q", 1, "0,1,1,4"),
    ("q", 2, "1,5,1,20"),
    ("r", 1, "0,1,1,0"),
    ("r", 2, "1,2,-1,-1"),
    ("s", 1, "0,1,1,20"),
    ("t", 1, "0,1,-1,-1"),
}


def test_i04_the_golden_example_of_a_running_update(world: World) -> None:
    """Source: running update of the Belle II tools."""
    case = world.case()
    target, staging = ready(case, GOLDEN_BEFORE, GOLDEN_STAGED)
    publisher = Publisher(world.conditions)
    plan = publisher.plan_update(target, staging, first_run=ExpRun(1, 2), mode=UpdateMode.allow_closed)
    publisher.apply(plan, RELEASE)
    found = {(case.short(link.name), link.revision, str(link.iov)) for link in world.conditions.list_iovs(target)}
    assert found == GOLDEN_AFTER


@pytest.mark.parametrize("mode", list(UpdateMode))
def test_i11_making_and_reading_a_plan_writes_nothing(world: World, mode: UpdateMode) -> None:
    case = world.case()
    staged = [("p", "2", ALWAYS)] if mode is UpdateMode.simple else [("p", "2", IoV(1, 0, -1, -1))]
    target, staging = ready(case, staged=staged)
    log = world.conditions.audit(target)

    open_tag = case.make()

    def plan_all(_conditions: object) -> None:
        publisher = Publisher(world.conditions)
        document = publisher.plan_update(target, staging, first_run=FIRST, mode=mode)
        assert document.plan.operations
        assert publisher.verify(document).discrepancies
        assert publisher.plan_merge(open_tag, [target]).plan.operations
        assert publisher.first_safe_run(target).run <= FIRST

    assert world.writes(plan_all) == 0
    assert world.conditions.audit(target) == log
    assert world.writes(lambda db: db.create_tag(case.tag())) > 0


@given(place=st.integers(0, 10**6), digit=st.sampled_from("0123456789"))
@moderate(20)
def test_i11_a_plan_that_was_changed_after_it_was_made_is_not_read(world: World, place: int, digit: str) -> None:
    """Whichever digit of the file is another one; where the file says the same in the end, it is the same plan."""
    case = world.case()
    target, staging = ready(case)
    document = Publisher(world.conditions).plan_update(target, staging, first_run=FIRST)
    text = document.to_json()
    digits = [i for i, letter in enumerate(text) if letter.isdigit()]
    at = digits[place % len(digits)]
    changed = text[:at] + digit + text[at + 1 :]
    if changed == text:
        assert PlanDocument.from_json(changed) == document
        return
    with pytest.raises(ConfigurationError, match="plan"):
        PlanDocument.from_json(changed)
