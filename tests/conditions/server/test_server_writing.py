"""What clients change through the conditions server: tags, payloads and single links."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from belle2_client import Belle2Client, RefusedError, mixed

from b2cal_core.payloads import TRANSITIONS, TagState, broken_link
from b2cal_core.plans import fingerprint_of
from resources.conditions.embedded import EmbeddedConditionsDB

PATHS = {
    "OPEN": (),
    "TESTING": ("TESTING",),
    "VALIDATED": ("TESTING", "VALIDATED"),
    "PUBLISHED": ("TESTING", "VALIDATED", "PUBLISHED"),
    "RUNNING": ("RUNNING",),
    "INVALID": ("TESTING", "VALIDATED", "PUBLISHED", "INVALID"),
}


def refused(call, *arguments, **options) -> int:
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **options)
    assert caught.value.said["message"]
    return caught.value.status


def test_a_tag_is_made_in_the_name_of_the_token_whatever_the_client_claims(client, directory, url):
    made = client.create_tag("made_by_whom", "RELEASE")
    assert (made["modifiedBy"], made["globalTagType"]["name"]) == ("manager", "RELEASE")
    (line,) = EmbeddedConditionsDB(directory, url=url).audit("made_by_whom")
    assert (line.author, line.action) == ("manager", "create_tag")


def test_a_name_that_is_taken_or_none_is_refused(client):
    client.create_tag("taken")
    assert refused(client.create_tag, "taken") == 409
    assert refused(client.create_tag, "a name with blanks") == 400
    assert refused(client.create_tag, "of_no_type", "FINAL") == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<xml/>",
        b"[]",
        b'"text"',
        b'{"description": "no name"}',
        b'{"name": 5}',
        b'{"name": "half", "description": "\\ud800"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_malformed_tag_is_refused(client, body):
    assert refused(client.ask, "POST", "/globalTag/DEV", data=body) == 400
    assert refused(client.ask, "PUT", "/globalTag", data=body) == 400


def test_a_copy_is_called_after_its_source_until_it_is_renamed(client):
    source = client.create_tag("source_of_copy")
    client.fill(source["globalTagId"], "BeamSpot", b"copied", 1, 0, -1, -1)
    copy = client.ask("POST", f"/globalTags/{source['globalTagId']}")
    assert copy["name"] == f"{source['globalTagId']}_copy_of_source_of_copy"
    assert copy["globalTagStatus"]["name"] == "OPEN"
    renamed = client.ask("PUT", "/globalTag", json=copy | {"name": "the_copy"})
    assert (renamed["globalTagId"], renamed["name"]) == (copy["globalTagId"], "the_copy")
    assert client.content("the_copy") == client.content("source_of_copy")
    assert refused(client.tag, copy["name"]) == 404


def test_a_tag_is_described_anew_and_gets_another_type(client):
    made = client.create_tag("described")
    types = {kind["name"]: kind for kind in client.ask("GET", "/globalTagType")}
    wanted = made | {"description": "new words", "globalTagType": types["RELEASE"], "modifiedBy": "nobody"}
    client.ask("PUT", "/globalTag", json=wanted)
    found = client.tag("described")
    assert (found["description"], found["globalTagType"]["name"]) == ("new words", "RELEASE")
    assert found["modifiedBy"] == "manager"


def test_a_tag_changes_its_state_only_by_the_call_for_that(client):
    made = client.create_tag("by_the_back_door")
    assert refused(client.ask, "PUT", "/globalTag", json=made | {"globalTagStatus": {"name": "PUBLISHED"}}) == 409
    assert client.tag("by_the_back_door")["globalTagStatus"]["name"] == "OPEN"


def test_a_name_in_use_is_not_given_again(client):
    client.create_tag("in_use")
    made = client.create_tag("wants_the_same")
    assert refused(client.ask, "PUT", "/globalTag", json=made | {"name": "in_use"}) == 409
    assert refused(client.ask, "PUT", "/globalTag", json=made | {"globalTagId": 10**6}) == 404
    assert refused(client.ask, "PUT", "/globalTag", json=made | {"globalTagId": None}) == 400


@pytest.mark.parametrize("start", PATHS)
def test_a_state_is_left_as_the_rules_allow(client, start):
    for end in TagState:
        name = f"from_{start}_to_{end}"
        client.create_tag(name)
        client.set_state(name, *PATHS[start])
        if end in TRANSITIONS[TagState(start)]:
            client.set_state(name, end)
            assert client.tag(name)["globalTagStatus"]["name"] == end
        else:
            assert refused(client.set_state, name, end) == 409
            assert client.tag(name)["globalTagStatus"]["name"] == start


def test_a_state_or_tag_that_is_not_there_is_refused(client):
    client.create_tag("stays_open")
    assert refused(client.set_state, "stays_open", "FROZEN") == 400
    assert refused(client.set_state, "was_never_made", "TESTING") == 404


@pytest.mark.parametrize("state", [state for state in PATHS if state != "OPEN"])
def test_only_an_open_tag_is_changed(client, state):
    name = f"closed_{state}"
    made = client.create_tag(name)
    payload, link = client.fill(made["globalTagId"], "BeamSpot", b"closed in", 0, 0, 5, 5)
    client.set_state(name, *PATHS[state])
    before = client.content(name)
    assert refused(client.create_iov, made["globalTagId"], payload, 6, 0, 7, 0) == 409
    assert refused(client.ask, "PUT", f"/payloadIov/{link}", params=_edges(0, 0, 5, 6)) == 409
    assert refused(client.ask, "DELETE", f"/payloadIov/{link}") == 409
    now = client.tag(name)
    assert refused(client.ask, "PUT", "/globalTag", json=now | {"name": "another_name"}) == 409
    assert client.content(name) == before


def test_the_server_gives_revisions_and_knows_content_again(client):
    first = client.upload("Revised", b"one")
    second = client.upload("Revised", b"two")
    again = client.upload("Revised", b"one")
    assert (first["revision"], second["revision"]) == (1, 2)
    assert again == first


def test_one_content_sent_by_many_at_once_is_one_payload(server):
    def send(_i):
        return Belle2Client(server.url, server.token()).upload("AtOnce", b"the same")["payloadId"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(send, range(12)))) == 1


def test_content_comes_back_byte_for_byte(client):
    content = b"\r\n--\r\n\r\n\n--0123\x00\xff" + bytes(range(256)) * 300 + b"\r\n\r"
    stored = client.upload("Bytes", content)
    assert requests.get(stored["baseUrl"] + stored["payloadUrl"], timeout=10).content == content


def test_content_that_arrives_changed_is_not_stored(client):
    assert (
        refused(client.upload, "Changed", b"arrived", checksum=hashlib.md5(b"sent", usedforsecurity=False).hexdigest())
        == 400
    )
    assert client.ask("GET", "/module/Changed/payloads") == []


SAID = (
    "json",
    json.dumps({"checksum": hashlib.md5(b"x", usedforsecurity=False).hexdigest()}).encode(),
    "application/json",
)
FILE = ("f.root", b"x", "application/x-root")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        mixed(FILE),
        mixed(SAID),
        mixed(FILE, FILE, SAID),
        mixed(FILE, ("json", b"{}", "application/json")),
        mixed(FILE, ("json", b"[1]", "application/json")),
        mixed(FILE, ("json", b"{", "application/json")),
        (mixed(FILE, SAID)[0][:-20], mixed(FILE, SAID)[1]),
        (b"", "multipart/mixed; boundary=x"),
        (b"--x\r\nno blank line\r\n--x--", "multipart/mixed; boundary=x"),
        (mixed(FILE, SAID)[0], "multipart/mixed"),
        (mixed(FILE, SAID)[0], "application/x-root"),
        (mixed(FILE, SAID)[0], "multipart/mixed; boundary=another"),
    ],
)
def test_a_malformed_upload_stores_nothing(client, body, content_type):
    headers = {"Content-Type": content_type}
    status = refused(client.ask, "POST", "/package/dbstore/module/Malformed/payload", data=body, headers=headers)
    assert status == 400
    assert client.ask("GET", "/module/Malformed/payloads") == []


def test_a_payload_needs_a_name_that_a_file_can_have(client):
    assert refused(client.upload, "..", b"x") in {400, 404}
    assert refused(client.upload, "a b", b"x") == 400


def test_a_link_sent_twice_is_made_once(client):
    tag = client.create_tag("sent_twice")["globalTagId"]
    payload, link = client.fill(tag, "BeamSpot", b"linked", 1, 2, 3, -1)
    assert client.create_iov(tag, payload, 1, 2, 3, -1) == link
    assert client.content("sent_twice") == {("BeamSpot", _revision(client, payload), 1, 2, 3, -1)}


@pytest.mark.parametrize("iov", [(3, 0, 2, 0), (-1, 0, 2, 0), (0, 0, -1, 5), (0, 0, 2**31, 0), (0, 0, 10**30, 0)])
def test_an_iov_that_is_none_is_refused(client, iov):
    tag = client.create_tag(f"no_iov_{abs(hash(iov))}")["globalTagId"]
    payload, link = client.fill(tag, "BeamSpot", b"linked", 0, 0, -1, -1)
    assert refused(client.create_iov, tag, payload, *iov) == 400
    assert refused(client.ask, "PUT", f"/payloadIov/{link}", params=_edges(*iov)) == 400


def test_links_are_changed_and_deleted_by_their_id(client, directory, url):
    tag = client.create_tag("edited")["globalTagId"]
    payload, link = client.fill(tag, "BeamSpot", b"linked", 0, 0, 4, -1)
    revision = _revision(client, payload)
    client.ask("PUT", f"/payloadIov/{link}", params=_edges(7, 1, 8, 2))
    assert client.content("edited") == {("BeamSpot", revision, 7, 1, 8, 2)}
    assert client.link_ids("edited") == {("BeamSpot", revision): link}
    client.ask("DELETE", f"/payloadIov/{link}")
    assert client.content("edited") == set()
    assert refused(client.ask, "DELETE", f"/payloadIov/{link}") == 404
    database = EmbeddedConditionsDB(directory, url=url)
    lines = {line.action: line for line in database.audit("edited")}
    assert [line.author for line in lines.values()] == ["manager"] * 4
    then = database.list_iovs("edited", as_of=lines["create_iov"].id)
    assert [(each.id, tuple(each.iov)) for each in then] == [(link, (0, 0, 4, -1))]
    then = database.list_iovs("edited", as_of=lines["change_iov"].id)
    assert [(each.id, tuple(each.iov)) for each in then] == [(link, (7, 1, 8, 2))]


def test_what_is_not_there_cannot_be_linked_or_changed(client):
    tag = client.create_tag("links_nothing")["globalTagId"]
    payload = client.upload("BeamSpot", b"linked")["payloadId"]
    assert refused(client.create_iov, tag, 10**6, 0, 0, -1, -1) == 404
    assert refused(client.create_iov, 10**6, payload, 0, 0, -1, -1) == 404
    assert refused(client.ask, "PUT", "/payloadIov/99999999", params=_edges(0, 0, 1, 1)) == 404
    assert refused(client.ask, "PUT", "/payloadIov/1") == 400
    assert client.content("links_nothing") == set()


def test_everything_done_so_far_is_in_one_unbroken_log_and_every_fingerprint_fits(client, directory, url):
    database = EmbeddedConditionsDB(directory, url=url)
    assert broken_link(database.audit()) is None
    for tag in database.list_tags():
        assert database.fingerprint(tag.name) == fingerprint_of(tag.state, database.list_iovs(tag.name))


def _edges(*iov: int) -> dict[str, int]:
    return dict(zip(("expStart", "runStart", "expEnd", "runEnd"), iov, strict=True))


def _revision(client: Belle2Client, payload: int) -> int:
    return int(client.ask("GET", f"/payload/{payload}")["revision"])
