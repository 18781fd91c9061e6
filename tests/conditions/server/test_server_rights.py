"""Who may change what: tokens, their patterns, and that no token is ever written anywhere."""

import time
from pathlib import Path

import jwt
import pytest
import requests
from belle2_client import Belle2Client, RefusedError
from servers.conditions_server import ConditionsServer, ThreadedConditionsServer

from b2cal_core.errors import ConfigurationError
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server.app import create_app
from resources.conditions.server.tokens import Unauthenticated, issue, rights_of, secret_of

SECRET = "a secret of the tests, and long enough"  # noqa: S105 (of nothing else)


@pytest.fixture(scope="module")
def url() -> None:
    """Rights do not depend on the database; SQLite will do."""


def status_of(call, *arguments, **options) -> int:
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **options)
    return caught.value.status


def every_write(client: Belle2Client, tag: dict, payload: int, link: int):
    """All calls that change something, about a tag, a payload and a link of it."""
    name, number = tag["name"], tag["globalTagId"]
    yield client.create_tag, name + "_new"
    yield client.ask, "PUT", "/globalTag"
    yield client.ask, "POST", f"/globalTags/{number}"
    yield client.set_state, name, "TESTING"
    yield client.upload, "Refused", b"content"
    yield client.create_iov, number, payload, 5, 0, 6, 0
    yield client.ask, "PUT", f"/payloadIov/{link}?expStart=0&runStart=0&expEnd=1&runEnd=1"
    yield client.ask, "DELETE", f"/payloadIov/{link}"
    yield client.update_running, name


@pytest.fixture
def tag(client):
    name = f"user_x_{time.monotonic_ns()}"
    made = client.create_tag(name)
    return made, *client.fill(made["globalTagId"], "BeamSpot", b"rights", 0, 0, -1, -1)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer ",
        "Bearer nonsense",
        "Basic dXNlcjpwYXNz",
        f"Bearer {jwt.encode({'sub': 'u', 'exp': 2**33, 'b2cdb:admin': ['.*']}, SECRET)}",
        f"Bearer {jwt.encode({'sub': 'u', 'exp': 2**33, 'b2cdb:admin': ['.*']}, '', algorithm='none')}",
    ],
)
def test_without_a_token_of_ours_nothing_is_changed(server, client, tag, header):
    stranger = Belle2Client(server.url)
    if header is not None:
        stranger.session.headers["X-Authorization"] = header
    before = client.tag(tag[0]["name"]), client.content(tag[0]["name"])
    for call, *arguments in every_write(stranger, *tag):
        assert status_of(call, *arguments) == 401
    assert (client.tag(tag[0]["name"]), client.content(tag[0]["name"])) == before
    assert client.ask("GET", "/module/Refused/payloads") == []


def test_the_usual_header_for_passwords_is_no_token(server, tag):
    stranger = Belle2Client(server.url)
    stranger.session.headers["Authorization"] = f"Bearer {server.token()}"
    assert status_of(stranger.create_tag, "by_the_usual_header") == 401


def test_a_token_that_ran_out_or_never_ends_is_refused(server):
    spent = Belle2Client(server.url, server.token(seconds=-1))
    assert status_of(spent.create_tag, "too_late") == 401
    endless = jwt.encode({"sub": "u", "b2cdb:admin": [".*"]}, server.secret)
    assert status_of(Belle2Client(server.url, endless).create_tag, "endless") == 401


@pytest.mark.parametrize(
    "claims", [{"b2cdb:admin": ".*"}, {"b2cdb:admin": ["("]}, {"b2cdb:create_iov": [5]}, {"sub": 5}]
)
def test_a_token_with_odd_claims_is_refused(server, claims):
    odd = jwt.encode({"sub": "u", "exp": 2**33, "b2cdb:admin": [".*"]} | claims, server.secret)
    assert status_of(Belle2Client(server.url, odd).create_tag, "odd_claims") == 401


def test_a_pattern_must_fit_the_whole_name(server, client):
    x = Belle2Client(server.url, server.token("x", admin=["user_x_.*", "a+b"]))
    x.create_tag("user_x_mine")
    x.create_tag("aab")
    for name in ("user_xy_mine", "my_user_x_mine", "user_x", "a+b", "USER_X_mine"):
        assert status_of(x.create_tag, name) == 403


def test_who_may_only_fill_does_not_administer(server, client, tag):
    made, _, link = tag
    filler = Belle2Client(server.url, server.token("f", admin=[], create_iov=["user_x_.*"]))
    other = filler.upload("BeamSpot", b"by the filler")["payloadId"]
    filler.create_iov(made["globalTagId"], other, 1, 0, 2, 0)
    filler.ask("DELETE", f"/payloadIov/{link}")
    for call, *arguments in [
        (filler.set_state, made["name"], "TESTING"),
        (filler.create_tag, "user_x_of_the_filler"),
        (filler.ask, "POST", f"/globalTags/{made['globalTagId']}"),
        (filler.update_running, made["name"]),
    ]:
        assert status_of(call, *arguments) == 403
    assert status_of(filler.ask, "PUT", "/globalTag", json=made | {"description": "mine"}) == 403


def test_who_may_change_no_tag_may_not_upload(server, client):
    nobody = Belle2Client(server.url, server.token("n", admin=[]))
    assert status_of(nobody.upload, "Refused", b"content") == 403
    assert client.ask("GET", "/module/Refused/payloads") == []


