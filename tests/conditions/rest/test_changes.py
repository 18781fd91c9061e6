"""Changes that meet somebody else, and what the adapter does not do."""

from collections.abc import Callable
from dataclasses import replace
from threading import Barrier, Thread

import pytest
from servers import faults
from servers.rest_world import ALWAYS, RECORD, RELEASE, World
from starlette.types import ASGIApp, Receive, Scope, Send

from b2cal_core.errors import BackendError, ConfigurationError, ConflictError, DataError, RightsError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.publishing import Operation, TagIov
from b2cal_core.ranges import ExpRun, IoV

RUNS = IoV(1, 0, -1, -1)


def index_of(world: World, ending: str, act: Callable[[], object]) -> int:
    """The number of the first request to such a path, found by an attempt that gets no further."""
    world.faults.reset()
    act()
    paths = [one.path for one in world.faults.requests]
    return next(number for number, path in enumerate(paths) if path.endswith(ending))


def running(world: World, tag: str) -> PlanDocument:
    world.make(tag, world.local("p", "1"), state=TagState.RUNNING)
    world.truth.put_payloads([("p", world.file(text)) for text in ("2", "3")])
    return world.update(tag, TagIov("p", 2, RUNS), first_run=ExpRun(1, 0))


def writes(world: World) -> list[str]:
    return [f"{one.method} {one.path}" for one in world.faults.requests if "x-authorization" in one.headers]


def test_a_running_update_is_one_request(world: World) -> None:
    document = running(world, "a")
    world.faults.reset()
    after = world.client.apply(document, RELEASE)
    assert [one.split("/")[-1] for one in writes(world)] == ["updateRunningPayloads"]
    assert {(link.revision, str(link.iov)) for link in after} == {(1, "0,0,0,-1"), (2, "1,0,-1,-1")}
    assert world.client.fingerprint("a") == document.predicted == world.truth.fingerprint("a")
    assert [line.action for line in world.book.audit("a")] == ["begin", "apply"]
    world.faults.reset()
    assert world.client.apply(document, RELEASE) == after
    assert writes(world) == []


