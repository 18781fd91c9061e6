"""Something goes wrong at every single request of every change: the change is completed, or asking again does so."""

import io
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from servers import faults
from servers.faults import Fault, StaleCache
from servers.rest_world import ALWAYS, RELEASE, World, new_world

from b2cal_core.errors import BackendError, CalibrationError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanKind
from b2cal_core.publishing import Operation, TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.rest.adapter import RestConditionsDB

FOR_EVER = 10**9
Act = Callable[[RestConditionsDB], object]


@dataclass
class Change:
    """A change that is about to be made to ``tag``.

    Attributes:
        after: what the tag has then; blank when the change is not about content.
        uploads: how many payloads are new.
        whole: the tag is as before or as after, never in between.
        ended: the line of the audit log that tells of it.
    """

    tag: str
    act: Act
    after: set[tuple[str, int, str]]
    ended: str
    uploads: int = 0
    whole: bool = False
    state: TagState = TagState.OPEN


def uploading(world: World, tag: str) -> Change:
    world.make(tag)
    files = [(f"{tag}{name}", world.file(f"{tag}{name}{text}")) for name in "pq" for text in "12"]
    return Change(tag, lambda client: client.put_payloads(files), set(), "", uploads=4)


def replacing(world: World, tag: str) -> Change:
    p, q = f"{tag}p", f"{tag}q"
    world.make(tag, world.local(p, f"{tag}1"), world.local(q, f"{tag}2"))
    lines = [world.local(p, f"{tag}3", IoV(0, 0, 0, 5)), world.local(p, f"{tag}1", IoV(0, 6, -1, -1))]
    after = {(p, 2, "0,0,0,5"), (p, 1, "0,6,-1,-1")}
    return Change(tag, lambda client: client.replace_iovs(tag, [p, q], lines), after, "replace_iovs", uploads=1)


def adding(world: World, tag: str) -> Change:
    p = f"{tag}p"
    world.make(tag, world.local(p, f"{tag}1", IoV(0, 0, 0, 5)))
    links = [TagIov(p, 1, IoV(0, 6, 0, 6)), TagIov(p, 1, IoV(0, 8, 0, 9))]
    after = {(p, 1, "0,0,0,5"), (p, 1, "0,6,0,6"), (p, 1, "0,8,0,9")}
    return Change(tag, lambda client: client.add_iovs(tag, links), after, "add_iovs")


def updating(world: World, tag: str) -> Change:
    p, q = f"{tag}p", f"{tag}q"
    world.make(tag, world.local(p, f"{tag}1"), world.local(q, f"{tag}2"), state=TagState.RUNNING)
    world.truth.put_payloads([(p, world.file(f"{tag}3"))])
    document = world.update(tag, TagIov(p, 2, IoV(1, 0, -1, -1)), first_run=ExpRun(1, 0))
    after = {(p, 1, "0,0,0,-1"), (p, 2, "1,0,-1,-1"), (q, 1, "0,0,-1,-1")}
    return Change(
        tag, lambda client: client.apply(document, RELEASE), after, "apply", whole=True, state=TagState.RUNNING
    )


def editing(world: World, tag: str) -> Change:
    p, q = f"{tag}p", f"{tag}q"
    world.make(tag, world.local(p, f"{tag}1"), world.local(q, f"{tag}2"))
    document = world.plan(
        tag,
        Operation("close", p, 1, IoV(0, 0, 0, 5)),
        Operation("create", p, 1, IoV(1, 0, 1, 5)),
        Operation("drop", q, 1, ALWAYS),
        kind=PlanKind.edit,
    )
    after = {(p, 1, "0,0,0,5"), (p, 1, "1,0,1,5")}
    return Change(tag, lambda client: client.apply(document, RELEASE), after, "apply")


def bringing_on(world: World, tag: str) -> Change:
    world.make(tag)

    def act(client: RestConditionsDB) -> None:
        client.set_state(tag, expected=TagState.OPEN, new=TagState.TESTING)

    return Change(tag, act, set(), "set_state", whole=True, state=TagState.TESTING)


