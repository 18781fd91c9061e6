"""Payloads: immutable, verified whenever they are read, uploaded once whatever happens, never missing below a link."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from backends import RestWorld
from grid import ALWAYS, Answers, Line, answers_of, contents, moderate
from hypothesis import given
from hypothesis import strategies as st
from servers.faults import damage_file
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from worlds import RELEASE, Case, World, attempt

from b2cal_core.errors import CalibrationError, DataError, IntegrityError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.publisher import Publisher

LINES: list[Line] = [("p", "1", IoV(0, 0, 0, -1)), ("p", "2", IoV(1, 0, -1, -1)), ("q", "1", ALWAYS)]


# I7

harms = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 200)),
    st.tuples(st.just("cut"), st.integers(0, 200)),
    st.tuples(st.just("append"), st.just(0)),
    st.tuples(st.just("remove"), st.just(0)),
)


@given(harm=harms)
@moderate(12)
def test_i07_a_stored_file_that_was_damaged_is_never_handed_out(world: World, harm: tuple[str, int]) -> None:
    case = world.case()
    text = f"content {case.number} " * 10
    payload = world.conditions.put_payload(case.name("p"), world.file(text))
    tag = case.make([("p", text, ALWAYS)])
    stored = world.stored(payload)
    damage(stored, *harm)
    reader = world.client()
    found = reader.resolve([tag], ExpRun(0, 0))[case.name("p")].payload
    with pytest.raises(CalibrationError, match=case.name("p")) as refused:
        reader.payload_file(found)
    assert isinstance(refused.value, IntegrityError) or world.backend == "REST"
    world.truth.put_payload(case.name("p"), world.file(text))
    assert reader.payload_file(found).read_text() == text


def damage(file: Any, kind: str, place: int) -> None:
    """Harm a file as disks and people do."""
    content = file.read_bytes()
    file.chmod(0o644)
    place %= len(content)
    if kind == "remove":
        file.unlink()
    elif kind == "append":
        file.write_bytes(content + b"\0")
    else:
        rest = bytes([content[place] ^ 1]) + content[place + 1 :] if kind == "flip" else b""
        file.write_bytes(content[:place] + rest)


def test_i07_what_is_damaged_on_the_way_or_in_the_cache_is_fetched_again_or_refused(rest: RestWorld) -> None:
    case = rest.case()
    payload = rest.truth.put_payload(case.name("p"), rest.file(f"content {case.number}"))
    reader = rest.client(cache="another cache")
    rest.faults.at(2, damage_file)  # after a probe and a look-up
    assert reader.payload_file(payload).read_text() == f"content {case.number}"
    reader.payload_file(payload).chmod(0o644)
    reader.payload_file(payload).write_text("damaged")
    rest.faults.at(0, damage_file, times=100)
    with pytest.raises(CalibrationError):
        reader.payload_file(payload)
    rest.faults.reset()
    assert reader.payload_file(payload).read_text() == f"content {case.number}"


@given(texts=st.lists(st.sampled_from(["1", "2", "3", "4"]), min_size=2, max_size=6))
@moderate(10)
def test_i07_a_revision_keeps_its_content_whatever_is_uploaded_later(world: World, texts: list[str]) -> None:
    case, first = world.case(), {}
    for text in texts:
        stored = world.conditions.put_payload(case.name("p"), world.file(text))
        assert first.setdefault(text, stored) == stored
        for known, payload in first.items():
            assert world.conditions.payload(payload.name, payload.revision) == payload
            assert world.conditions.payload_file(payload).read_text() == known
    assert sorted(payload.revision for payload in first.values()) == list(range(1, len(first) + 1))


# I8 and I21


def own(case: Case, lines: list[Line]) -> list[Line]:
    """The lines with contents that no other example has, so that each really uploads."""
    return [(name, f"{text} of {case.number}", iov) for name, text, iov in lines]


def plain(answers: Answers) -> Answers:
    """The answers as if the contents were not of an example."""
    return {name: {run: text.partition(" of ")[0] for run, text in runs.items()} for name, runs in answers.items()}


@dataclass(frozen=True)
class Job:
    """A change that may be broken off: what is made ready, the change itself, what it makes of the tag."""

    name: str
    ready: Callable[[Case], Any]
    work: Callable[[ConditionsDB, Case, Any], object]
    tag: Callable[[Any], str]
    expected: Answers
    payloads: dict[str, int]


def _ready_update(case: Case) -> PlanDocument:
    target = case.make([("p", "1", ALWAYS)], TagState.RUNNING)
    staging = case.make(
        [("p", "2", IoV(1, 0, 2, -1)), ("p", "3", IoV(3, 0, -1, -1)), ("q", "1", ALWAYS)],
        TagState.VALIDATED,
        vouched=True,
    )
    return case.update(target, staging, ExpRun(1, 0), UpdateMode.strict)


def _ready_edit(case: Case) -> PlanDocument:
    target, source = (
        case.make([("p", "1", IoV(0, 0, 0, -1))]),
        case.make([("p", "2", IoV(1, 0, -1, -1)), ("q", "1", ALWAYS)]),
    )
    return Publisher(case.world.conditions).plan_merge(target, [source])


PUBLISHED = answers_of(
    [
        ("p", "1", IoV(0, 0, 0, -1)),
        ("p", "2", IoV(1, 0, 2, -1)),
        ("p", "3", IoV(3, 0, -1, -1)),
        ("q", "1", IoV(1, 0, -1, -1)),
    ]
)
JOBS = [
    Job(
        "upload and replace",
        lambda case: case.make([("p", "3", IoV(0, 0, 1, -1))]),
        lambda db, case, tag: db.replace_iovs(tag, [case.name("p"), case.name("q")], case.local(own(case, LINES))),
        lambda tag: tag,
        answers_of(LINES),
        {"p": 3, "q": 1},
    ),
    Job(
        "running update",
        _ready_update,
        lambda db, case, plan: db.apply(plan, RELEASE),
        lambda plan: plan.target,
        PUBLISHED,
        {"p": 3, "q": 1},
    ),
    Job(
        "publisher",
        _ready_update,
        lambda db, case, plan: Publisher(db, holder="the same").apply(plan, RELEASE),
        lambda plan: plan.target,
        PUBLISHED,
        {"p": 3, "q": 1},
    ),
    Job(
        "edit",
        _ready_edit,
        lambda db, case, plan: db.apply(plan, RELEASE),
        lambda plan: plan.target,
        answers_of([("p", "1", IoV(0, 0, 0, -1)), *LINES[1:]]),
        {"p": 2, "q": 1},
    ),
    Job(
        "clone",
        lambda case: (case.make(LINES), case.tag()),
        lambda db, case, names: db.clone_tag(*names, state=TagState.PUBLISHED),
        lambda names: names[1],
        answers_of(LINES),
        {"p": 2, "q": 1},
    ),
]


MANY = 50
"""Of more points only every second or third is taken; kills at each are tested where the publisher is."""


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_i08_i21_a_client_that_ends_at_any_point_leaves_what_a_retry_completes(world: World, job: Job) -> None:
    """At every point: no link without its payload, no second answer; the retry ends as an undisturbed run does."""
    case = world.case()
    made = job.ready(case)
    points = world.points(lambda db: job.work(db, case, made))
    check_end(world, case, job, made)
    assert len(points) >= 8
    for point in points[:: 1 + len(points) // MANY]:
        case = world.case()
        made = job.ready(case)
        with pytest.raises(world.death):
            job.work(world.dying(point), case, made)
        world.revive()
        check_links(world, case, job.tag(made))
        finish(lambda case=case, made=made: job.work(world.client(), case, made), job)
        check_end(world, case, job, made)


def finish(work: Callable[[], object], job: Job) -> None:
    """Ask again; a clone that is complete and was only not reported is refused as existing, which says so."""
    try:
        work()
    except CalibrationError as error:
        if job.name != "clone" or "already" not in str(error):
            raise


def check_links(world: World, case: Case, tag: str) -> None:
    """Whatever is linked can be read, undamaged, and no run has two payloads of one name."""
    if world.truth.get_tag(tag) is None:
        return
    links = world.truth.list_iovs(tag)
    case.answers_in(links)
    known = world.truth.payloads_of({(link.name, link.revision) for link in links})
    for link in links:
        assert world.truth.payload_file(known[link.name, link.revision]).stat().st_size > 0


def check_end(world: World, case: Case, job: Job, made: Any) -> None:
    tag = job.tag(made)
    assert plain(case.answers(tag)) == job.expected
    assert case.revisions() == job.payloads
    check_links(world, case, tag)
    audit = [entry.action for entry in world.conditions.audit(tag)]
    assert audit.count("apply") <= 1


class Twice:
    """Delivers one request twice, as a proxy that repeats does; the client gets the second reply."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []
        while True:
            messages.append(await receive())
            if not messages[-1].get("more_body", False):
                break
        first, second = iter(messages), iter(messages)

        async def once() -> Message:
            return next(first)

        async def again() -> Message:
            return next(second)

        async def nobody(_message: Message) -> None:
            """The first reply is lost."""

        await app(dict(scope), once, nobody)
        await app(dict(scope), again, send)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_i08_a_request_that_is_delivered_twice_counts_once(rest: RestWorld, job: Job) -> None:
    case = rest.case()
    made = job.ready(case)
    points = rest.points(lambda db: job.work(db, case, made))
    changing = [point // 2 for point in points if point % 2]
    assert changing
    for number in changing:
        case = rest.case()
        made = job.ready(case)
        client = rest.client()
        rest.faults.at(number, Twice())
        attempt(lambda client=client, case=case, made=made: job.work(client, case, made))
        rest.faults.reset()
        finish(lambda case=case, made=made: job.work(rest.client(), case, made), job)
        check_end(rest, case, job, made)


@given(lines=contents(), point=st.integers(0, 60))
@moderate(10)
def test_i21_a_link_exists_only_with_its_payload_whenever_an_upload_is_broken_off(
    world: World, lines: list[Line], point: int
) -> None:
    case = world.case()
    tag, local = case.make(), case.local(own(case, lines))
    names = [case.name(name) for name in ("p", "q")]
    attempt_until_death(world, lambda: world.dying(point).replace_iovs(tag, names, local))
    check_links(world, case, tag)
    world.client().replace_iovs(tag, names, local)
    assert len(world.truth.list_iovs(tag)) == len(lines)
    check_links(world, case, tag)


def test_i21_a_link_to_a_payload_that_is_not_there_is_refused(world: World) -> None:
    case = world.case()
    tag = case.make([("p", "1", IoV(0, 0, 0, 1))])
    with pytest.raises(DataError, match=f"{case.name('p')} revision 7"):
        world.conditions.add_iovs(tag, [TagIov(case.name("p"), 7, IoV(1, 0, 1, 1))])
    assert len(world.truth.list_iovs(tag)) == 1


def attempt_until_death(world: World, work: Callable[[], object]) -> None:
    """Do the work as far as the client lives."""
    try:
        work()
    except world.death:
        pass
    finally:
        world.revive()