def test_a_tag_that_is_neither_as_before_nor_as_planned_is_reported(world: World) -> None:
    trial = running(world, "trial")
    world.client.get_tag("trial")
    number = index_of(world, "updateRunningPayloads", lambda: world.client.apply(trial, RELEASE))
    world.make("a", world.local("p", "1"), state=TagState.RUNNING)
    document = world.update("a", TagIov("p", 2, RUNS), first_run=ExpRun(1, 0))
    other = world.update("a", TagIov("p", 3, RUNS), first_run=ExpRun(1, 0))
    world.truth.record_provenance(world.book.provenance([("p", md5) for _, _, md5 in other.checksums]), author="bert")

    async def overtake(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        world.truth.apply(other, RELEASE)
        await faults.lose_request(app, scope, receive, send)

    world.faults.at(number, overtake)
    with pytest.raises(BackendError, match=rf"neither.*{document.predicted[:12]}.*compensating") as raised:
        world.client.apply(document, RELEASE)
    assert not raised.value.transient
    assert world.truth.fingerprint("a") == other.predicted
    with pytest.raises(ConflictError, match="was changed after the plan was made"):
        world.client.apply(document, RELEASE)


def test_the_same_content_by_somebody_else_is_not_taken_for_ours(world: World) -> None:
    document = running(world, "a")
    world.truth.record_provenance(
        world.book.provenance([("p", md5) for _, _, md5 in document.checksums]), author="bert"
    )
    world.truth.apply(document, RELEASE)
    with pytest.raises(ConflictError, match="was changed after the plan was made"):
        world.client.apply(document, RELEASE)


def test_an_update_without_provenance_sends_nothing(world: World) -> None:
    world.make("a", state=TagState.RUNNING)
    world.truth.put_payload("q", world.file("1"))
    document = world.update("a", TagIov("q", 1, ALWAYS), first_run=ExpRun(0, 0))
    incomplete = RECORD.model_copy(update={"validation": None})
    world.book.record_provenance({("q", document.checksums[0][2]): incomplete}, author="anna")
    world.faults.reset()
    with pytest.raises(DataError, match=r"lacks.*validation"):
        world.client.apply(document, RELEASE)
    assert writes(world) == []
    assert world.book.audit("a") == ()


def test_an_edit_that_somebody_disturbs_stops(world: World) -> None:
    world.make("a", world.local("p", "1", IoV(0, 0, 0, 5)), world.local("q", "1"))
    operations = [Operation("drop", "p", 1, IoV(0, 0, 0, 5)), Operation("drop", "q", 1, ALWAYS)]
    document = world.plan("a", *operations, kind=PlanKind.edit)

    async def overtake(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        world.truth.add_iovs("a", [TagIov("p", 1, IoV(7, 0, 7, 0))])
        await faults.lose_reply(app, scope, receive, send)

    world.make("trial", world.local("p", "1", IoV(0, 0, 0, 5)), world.local("q", "1"))
    trial = world.plan("trial", *operations, kind=PlanKind.edit)
    world.faults.reset()
    world.client.apply(trial, RELEASE)
    number = next(index for index, one in enumerate(world.faults.requests) if one.method == "DELETE")
    world.faults.at(number - 1, overtake)
    with pytest.raises(ConflictError, match="was changed after the plan was made"):
        world.client.apply(document, RELEASE)
    assert ("q", 1, "0,0,-1,-1") in world.contents("a")


def test_a_plan_that_does_not_make_what_it_predicts_is_refused(world: World) -> None:
    document = running(world, "a")
    world.make("b", world.local("p", "1"))
    edit = world.plan("b", Operation("drop", "p", 1, ALWAYS), kind=PlanKind.edit)
    for one in (document, edit):
        odd = replace(one, predicted="1" * 64 + "-" + one.fingerprint.rpartition("-")[2])
        with pytest.raises(ConflictError, match="do not make what it predicts"):
            world.client.apply(odd, RELEASE)
    assert world.book.audit("a") == world.book.audit("b") == ()


def test_a_tag_that_somebody_else_has_leased_is_left_alone(world: World) -> None:
    document = running(world, "a")
    world.make("open", world.local("p", "1"))
    held = [world.book.lease(tag, holder="bert", seconds=60) for tag in ("a", "open")]
    world.faults.reset()
    for act in (
        lambda: world.client.apply(document, RELEASE),
        lambda: world.client.replace_iovs("open", ["p"], []),
        lambda: world.client.add_iovs("open", []),
        lambda: world.client.set_state("open", expected=TagState.OPEN, new=TagState.TESTING),
        lambda: world.client.lease("open", holder="anna", seconds=5),
    ):
        with pytest.raises(ConflictError, match="bert"):
            act()
    assert writes(world) == []
    assert world.client.apply(document, RELEASE, lease=held[0])


def test_a_lease_that_is_lost_during_the_checks_stops_the_update(world: World) -> None:
    document = running(world, "a")
    lease = world.client.lease("a", holder="anna", seconds=60)

    async def take_over(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        world.book.end_lease(lease)
        world.book.lease("a", holder="bert", seconds=60)
        await app(scope, receive, send)

    world.faults.at(1, take_over)
    with pytest.raises(ConflictError, match="anna"):
        world.client.apply(document, RELEASE, lease=lease)
    assert writes(world) == []


def test_a_change_that_is_refused_half_way_says_that_it_is_half_done(world: World) -> None:
    world.make("a", world.local("p", "1"), world.local("q", "1"))
    no = faults.answering(403, b'{"code": 403, "reason": "Forbidden", "message": "not any more"}')
    world.client.get_tag("a")
    world.faults.reset()
    world.faults.at(4, no)
    with pytest.raises(BackendError, match=r"broken off after 1 of 2 steps.*not any more") as raised:
        world.client.replace_iovs("a", ["p", "q"], [])
    assert not raised.value.transient
    assert isinstance(raised.value.__cause__, RightsError)
    world.client.replace_iovs("a", ["p", "q"], [])
    assert world.contents("a") == set()


def test_a_copy_that_a_broken_clone_left_is_named(world: World) -> None:
    world.make("a", world.local("p", "1"))
    client = world.new_client()
    client.get_tag("a")
    world.faults.at(7, faults.lose_request, times=100)
    with pytest.raises(BackendError):
        client.clone_tag("a", "b")
    world.faults.reset()
    (left,) = [tag.name for tag in world.truth.list_tags("*_copy_of_a")]
    with pytest.raises(ConflictError, match=left):
        world.client.clone_tag("a", "c")
    assert world.client.clone_tag("a", "b").name == "b"
    assert world.client.clone_tag("a", "c").name == "c"
    assert [tag.name for tag in world.truth.list_tags()] == ["a", "b", "c"]


def test_what_changes_nothing_is_neither_sent_nor_noted(world: World) -> None:
    world.make("a", world.local("p", "1"))
    world.faults.reset()
    world.client.replace_iovs("a", ["p"], [world.local("p", "1")])
    world.client.add_iovs("a", [TagIov("p", 1, ALWAYS)])
    world.client.put_payload("p", world.file("1"))
    assert (writes(world), world.book.audit()) == ([], ())


def test_two_who_fill_one_tag_at_once_both_succeed(world: World) -> None:
    world.make("a")
    start, clients = Barrier(2), [world.new_client(), world.new_client()]

    def fill(number: int) -> None:
        start.wait()
        lines = [world.local(f"{number}-{name}", f"{number}") for name in "abc"]
        clients[number].replace_iovs("a", [line.name for line in lines], lines)

    threads = [Thread(target=fill, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name for name, _, _ in world.contents("a")} == {f"{number}-{name}" for number in range(2) for name in "abc"}


def test_what_the_server_cannot_do_is_refused_with_the_way_out(world: World) -> None:
    world.make("a", world.local("p", "1"))
    promised = world.client.capabilities
    assert [promised.time_machine, promised.rollback, promised.atomic_edit] == [False, False, False]
    for look in (
        lambda: world.client.list_iovs("a", as_of=1),
        lambda: world.client.resolve(["a"], ExpRun(0, 0), as_of=1),
    ):
        with pytest.raises(ConfigurationError, match="snapshot"):
            look()
    plan = world.plan("a", Operation("drop", "p", 1, ALWAYS), kind=PlanKind.edit)
    with pytest.raises(ConfigurationError, match="compensating update"):
        world.client.apply(replace(plan, kind=PlanKind.rollback), RELEASE)
    with pytest.raises(ConfigurationError, match="approver"):
        world.client.apply(plan, replace(RELEASE, approver=""))
    with pytest.raises(ConfigurationError, match="DEV or RELEASE"):
        world.client.create_tag("b", type="TOY")
