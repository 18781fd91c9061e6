"""What clients read from the conditions server, asked for in all the ways they ask."""

import base64
import hashlib
from datetime import datetime
from pathlib import Path

import pytest
import requests
from belle2_client import Belle2Client, RefusedError
from servers.conditions_server import ConditionsServer

from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from resources.conditions.embedded import EmbeddedConditionsDB

ODD_NAME = "user_x+y:1_odd"


@pytest.fixture(scope="module")
def filled(server: ConditionsServer) -> Belle2Client:
    """A client, once the tag of the odd name has two payloads of one name and one of another."""
    client = Belle2Client(server.url, server.token("filler"))
    tag = client.create_tag(ODD_NAME)["globalTagId"]
    client.fill(tag, "BeamSpot", b"first", 0, 0, 3, 4)
    client.fill(tag, "BeamSpot", b"second", 3, 5, -1, -1)
    client.fill(tag, "file.with+dots:too", b"third", 3, 0, 3, -1)
    return client


def test_a_probe_is_answered_without_a_body_whatever_is_accepted(server):
    for path in ("globalTagStatus", "globalTags", "globalTags/"):
        reply = requests.head(f"{server.url}v2/{path}", headers={"Accept": "application/xml"}, timeout=10)
        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["Content-Type"] == "application/json"


def test_the_server_is_found_below_its_short_address_too(server):
    short = server.url.replace("/b2s/rest/", "/v2/globalTagStatus")
    names = [state["name"] for state in requests.get(short, timeout=10).json()]
    assert names == ["OPEN", "TESTING", "VALIDATED", "PUBLISHED", "RUNNING", "INVALID"]


def test_types_and_tags_are_listed(filled):
    assert [kind["name"] for kind in filled.ask("GET", "/globalTagType")] == ["DEV", "RELEASE"]
    assert ODD_NAME in [tag["name"] for tag in filled.ask("GET", "/globalTags")]


def test_a_tag_has_every_field_that_clients_read(filled):
    tag = filled.tag(ODD_NAME)
    assert (tag["name"], tag["description"], tag["isDefault"]) == (ODD_NAME, "a test", False)
    assert (tag["globalTagStatus"]["name"], tag["globalTagType"]["name"]) == ("OPEN", "DEV")
    assert (tag["payloadCount"], tag["modifiedBy"]) == (2, "filler")
    assert isinstance(tag["globalTagId"], int)
    assert datetime.fromisoformat(tag["dtmIns"]) <= datetime.fromisoformat(tag["dtmMod"])


def test_the_content_of_a_tag_is_listed_by_payload(filled):
    assert filled.content(ODD_NAME) == {
        ("BeamSpot", 1, 0, 0, 3, 4),
        ("BeamSpot", 2, 3, 5, -1, -1),
        ("file.with+dots:too", 1, 3, 0, 3, -1),
    }


@pytest.mark.parametrize(
    ("exp", "run", "valid"),
    [
        (0, 0, {("BeamSpot", 1)}),
        (3, 4, {("BeamSpot", 1), ("file.with+dots:too", 1)}),
        (3, 5, {("BeamSpot", 2), ("file.with+dots:too", 1)}),
        (4, 0, {("BeamSpot", 2)}),
    ],
)
def test_a_run_has_what_is_valid_in_it_ends_included(filled, exp, run, valid):
    assert filled.valid(ODD_NAME, exp, run) == valid


