import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from servers.rest_world import World, keep_token

from b2cal_core.errors import RightsError
from b2cal_core.payloads import TagState
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.tokens import TokenFile, without_tokens

SECRET = "a secret that no server knows, for tokens nobody checks"  # noqa: S105 (see what it says)


def keep(path: Path, text: str, mode: int = 0o600) -> TokenFile:
    path.write_text(text)
    path.chmod(mode)
    return TokenFile(path)


def claims(**changes: object) -> str:
    end = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    return jwt.encode({"sub": "anna", "exp": int(end)} | changes, SECRET, algorithm="HS256")


def write_token(path: Path, *, seconds: float = 3600, admin: tuple[str, ...] = (".*",)) -> str:
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return keep_token(path, claims(exp=int(end.timestamp()), **{"b2cdb:admin": admin}))


def test_a_token_says_whose_it_is_when_it_ends_and_what_may_be_changed(tmp_path: Path) -> None:
    write_token(tmp_path / "token", admin=("data_.*",))
    token = TokenFile(tmp_path / "token").token()
    assert token.user == "anna"
    assert token.rights.may_administer("data_prompt")
    assert not token.rights.may_administer("online")
    assert 3000 < (token.expires - datetime.now(UTC)).total_seconds() <= 3600


@pytest.mark.parametrize(
    ("tag", "allowed"),
    [
        ("user_anna_x", True),
        ("temp_anna_x", True),
        ("user_annax_y", False),
        ("user_anna", False),
        ("x_user_anna_x", False),
    ],
)
def test_everybody_may_change_their_own_tags(tmp_path: Path, tag: str, *, allowed: bool) -> None:
    write_token(tmp_path / "token", admin=())
    assert TokenFile(tmp_path / "token").token().rights.may_administer(tag) is allowed


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o700])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(RightsError, match=rf"mode {mode:04o}.*chmod 600"):
        keep(tmp_path / "token", claims(), mode).token()


NO_TOKENS = {
    "empty": "",
    "words": "there is none here",
    "parts": "a.b.c",
    "header": f"{claims()}\nX-Injected: yes",
    "nobody's": claims(sub=None),
    "no end": claims(exp="tomorrow"),
    "endless": claims(exp=10**30),
    "one pattern": claims(**{"b2cdb:admin": "data_.*"}),
    "broken pattern": claims(**{"b2cdb:admin": ["data_[.*"]}),
}


@pytest.mark.parametrize("kind", NO_TOKENS)
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, kind: str) -> None:
    text = NO_TOKENS[kind]
    with pytest.raises(RightsError, match="token") as raised:
        keep(tmp_path / "token", text).token()
    assert not text or text not in str(raised.value)


def test_a_link_to_a_token_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    write_token(tmp_path / "token")
    (tmp_path / "link").symlink_to(tmp_path / "token")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "absent", "pipe"):
        with pytest.raises(RightsError, match=name):
            TokenFile(tmp_path / name).token()


def test_a_token_that_ends_too_early_is_renewed_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_token(path, seconds=60)
    with pytest.raises(RightsError, match=r"anna.*this takes up to 120 s"):
        TokenFile(path).token(120)
    renewed = TokenFile(path, refresh=lambda path: write_token(path, seconds=900) and None)
    assert renewed.token(10).rights == TokenFile(path).token().rights
    assert (renewed.token(120).expires - datetime.now(UTC)).total_seconds() > 800
    useless = TokenFile(path, refresh=lambda path: write_token(path, seconds=-1) and None)
    with pytest.raises(RightsError, match="ends or ended"):
        useless.token(1000)


def test_the_clock_that_is_given_decides(tmp_path: Path) -> None:
    write_token(tmp_path / "token")
    later = TokenFile(tmp_path / "token", clock=lambda: datetime.now(UTC) + timedelta(hours=2))
    with pytest.raises(RightsError, match="ended"):
        later.token()


def test_a_token_is_not_in_its_own_text(tmp_path: Path) -> None:
    secret = write_token(tmp_path / "token")
    assert secret not in repr(TokenFile(tmp_path / "token").token())
    assert without_tokens(f"sent Bearer {secret}, refused") == "sent Bearer (token), refused"


def writes_of(world: World) -> list[str]:
    return [one.path for one in world.faults.requests if one.method != "GET" and not one.path.endswith("checkPayloads")]


CHANGES: dict[str, Callable[[World, RestConditionsDB], object]] = {
    "put": lambda world, client: client.put_payload("p", world.file("new")),
    "replace": lambda world, client: client.replace_iovs("open", ["p"], [world.local("p", "new")]),
    "add": lambda _world, client: client.add_iovs("open", [TagIov("p", 1, IoV(2, 0, 2, 0))]),
    "state": lambda _world, client: client.set_state("open", expected=TagState.OPEN, new=TagState.TESTING),
    "create": lambda _world, client: client.create_tag("new"),
    "clone": lambda _world, client: client.clone_tag("open", "new"),
    "lease": lambda _world, client: client.lease("open", holder="anna", seconds=5),
}


# Uploading needs a token, but is not about a tag.
NOT_ALLOWED = [(change, problem) for change in CHANGES for problem in ("none", "expired", "readable", "foreign")]
NOT_ALLOWED.remove(("put", "foreign"))


@pytest.mark.parametrize(("change", "problem"), NOT_ALLOWED)
def test_without_the_right_nothing_is_uploaded_or_changed(world: World, change: str, problem: str) -> None:
    world.make("open", world.local("p", "old", IoV(0, 0, 1, 0)))
    world.write_token(seconds=-10 if problem == "expired" else 3600, admin=("user_bert_.*",))
    (world.root / "token").chmod(0o644 if problem == "readable" else 0o600)
    before, log = world.truth.fingerprint("open"), world.book.audit()
    client = world.new_client(anonymous=problem == "none")
    world.faults.reset()
    with pytest.raises(RightsError):
        CHANGES[change](world, client)
    assert [path for path in writes_of(world) if not path.endswith("globalTagStatus")] == []
    assert (world.truth.fingerprint("open"), world.book.audit()) == (before, log)


def test_a_token_with_a_wrong_signature_is_refused_by_the_server_before_anything_is_stored(world: World) -> None:
    world.make("open")
    end = int(datetime.now(UTC).timestamp()) + 3600
    forged = jwt.encode({"sub": "anna", "exp": end, "b2cdb:admin": [".*"]}, "x" * 40, algorithm="HS256")
    keep(world.root / "token", forged)
    with pytest.raises(RightsError, match=r"uploading payload p .*401") as raised:
        world.new_client().replace_iovs("open", ["p"], [world.local("p", "new")])
    assert forged not in str(raised.value)
    assert world.truth.payload("p", 1) is None


def test_reading_needs_no_token(world: World) -> None:
    world.make("a", world.local("p", "1"))
    client = world.new_client(anonymous=True)
    payload = client.resolve(["a"], ExpRun(0, 0))["p"].payload
    assert client.payload_file(payload).read_text() == "1"
    assert all("x-authorization" not in one.headers for one in world.faults.requests)


def test_who_may_only_fill_a_tag_may_not_publish_it(world: World) -> None:
    world.make("open", world.local("p", "old"))
    client = world.new_client(
        token=keep(world.root / "filler", world.server.token("anna", admin=[], create_iov=["open"]))
    )
    assert [link.revision for link in client.replace_iovs("open", ["p"], [world.local("p", "new")])] == [2]
    with pytest.raises(RightsError, match="bring to TESTING"):
        client.set_state("open", expected=TagState.OPEN, new=TagState.TESTING)
