"""Disks, files and configurations that fail: one clear error, and nothing changed."""

import errno
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from kept_database import KeptDatabase
from servers.mariadb import MariaDBServer

from b2cal_core.errors import BackendError, ConfigurationError, ConflictError, IntegrityError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights
from resources.conditions.embedded import EmbeddedConditionsDB

ALWAYS = IoV(0, 0, -1, -1)


class FailAt:
    """A disk that fails with this error at the given step."""

    def __init__(self, step: str, number: int) -> None:
        self.step, self.number = step, number

    def __call__(self, step: str) -> None:
        if step == self.step:
            raise OSError(self.number, os.strerror(self.number))


def written(root: Path, text: str) -> Path:
    file = root / f"{text}.root"
    file.write_text(text)
    return file


def fill(conditions: EmbeddedConditionsDB, root: Path) -> None:
    """One tag with one payload."""
    conditions.create_tag("a")
    conditions.replace_iovs("a", ["p"], [LocalPayload("p", written(root, "old"), ALWAYS)])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of a database on SQLite that has one tag with one payload."""
    fill(EmbeddedConditionsDB(tmp_path / "conditions"), tmp_path)
    return tmp_path / "conditions"


@pytest.fixture
def filled(database: KeptDatabase) -> KeptDatabase:
    """A database, on either server, that has one tag with one payload."""
    fill(database.open(), database.root)
    return database


@pytest.mark.parametrize("step", ["write payload file", "rename payload file"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_a_payload_file_leaves_nothing_behind(filled: KeptDatabase, step: str, number: int) -> None:
    failing = filled.open(on_step=FailAt(step, number))
    before = filled.payload_files(), failing.fingerprint("a")
    with pytest.raises(BackendError, match=os.strerror(number)) as raised:
        failing.replace_iovs("a", ["p"], [LocalPayload("p", written(filled.root, "new"), ALWAYS)])
    assert not raised.value.transient
    assert (filled.payload_files(), failing.fingerprint("a")) == before


def test_a_full_disk_below_the_database_undoes_the_change(home: Path, tmp_path: Path) -> None:
    full = EmbeddedConditionsDB(home, pooled=False)
    with full.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    sa.event.listen(full.engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={pages}"))
    many = [LocalPayload(f"name{number}", written(tmp_path, "new"), ALWAYS) for number in range(500)]
    before = full.fingerprint("a"), full.audit()
    with pytest.raises(BackendError, match="disk is full"):
        full.replace_iovs("a", [local.name for local in many], many)
    assert (full.fingerprint("a"), full.audit()) == before


def test_a_read_only_database_can_be_read_and_says_that_it_cannot_be_written(home: Path, tmp_path: Path) -> None:
    read_only = EmbeddedConditionsDB(home, pooled=False)
    sa.event.listen(read_only.engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only=ON"))
    assert read_only.resolve(["a"], ExpRun(0, 0))["p"].payload.revision == 1
    with pytest.raises(BackendError, match="cannot be written to"):
        read_only.put_payload("p", written(tmp_path, "new"))


def test_a_writer_that_holds_on_for_too_long_is_worth_another_try(home: Path) -> None:
    waiting = EmbeddedConditionsDB(home, pooled=False)
    sa.event.listen(waiting.engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=0"))
    holder = sqlite3.connect(home / "conditions.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendError, match="ask again") as raised:
        waiting.create_tag("b")
    assert raised.value.transient
    assert waiting.get_tag("b") is None
    holder.close()


def test_a_damaged_payload_file_is_never_handed_out(filled: KeptDatabase, tmp_path: Path) -> None:
    conditions = filled.open()
    payload = conditions.resolve(["a"], ExpRun(0, 0))["p"].payload
    stored = conditions.payload_file(payload)
    stored.chmod(0o644)
    stored.write_text("ald")
    with pytest.raises(IntegrityError, match="payload p revision 1"):
        conditions.payload_file(payload)
    with pytest.raises(IntegrityError, match="payload p revision 1"):
        conditions.export(["a"], tmp_path / "out", within=ALWAYS)
    assert not (tmp_path / "out").exists()


def test_a_lost_payload_file_comes_back_with_the_next_upload(home: Path, tmp_path: Path) -> None:
    conditions = EmbeddedConditionsDB(home)
    payload = conditions.resolve(["a"], ExpRun(0, 0))["p"].payload
    conditions.payload_file(payload).unlink()
    with pytest.raises(IntegrityError, match="No such file"):
        conditions.payload_file(payload)
    assert conditions.put_payload("p", written(tmp_path, "old")) == payload
    assert conditions.payload_file(payload).read_text() == "old"


def test_two_contents_with_one_md5_are_told_apart(tmp_path: Path) -> None:
    one = bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    )
    other = bytearray(one)
    for place in (19, 45, 59, 83, 109, 123):  # the collision of Wang and Yu: these bits flipped give the same MD5
        other[place] ^= 0x80
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)
    conditions = EmbeddedConditionsDB(tmp_path / "conditions")
    conditions.put_payload("p", tmp_path / "one")
    with pytest.raises(IntegrityError, match="same MD5"):
        conditions.put_payload("p", tmp_path / "other")
    assert conditions.payload("p", 2) is None


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    rubbish = b"this was never a database" * 100
    (tmp_path / "conditions.db").write_bytes(rubbish)
    with pytest.raises(BackendError, match=r"conditions\.db"):
        EmbeddedConditionsDB(tmp_path)
    assert (tmp_path / "conditions.db").read_bytes() == rubbish


def test_a_damaged_database_is_an_error_and_no_empty_answer(home: Path) -> None:
    file = home / "conditions.db"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    with pytest.raises(BackendError, match="put back a copy"):
        EmbeddedConditionsDB(home).list_iovs("a")


@pytest.mark.parametrize("lost", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
def test_a_database_that_was_lost_is_not_replaced_by_an_empty_one(home: Path, lost: Callable[[Path], object]) -> None:
    lost(home / "conditions.db")
    with pytest.raises(BackendError, match=r"payload files.*put back a copy"):
        EmbeddedConditionsDB(home)


def test_tables_of_another_version_are_not_touched(filled: KeptDatabase) -> None:
    with filled.open().engine.begin() as connection:
        connection.exec_driver_sql("UPDATE cdb_version SET version_num='9999'")
    with pytest.raises(BackendError, match=r"version 9999.*b2cal cdb upgrade"):
        filled.open()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BackendError, match="file"):
        EmbeddedConditionsDB(tmp_path / "file" / "conditions")


@pytest.mark.parametrize("statement", ["UPDATE cdb_audit SET author='nobody'", "DELETE FROM cdb_audit"])
def test_the_audit_log_takes_new_lines_only(filled: KeptDatabase, statement: str) -> None:
    conditions = filled.open()
    before = conditions.audit()
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), conditions.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert conditions.audit() == before


def test_the_audit_log_has_the_time_of_the_given_clock_and_the_name_of_the_user(database: KeptDatabase) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    conditions = database.open(rights=Rights.everything("anna"), clock=lambda: noon)
    conditions.create_tag("a")
    conditions.seen_by(Rights.everything("bert")).create_tag("b")  # a clock that stands still changes only the log
    assert [(entry.when, entry.author) for entry in conditions.audit()] == [(noon, "anna"), (noon, "bert")]


def test_where_a_tag_that_was_taken_over_has_overlaps_the_highest_revision_wins(
    database: KeptDatabase, tmp_path: Path
) -> None:
    conditions = database.open()
    revisions = [conditions.put_payload("p", written(tmp_path, text)).revision for text in ("1", "2", "3")]
    conditions.put_payload("q", written(tmp_path, "1"))
    conditions.create_tag("a")
    legacy = [
        TagIov("p", revisions[1], IoV(0, 0, 0, 9)),
        TagIov("p", revisions[0], IoV(0, 5, 0, 20)),
        TagIov("p", revisions[2], IoV(0, 0, 0, 2)),
        TagIov("q", 1, ALWAYS),
    ]
    conditions.add_iovs("a", legacy, allow_overlaps=True)
    expected = {0: 3, 2: 3, 3: 2, 5: 2, 9: 2, 10: 1, 20: 1, 21: None}
    for run, revision in expected.items():
        found = {name: one.payload.revision for name, one in conditions.resolve(["a"], ExpRun(0, run)).items()}
        assert found.get("p") == revision
        assert found["q"] == 1
    conditions.replace_iovs("a", ["p"], [LocalPayload("p", written(tmp_path, "1"), ALWAYS)])
    assert conditions.resolve(["a"], ExpRun(0, 3))["p"].payload.revision == 1


def test_states_that_are_served_can_be_narrowed_but_never_to_take_in_invalid(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="INVALID"):
        EmbeddedConditionsDB(home, served=frozenset(TagState))
    strict = EmbeddedConditionsDB(home, served=frozenset({TagState.PUBLISHED, TagState.RUNNING}))
    with pytest.raises(ConflictError, match="a is OPEN"):
        strict.resolve(["a"], ExpRun(0, 0))


def test_runs_beyond_what_the_database_can_hold_are_refused_and_the_largest_are_kept(
    database: KeptDatabase, tmp_path: Path
) -> None:
    conditions = database.open()
    conditions.create_tag("a")
    file = written(tmp_path, "1")
    largest = IoV(0, 0, 2**31 - 2, 2**31 - 2)
    conditions.replace_iovs("a", ["p"], [LocalPayload("p", file, largest)])
    assert [link.iov for link in conditions.list_iovs("a")] == [largest]
    assert "p" not in conditions.resolve(["a"], ExpRun(2**40, 2**40))
    with pytest.raises(ConfigurationError, match="go up to"):
        conditions.replace_iovs("a", ["p"], [LocalPayload("p", file, IoV(0, 0, 0, 2**31 - 1))])


# A database server


def test_a_server_that_is_gone_is_worth_another_try_and_nothing_was_changed(
    mariadb: MariaDBServer, tmp_path: Path
) -> None:
    database = KeptDatabase(tmp_path, mariadb.new_database())
    conditions = database.open()
    fill(conditions, tmp_path)
    before = conditions.list_iovs("a")
    mariadb.kill()
    try:
        for call in (lambda: conditions.list_iovs("a"), lambda: conditions.create_tag("b"), database.open):
            with pytest.raises(BackendError, match="does not answer") as raised:
                call()
            assert raised.value.transient
    finally:
        mariadb.restart()
    assert conditions.list_iovs("a") == before
    assert conditions.create_tag("b") == conditions.get_tag("b")


def test_a_server_that_refuses_the_user_is_named_without_the_password(mariadb: MariaDBServer, tmp_path: Path) -> None:
    url = sa.make_url(mariadb.new_database()).set(username="stranger", password="open sesame")  # noqa: S106 (nobody's)
    with pytest.raises(BackendError, match="refuses the user") as raised:
        EmbeddedConditionsDB(tmp_path / "conditions", url=url)
    assert "open sesame" not in f"{raised.value} {raised.value.__cause__}"
    assert not raised.value.transient


def test_a_database_that_the_server_does_not_have_is_not_made_by_accident(
    mariadb: MariaDBServer, tmp_path: Path
) -> None:
    url = sa.make_url(mariadb.new_database()).set(database="absent")
    with pytest.raises(BackendError, match="no such database"):
        EmbeddedConditionsDB(tmp_path / "conditions", url=url)


def test_payload_files_beside_an_empty_database_of_a_server_are_no_new_beginning(
    mariadb: MariaDBServer, tmp_path: Path
) -> None:
    fill(KeptDatabase(tmp_path, mariadb.new_database()).open(), tmp_path)
    with pytest.raises(BackendError, match=r"payload files.*put back a copy"):
        KeptDatabase(tmp_path, mariadb.new_database()).open()
