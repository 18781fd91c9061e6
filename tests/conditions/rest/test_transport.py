import json
import socket
from pathlib import Path

import pytest
from servers import faults
from servers.rest_world import World
from starlette.types import ASGIApp, Receive, Scope, Send

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.rest.addresses import checked_file, checked_server
from resources.conditions.rest.calls import Calls
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.replies import OutcomeUnknown
from resources.conditions.rest.tokens import TokenFile
from resources.conditions.rest.transport import Transport


@pytest.mark.parametrize(
    ("server", "base"),
    [
        ("http://127.0.0.1:8180", "http://127.0.0.1:8180/b2s/rest"),
        ("http://localhost:8180/", "http://localhost:8180/b2s/rest"),
        ("http://[::1]:8180/b2s/rest/", "http://[::1]:8180/b2s/rest"),
        ("https://cdb.example.org/b2s/rest", "https://cdb.example.org/b2s/rest"),
        ("https://CDB.example.org", "https://CDB.example.org/b2s/rest"),
    ],
)
def test_this_computer_and_the_hosts_that_are_named_may_be_asked(server: str, base: str) -> None:
    assert checked_server(server, {"cdb.example.org"}) == base


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("https://other.example.org/b2s/rest", r"other\.example\.org.*not among the hosts"),
        ("https://127.0.0.1.example.org", "not among the hosts"),
        ("https://localhost.example.org", "not among the hosts"),
        ("https://10.0.0.1", "not among the hosts"),
        ("http://cdb.example.org/b2s/rest", "over https only"),
        ("https://anna:secret@cdb.example.org/", "user or password"),
        ("ftp://cdb.example.org", "address like"),
        ("cdb.example.org", "address like"),
        ("http://127.0.0.1:port", "address like"),
        ("", "address like"),
    ],
)
def test_no_other_server_is_asked(server: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        Transport(server, allowed_hosts={"cdb.example.org"})
    assert "secret" not in str(raised.value)


def test_files_are_fetched_over_https_from_allowed_hosts_only() -> None:
    assert checked_file("http://cdb.example.org/x", {"cdb.example.org"}) == "https://cdb.example.org/x"
    assert checked_file("http://127.0.0.1:1/x", frozenset()) == "http://127.0.0.1:1/x"
    with pytest.raises(ConfigurationError, match="mirror"):
        checked_file("http://mirror.example.org/x", {"cdb.example.org"})


def test_requests_ask_for_json_past_caches_and_only_changes_carry_the_token(world: World) -> None:
    world.client.create_tag("a+b:c")
    for one in world.faults.requests:
        assert one.headers["accept"] == "application/json"
        assert one.headers["cache-control"] == "no-cache"
        assert ("x-authorization" in one.headers) == (one.path.endswith("globalTag/DEV"))
        assert "authorization" not in one.headers
    assert world.faults.requests[0].method == "HEAD"
    assert [one.method for one in world.faults.requests].count("HEAD") == 1


def test_names_that_addresses_give_a_meaning_to_arrive_whole(world: World) -> None:
    world.client.create_tag("a+b:c")
    world.client.replace_iovs("a+b:c", ["p+q:r"], [world.local("p+q:r", "1")])
    found = world.client.resolve(["a+b:c"], ExpRun(0, 0))["p+q:r"]
    assert world.client.payload_file(found.payload).read_text() == "1"
    world.client.set_state("a+b:c", expected=TagState.OPEN, new=TagState.TESTING)
    assert world.client.get_tag("a b:c") is None


def test_what_is_safe_is_asked_again_with_growing_pauses(world: World) -> None:
    world.client.list_tags()
    world.faults.at(0, faults.unavailable, times=2)
    assert world.client.list_tags() == ()
    assert len(world.faults.requests) == 3
    assert 0.25 <= world.pauses[0] <= 0.5 <= world.pauses[1] <= 1.0


def test_a_change_is_sent_once(world: World) -> None:
    calls = calls_of(world)
    for fault in (faults.unavailable, faults.lose_reply, faults.html_page, faults.malformed, faults.empty):
        world.faults.at(0, fault)
        with pytest.raises(OutcomeUnknown, match="not known"):
            calls.set_state("a", TagState.TESTING)
        assert len(world.faults.requests) == 1


def test_a_change_that_was_never_sent_may_be_sent_again(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pauses: list[float] = []
    patience = Patience(attempts=3, sleep=pauses.append)
    transport = Transport(f"http://127.0.0.1:{port}", token=TokenFile(world.root / "token"), patience=patience)
    with pytest.raises(BackendError, match="looking for the conditions server") as raised:
        transport.write("changing", "PUT", "globalTag")
    assert raised.value.transient
    assert not isinstance(raised.value, OutcomeUnknown)
    assert len(pauses) == 2


def test_redirects_are_not_followed_and_the_environment_is_not_heeded(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login anna password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client = world.new_client()
    assert client.list_tags() == ()
    assert all("authorization" not in one.headers for one in world.faults.requests)
    world.faults.at(0, faults.redirect)
    with pytest.raises(BackendError, match="308"):
        client.list_tags()
    assert len(world.faults.requests) == 1


def test_a_server_that_takes_too_long_is_given_up(world: World) -> None:
    transport = Transport(
        world.server.url, timeout=(1.0, 0.2), patience=Patience(attempts=2, sleep=world.pauses.append)
    )
    world.faults.at(0, faults.delayed(1.0), times=2)
    with pytest.raises(BackendError, match="no reply") as raised:
        Calls(transport).tags()
    assert raised.value.transient


def calls_of(world: World) -> Calls:
    transport = Transport(
        world.server.url,
        token=TokenFile(world.root / "token"),
        patience=Patience(attempts=3, sleep=world.pauses.append),
    )
    transport.probe()
    return Calls(transport)


def test_every_call_of_the_interface_is_there(world: World) -> None:
    world.make("a", world.local("p", "1", IoV(0, 0, 0, 5)))
    calls = calls_of(world)
    assert set(calls.tag_states()) == set(TagState)
    assert "DEV" in calls.tag_types()
    record = calls.tag("a")
    assert record is not None
    assert [one.name for one in calls.tags()] == ["a"]
    (payload,) = calls.payloads()
    assert calls.payload(payload.id) == payload
    assert calls.payload(payload.id + 1) is None
    assert calls.payloads_named("p") == calls.payloads_of_tag("a") == (payload,)
    assert calls.payloads_named("q") == ()
    assert calls.check_payloads([("p", payload.payload.md5), ("q", "0" * 32)]) == (payload,)
    calls.change_tag(record, {"description": "other"})
    link = calls.create_iov(record, payload.id, IoV(1, 0, 1, 5))
    calls.change_iov(link, IoV(1, 0, 1, 7))
    assert [str(one.link.iov) for one in calls.links("a") or ()] == ["0,0,0,5", "1,0,1,7"]
    assert [one.link.id for one in calls.valid("a", ExpRun(1, 6))] == [link]
    calls.delete_iov(link)
    calls.delete_iov(link)
    assert calls.clone_tag(record).name == f"{record.id}_copy_of_a"
    assert calls.links("nobody") is None


PAYLOAD = {"payloadId": 5, "basf2Module": {"name": "p"}, "revision": 2, "checksum": "0" * 32, "new": {"field": 1}}
IOV = {"payloadIovId": 7, "expStart": 0, "runStart": 0, "expEnd": -1, "runEnd": -1}


@pytest.fixture
def said(world: World) -> tuple[list[object], Calls]:
    """A server that says what a test put into the list."""
    answers: list[object] = []

    async def say(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await faults.answering(200, json.dumps(answers[-1] if answers else []).encode())(app, scope, receive, send)

    world.faults.at(0, say, times=100)
    return answers, Calls(Transport(world.server.url, patience=Patience(attempts=1)))


@pytest.mark.parametrize("key", ["payloadId", "payload"])
def test_the_payload_of_a_link_may_be_under_either_key(said: tuple[list[object], Calls], key: str) -> None:
    answers, calls = said
    answers.append([{key: PAYLOAD, "payloadIovs": [IOV]}])
    (found,) = calls.links("a") or ()
    assert (found.link.revision, found.link.id, found.payload.id) == (2, 7, 5)
    answers.append([{key: PAYLOAD, "payloadIov": IOV}])
    assert calls.valid("a", ExpRun(0, 0)) == (found,)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        "text",
        [None],
        [{"payloadId": 5, "payloadIovs": []}],
        [{"payloadId": PAYLOAD | {"revision": "2"}, "payloadIovs": [IOV]}],
        [{"payloadId": PAYLOAD | {"revision": 0}, "payloadIovs": [IOV]}],
        [{"payloadId": PAYLOAD | {"checksum": "short"}, "payloadIovs": [IOV]}],
        [{"payloadId": PAYLOAD | {"payloadId": True}, "payloadIovs": [IOV]}],
        [{"payloadId": PAYLOAD, "payloadIovs": [IOV | {"expStart": 1.5}]}],
        [{"payloadId": PAYLOAD, "payloadIovs": [IOV | {"expStart": None}]}],
        [{"payloadId": PAYLOAD, "payloadIovs": [IOV | {"runEnd": 7}]}],
        [{"payloadId": PAYLOAD, "payloadIovs": [IOV | {"expEnd": 0, "expStart": 3}]}],
        [{"payloadId": PAYLOAD, "payloadIovs": None}],
    ],
)
def test_an_answer_of_another_form_is_an_error_and_never_an_empty_tag(
    said: tuple[list[object], Calls], answer: object
) -> None:
    answers, calls = said
    answers.append(answer)
    with pytest.raises(BackendError, match="listing global tag a failed") as raised:
        calls.links("a")
    assert not raised.value.transient


def test_a_state_that_nobody_has_heard_of_is_an_error(said: tuple[list[object], Calls]) -> None:
    answers, calls = said
    shape = {"globalTagId": 1, "name": "a", "globalTagStatus": {"name": "MELTED"}, "globalTagType": {"name": "DEV"}}
    answers.append(shape)
    record = calls.tag("a")
    assert record is not None
    with pytest.raises(BackendError, match="MELTED"):
        _ = record.tag
