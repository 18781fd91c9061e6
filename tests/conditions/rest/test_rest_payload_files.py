from pathlib import Path

import pytest
from servers import faults
from servers.rest_world import World

from b2cal_core.errors import BackendError, ConfigurationError, DataError, IntegrityError
from b2cal_core.payloads import Payload
from b2cal_core.ranges import ExpRun
from resources.conditions.rest import uploads
from resources.conditions.rest.shapes import PayloadRecord


def stored(world: World) -> Payload:
    world.make("a", world.local("p", "content"))
    return world.client.resolve(["a"], ExpRun(0, 0))["p"].payload


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_file_is_fetched_once_and_kept_where_readers_look_for_it(world: World) -> None:
    payload = stored(world)
    file = world.client.payload_file(payload)
    assert file == world.root / "cache" / payload.md5[:2] / "p_r1.root"
    world.faults.reset()
    assert world.client.payload_file(payload).read_text() == "content"
    assert world.faults.requests == []


def test_a_damaged_file_is_fetched_again(world: World) -> None:
    payload = stored(world)
    file = world.client.payload_file(payload)
    file.chmod(0o644)
    file.write_text("Content")
    assert world.client.payload_file(payload).read_text() == "content"


@pytest.mark.parametrize("times", [1, 2])
def test_damaged_content_is_never_handed_out(world: World, times: int) -> None:
    payload = stored(world)
    world.faults.at(1, faults.damage_file, times=times)
    if times == 1:
        assert world.client.payload_file(payload).read_text() == "content"
        return
    with pytest.raises(IntegrityError, match="p revision 1"):
        world.client.payload_file(payload)
    assert files_below(world.root / "cache") == []


@pytest.mark.parametrize("fault", [faults.unavailable, faults.lose_request, faults.lose_reply, faults.redirect])
def test_a_download_that_breaks_off_leaves_nothing_behind(world: World, fault: faults.Fault) -> None:
    payload = stored(world)
    world.faults.at(1, fault)
    with pytest.raises(BackendError, match="downloading p revision 1"):
        world.client.payload_file(payload)
    assert files_below(world.root / "cache") == []
    assert world.client.payload_file(payload).read_text() == "content"


def test_a_page_instead_of_a_file_is_no_payload(world: World) -> None:
    payload = stored(world)
    world.faults.at(1, faults.html_page, times=2)
    with pytest.raises(IntegrityError):
        world.client.payload_file(payload)


def test_a_payload_that_the_server_does_not_have_has_no_file(world: World) -> None:
    payload = stored(world)
    with pytest.raises(DataError, match="p revision 2"):
        world.client.payload_file(Payload("p", 2, md5=payload.md5))
    with pytest.raises(DataError, match="no MD5"):
        world.client.payload_file(Payload("p", 1, md5="../../etc/passwd"))
    with pytest.raises(ConfigurationError, match="payload"):
        world.client.payload_file(Payload("../p", 1, md5=payload.md5))


def test_a_file_on_a_host_that_is_not_allowed_is_not_fetched(world: World) -> None:
    payload = stored(world)
    record = PayloadRecord(1, payload, "https://elsewhere.example.org/payloads/p.root")
    with pytest.raises(ConfigurationError, match=r"elsewhere\.example\.org"):
        world.client._files.fetch(record)


def test_an_upload_is_two_parts_of_a_mixed_body(world: World) -> None:
    world.client.put_payload("p", world.file("content"))
    (upload,) = world.faults.served("POST", "/package/dbstore/module/p/payload")
    assert upload.headers["content-type"].startswith("multipart/mixed; boundary=")


def test_of_payloads_that_exist_twice_the_first_is_used(world: World, caplog: pytest.LogCaptureFixture) -> None:
    payload = stored(world)
    twice = [PayloadRecord(9, Payload("p", 4, md5=payload.md5), ""), PayloadRecord(3, payload, "")]
    connection = world.client._connection
    object.__setattr__(connection, "calls", CheckedTwice(twice))
    found = uploads.existing(connection, [("p", payload.md5)])
    assert found[("p", payload.md5)].payload.revision == 1
    assert "exists twice" in caplog.text


class CheckedTwice:
    """A server on which two uploaders were equally quick."""

    def __init__(self, records: list[PayloadRecord]) -> None:
        self._records = records

    def check_payloads(self, _wanted: object) -> tuple[PayloadRecord, ...]:
        return tuple(sorted(self._records, key=lambda record: record.id))


def test_a_file_that_changes_while_it_is_uploaded_is_not_stored(world: World) -> None:
    file = world.file("content")
    keys = uploads.read_keys([("p", file)])
    file.write_text("changed")
    with pytest.raises(DataError, match="was changed"):
        uploads.store(world.client._connection, keys, {})
    assert world.truth.payload("p", 1) is None