@pytest.mark.parametrize("name", ["user_x%2By%3A1_odd", "user_x%252By%253A1_odd", "user_x+y:1_odd"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_name_of_the_tag_may_be_encoded_twice_or_not_at_all(filled, name, slash):
    query = f"gtName={name}&expNumber=3&runNumber=5"
    found = requests.get(f"{filled.base}v2/iovPayloads{slash}?{query}", timeout=10).json()
    assert [item["payload"]["basf2Module"]["name"] for item in found] == ["BeamSpot", "file.with+dots:too"]
    assert found[0]["payloadIov"].keys() >= {"payloadIovId", "dtmIns", "dtmMod", "modifiedBy"}


def test_where_iovs_overlap_the_reader_gets_all_and_takes_the_highest_revision(filled):
    tag = filled.create_tag("overlapping")["globalTagId"]
    for i in range(3):
        filled.fill(tag, "Alignment", b"alignment %d" % i, i, 0, -1, -1)
    assert filled.valid("overlapping", 0, 9) == {("Alignment", 1)}
    assert filled.valid("overlapping", 2, 0) == {("Alignment", 1), ("Alignment", 2), ("Alignment", 3)}


def test_payloads_are_found_by_id_name_tag_and_checksum(filled):
    listed = filled.ask("GET", "/module/BeamSpot/payloads")
    first = listed[0]
    assert filled.ask("GET", f"/payload/{first['payloadId']}") == first
    assert first in filled.ask("GET", "/payloads")
    of_tag = filled.ask("GET", f"/globalTag/{ODD_NAME}/payloads")
    assert [payload["revision"] for payload in of_tag] == [1, 2, 1]
    md5 = hashlib.md5(b"first", usedforsecurity=False).hexdigest()
    asked = [{"name": "BeamSpot", "checksum": md5.upper()}, {"name": "BeamSpot", "checksum": "0" * 32}]
    assert filled.ask("POST", "/checkPayloads", json=asked) == [first]
    assert filled.ask("POST", "/checkPayloads", json=[]) == []


@pytest.mark.parametrize("name", ["BeamSpot", "file.with%2Bdots%3Atoo"])
def test_a_payload_file_is_where_its_object_says_with_its_checksum(filled, name):
    payload = filled.ask("GET", f"/module/{name}/payloads")[0]
    assert payload["basf2Module"]["basf2Package"]["name"] == "dbstore"
    reply = requests.get(payload["baseUrl"] + payload["payloadUrl"], timeout=10)
    digest = hashlib.md5(reply.content, usedforsecurity=False)
    assert digest.hexdigest() == payload["checksum"]
    assert reply.headers["Content-MD5"] == base64.b64encode(digest.digest()).decode()
    again = requests.get(reply.url, headers={"If-None-Match": reply.headers["ETag"]}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")


def test_a_damaged_payload_file_is_not_sent(filled, directory: Path):
    payload = filled.upload("Damaged", b"as it was")
    stored = directory / "payloads" / (digest := hashlib.sha256(b"as it was").hexdigest())[:2] / digest
    stored.chmod(0o644)
    stored.write_bytes(b"as it is!")
    reply = requests.get(payload["baseUrl"] + payload["payloadUrl"], timeout=10)
    assert reply.status_code == 500
    assert "damaged" in reply.json()["message"]


def test_a_tag_that_is_invalid_is_listed_but_not_served(client):
    client.create_tag("retired")
    client.set_state("retired", "TESTING", "VALIDATED", "PUBLISHED", "INVALID")
    assert client.content("retired") == set()
    with pytest.raises(RefusedError) as refused:
        client.valid("retired", 1, 1)
    assert refused.value.status == 409


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/globalTag/absent", 404),
        ("/globalTag/absent/globalTagPayloads", 404),
        ("/globalTag/absent/payloads", 404),
        ("/iovPayloads?gtName=absent&expNumber=1&runNumber=1", 404),
        ("/iovPayloads?gtName=absent", 400),
        ("/iovPayloads?gtName=absent&expNumber=-1&runNumber=1", 400),
        ("/iovPayloads?gtName=absent&expNumber=one&runNumber=1", 400),
        ("/payload/99999999", 404),
        ("/payload/nine", 400),
        ("/payload/99999999999999999999999999", 400),
        ("/nonsense", 404),
        ("/globalTag/a%2Fb", 404),
    ],
)
def test_what_is_not_there_is_said_in_json(client, path, status):
    with pytest.raises(RefusedError) as refused:
        client.ask("GET", path)
    assert refused.value.status == status
    assert refused.value.said["message"]


@pytest.mark.parametrize(
    "path",
    ["../../../etc/passwd", "Absent/dbstore_Absent_rev_1.root", "BeamSpot/dbstore_Other_rev_1.root", "BeamSpot/x"],
)
def test_only_payload_files_are_sent(filled, server, path):
    address = server.url.replace("b2s/rest/", "payloads/dbstore/")
    assert requests.get(address + path, timeout=10).status_code == 404


def test_a_wrong_verb_is_refused(client):
    with pytest.raises(RefusedError) as refused:
        client.ask("DELETE", "/globalTags")
    assert refused.value.status == 405


def test_a_change_by_another_process_is_seen_at_once(server, directory, url, client):
    client.create_tag("watched")
    elsewhere = EmbeddedConditionsDB(directory, url=url)
    file = directory.with_name("watched.root")
    for i in range(3):
        file.write_bytes(b"content %d" % i)
        payload = elsewhere.put_payload("Watched", file)
        elsewhere.add_iovs("watched", [TagIov("Watched", payload.revision, IoV(i, 0, i, -1))])
        assert client.valid("watched", i, 0) == {("Watched", payload.revision)}
    assert client.tag("watched")["payloadCount"] == 1