def creating(_world: World, tag: str) -> Change:
    return Change(tag, lambda client: client.create_tag(tag, "for a test"), set(), "create_tag", whole=True)


def cloning(world: World, tag: str) -> Change:
    source, p = f"{tag}-source", f"{tag}p"
    world.make(source, world.local(p, f"{tag}1"))

    def act(client: RestConditionsDB) -> None:
        client.clone_tag(source, tag, state=TagState.VALIDATED, description="a copy")

    return Change(tag, act, {(p, 1, "0,0,-1,-1")}, "clone_tag", state=TagState.VALIDATED)


CHANGES = [uploading, replacing, adding, updating, editing, bringing_on, creating, cloning]
ONCE: dict[str, Fault] = {
    "unavailable": faults.unavailable,
    "reply lost": faults.lose_reply,
    "request lost": faults.lose_request,
    "a page instead": faults.html_page,
    "redirect": faults.redirect,
    "yes without doing it": faults.answering(204, b""),
}
OTHER: dict[str, Fault] = {
    "empty": faults.empty,
    "malformed": faults.malformed,
    "proxy error": faults.html_error,
    "proxy refusal": faults.html_refusal,
    "proxy finds nothing": faults.html_absent,
    "another type": faults.wrong_type,
    "garbled after": faults.garbled_after,
    "proxy error after": faults.failed_after,
}
LASTING: dict[str, Fault] = {
    "unavailable from here on": faults.unavailable,
    "every reply lost from here on": faults.lose_reply,
    "killed here": faults.lose_request,
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world(tmp_path_factory.mktemp("world")) as world:
        yield world


def requests_of(world: World, change: Change) -> int:
    """How many requests the change takes when nothing goes wrong."""
    world.faults.reset()
    change.act(world.new_client())
    number = len(world.faults.requests)
    assert world.contents(change.tag) == change.after
    return number


def inject(world: World, change: Change, index: int, fault: Fault, *, times: int) -> None:
    """Make the change with a fault, then, if it failed, without."""
    before = world.contents(change.tag) if world.truth.get_tag(change.tag) else set()
    world.faults.at(index, fault, times=times)
    failed: CalibrationError | None = None
    try:
        change.act(world.new_client())
    except CalibrationError as error:
        failed = error
    uploads = len(world.faults.served("POST", "/payload"))
    world.faults.reset()
    if failed is not None:
        if change.whole and world.truth.get_tag(change.tag):
            assert world.contents(change.tag) in (before, change.after)
        change.act(world.new_client())
        uploads += len(world.faults.served("POST", "/payload"))
    tag = world.truth.get_tag(change.tag)
    assert tag is not None
    assert (world.contents(change.tag), tag.state) == (change.after, change.state)
    assert uploads == change.uploads
    if change.ended:
        assert [line.action for line in world.book.audit(change.tag)].count(change.ended) == 1


@pytest.mark.parametrize("fault", ONCE)
@pytest.mark.parametrize("prepare", CHANGES)
def test_whatever_happens_once_at_any_request_the_change_is_made_once(
    shared: World, prepare: Callable[[World, str], Change], fault: str
) -> None:
    kind = f"{prepare.__name__}-{list(ONCE).index(fault)}"
    number = requests_of(shared, prepare(shared, f"{kind}-undisturbed"))
    for index in range(number):
        inject(shared, prepare(shared, f"{kind}-{index}"), index, ONCE[fault], times=1)


@pytest.mark.parametrize("fault", OTHER)
@pytest.mark.parametrize("prepare", [replacing, updating])
def test_no_odd_reply_is_taken_for_an_answer(
    shared: World, prepare: Callable[[World, str], Change], fault: str
) -> None:
    kind = f"{prepare.__name__}-other-{list(OTHER).index(fault)}"
    number = requests_of(shared, prepare(shared, f"{kind}-undisturbed"))
    for index in range(number):
        inject(shared, prepare(shared, f"{kind}-{index}"), index, OTHER[fault], times=1)


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("prepare", CHANGES)
def test_a_change_that_breaks_off_at_any_request_is_completed_by_the_next_process(
    shared: World, prepare: Callable[[World, str], Change], fault: str
) -> None:
    kind = f"{prepare.__name__}-lasting-{list(LASTING).index(fault)}"
    number = requests_of(shared, prepare(shared, f"{kind}-undisturbed"))
    for index in range(number):
        inject(shared, prepare(shared, f"{kind}-{index}"), index, LASTING[fault], times=FOR_EVER)


@pytest.mark.parametrize("prepare", [replacing, updating, editing, bringing_on])
def test_a_stale_cache_delays_the_yes_and_never_makes_a_change_twice(
    world: World, prepare: Callable[[World, str], Change]
) -> None:
    change = prepare(world, "tag")
    world.faults.at(0, StaleCache(), times=FOR_EVER)
    with pytest.raises(BackendError) as raised:
        change.act(world.new_client())
    assert raised.value.transient
    writes = [one for one in world.faults.requests if "x-authorization" in one.headers]
    world.faults.reset()
    change.act(world.new_client())
    assert [one for one in world.faults.requests if "x-authorization" in one.headers] == []
    assert writes
    assert world.contents("tag") == change.after


def test_a_failed_look_up_is_not_taken_for_absent(world: World) -> None:
    world.make("a", world.local("p", "1"))
    client = world.new_client()
    client.list_tags()
    refusals = (faults.unavailable, faults.malformed, faults.html_absent, faults.wrong_type, faults.redirect)
    for fault in refusals:
        world.faults.at(0, fault, times=FOR_EVER)
        for ask in (
            lambda: client.get_tag("nobody"),
            client.list_tags,
            lambda: client.list_iovs("a"),
            lambda: client.find_payloads([("p", "0" * 32)]),
            lambda: client.payloads_of([("p", 7)]),
            lambda: client.resolve(["a"], ExpRun(0, 0)),
        ):
            with pytest.raises(BackendError):
                ask()


def test_the_error_names_the_step_and_whether_asking_again_helps(world: World) -> None:
    world.faults.at(1, faults.unavailable, times=FOR_EVER)
    with pytest.raises(BackendError, match=r"listing the global tags at http://127\.0\.0\.1.* 503") as raised:
        world.client.list_tags()
    assert raised.value.transient
    world.faults.at(0, faults.redirect)
    with pytest.raises(BackendError, match=r"listing the global tags failed.*308.*final address") as raised:
        world.client.list_tags()
    assert not raised.value.transient


def test_the_token_is_in_no_text_whatever_happens(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logging.Formatter("%(message)s %(exc_text)s"))
    texts = io.StringIO()
    kinds = [*ONCE.values(), *OTHER.values(), echo]
    for number, fault in enumerate(kinds):
        change = replacing(world, f"tag{number}")
        for index in range(2, 11):
            world.faults.at(index, fault, times=2)
            try:
                change.act(world.new_client())
            except CalibrationError as error:
                texts.write("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    signature = world.token.rpartition(".")[2]
    lines = [line for tag in range(len(kinds)) for line in world.book.audit(f"tag{tag}")]
    for text in (texts.getvalue(), caplog.text, repr(lines), repr(vars(world.new_client()))):
        assert signature not in text
    assert len(texts.getvalue()) > 1000


async def echo(_app: object, scope: dict, _receive: object, send: Callable) -> None:
    """A server that says back what it was sent."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    said = f'{{"code": 400, "reason": "Bad Request", "message": "{headers.get("x-authorization", "")}"}}'
    await faults.answering(400, said.encode())(None, scope, _nothing, send)


async def _nothing() -> dict:
    return {}