def test_a_copy_is_renamed_by_its_maker_to_what_they_may_administer(server, client, tag):
    number = tag[0]["globalTagId"]
    x = Belle2Client(server.url, server.token("x", admin=["user_x_copy_.*"]))
    y = Belle2Client(server.url, server.token("y", admin=["user_y_.*"]))
    copy = x.ask("POST", f"/globalTags/{number}")
    assert status_of(y.ask, "PUT", "/globalTag", json=copy | {"name": "user_y_taken"}) == 403
    assert status_of(x.ask, "PUT", "/globalTag", json=copy | {"name": "main"}) == 403
    name = f"user_x_copy_{number}"
    x.ask("PUT", "/globalTag", json=copy | {"name": name})
    assert client.content(name) == client.content(tag[0]["name"])
    x.ask("PUT", "/globalTag", json=copy | {"name": name + "_again"})


def test_every_line_of_the_log_names_the_user_of_the_token(server, directory, url, client):
    x = Belle2Client(server.url, server.token("true_user", admin=["user_log_.*"]))
    made = x.create_tag("user_log_1")
    link = x.fill(made["globalTagId"], "BeamSpot", b"logged", 0, 0, -1, -1)[1]
    x.ask("PUT", f"/payloadIov/{link}?expStart=0&runStart=0&expEnd=1&runEnd=1")
    x.ask("PUT", "/globalTag", json=made | {"description": "new", "modifiedBy": "false_user"})
    x.set_state("user_log_1", "RUNNING")
    lines = EmbeddedConditionsDB(directory, url=url).audit("user_log_1")
    assert [line.action for line in lines] == ["create_tag", "create_iov", "change_iov", "change_tag", "set_state"]
    assert {line.author for line in lines} == {"true_user"}


def test_a_tag_somebody_holds_a_lease_on_is_left_alone(server, directory, url, client, tag):
    made, payload, link = tag
    lease = EmbeddedConditionsDB(directory, url=url).lease(made["name"], holder="a publisher", seconds=60)
    for call, *arguments in [
        (client.create_iov, made["globalTagId"], payload, 5, 0, 6, 0),
        (client.ask, "DELETE", f"/payloadIov/{link}"),
        (client.set_state, made["name"], "RUNNING"),
    ]:
        assert status_of(call, *arguments) == 409
    assert status_of(client.ask, "PUT", "/globalTag", json=made | {"description": "new"}) == 409
    EmbeddedConditionsDB(directory, url=url).end_lease(lease)
    client.set_state(made["name"], "RUNNING")


def test_a_token_is_checked_as_the_token_service_does(server):
    address = server.url.replace("b2s/rest/", "check")
    good = requests.get(address, params={"token": server.token("x")}, timeout=10)
    assert (good.status_code, good.json()["sub"]) == (200, "x")
    assert requests.get(address, params={"token": server.token(seconds=-1)}, timeout=10).status_code == 400
    assert requests.get(address, timeout=10).status_code == 400


def test_no_token_and_no_secret_is_ever_written(tmp_path):
    server = ConditionsServer(tmp_path / "database", log=tmp_path / "log")
    tokens = [server.token("x"), server.token(seconds=-1), server.token("y", admin=["user_y_.*"])]
    said = ""
    for token in tokens:
        client = Belle2Client(server.url, token)
        for call, *arguments in every_write(client, {"name": "user_y_1", "globalTagId": 1}, 1, 1):
            try:
                call(*arguments)
            except RefusedError as error:
                said += str(error)
        said += requests.get(server.url.replace("b2s/rest/", "check"), params={"token": token}, timeout=10).text
        client.session.get(server.url + f"v2/globalTag/{token}")
        client.session.get(server.url + "v2/globalTag/x", headers={"X-Authorization": f"Bearer {token}\tx"})
    (tmp_path / "database" / "conditions.db").write_bytes(b"damaged")
    assert Belle2Client(server.url, tokens[0]).session.get(server.url + "v2/globalTags").status_code >= 200
    server.stop()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (*tokens, server.secret):
        assert secret.encode() not in kept
        assert secret not in said


def test_a_request_that_is_too_large_is_refused_before_it_is_read_to_its_end(tmp_path):
    server = ThreadedConditionsServer(tmp_path / "database", largest_payload=1000)
    client = Belle2Client(server.url, server.token())
    try:
        assert client.upload("Small", b"x" * 500)["revision"] == 1
        assert status_of(client.upload, "Large", b"x" * 1000) == 413
        pieces = (b"x" * 100 for _ in range(1000))
        headers = {"Content-Type": "multipart/mixed; boundary=x"}
        path = "/package/dbstore/module/Large/payload"
        assert status_of(client.ask, "POST", path, data=pieces, headers=headers) == 413
        assert client.ask("GET", "/module/Large/payloads") == []
    finally:
        client.session.close()
        server.stop()


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path):
    file = tmp_path / "server" / "secret"
    secret = secret_of(file)
    assert secret_of(file) == secret
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret"]
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        secret_of(file)


def test_a_short_secret_signs_nothing(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="32 characters"):
        create_app(tmp_path, secret="short")  # noqa: S106 (it is refused)
    with pytest.raises(ConfigurationError, match="32 characters"):
        issue("short", "x", admin=[], seconds=60)


def test_a_token_carries_the_user_and_the_patterns():
    token = issue(SECRET, "x", admin=["a.*"], create_iov=["b.*"], seconds=60)
    rights = rights_of(SECRET, token)
    assert (rights.user, rights.admin, rights.create_iov) == ("x", ("a.*",), ("b.*",))
    with pytest.raises(Unauthenticated):
        rights_of(SECRET + "?", token)
    with pytest.raises(ConfigurationError, match="regular expression"):
        issue(SECRET, "x", admin=["("], seconds=60)
    with pytest.raises(ConfigurationError, match="name"):
        issue(SECRET, " ", admin=[], seconds=60)
