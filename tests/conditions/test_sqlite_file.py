"""basf2's metadata file: its tables to the letter, what is refused, and what a killed export leaves."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from b2cal_core.errors import BackendError, ConfigurationError, ConflictError, DataError, IntegrityError
from b2cal_core.payloads import LocalPayload, Payload, TagState
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.payload_directories import keep_file
from resources.conditions.sqlite_export import export_sqlite
from resources.conditions.sqlite_file import SCHEMA, FileTag, SqliteMetadata
from resources.conditions.sqlite_writer import ServerIds

ALWAYS = IoV(0, 0, -1, -1)
MD5 = {
    "one": "f97c5d29941bfb1b2fdab0874906ab82",
    "two": "b8a9f715dbb64fd5c56e7783c6820a61",
    "three": "35d6d33467aae9a2e3dccb4b6b027878",
}

Fill = Callable[..., EmbeddedConditionsDB]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Gives a tag of a database these lines (name, content, IoV)."""

    def fill(tag: str, *lines: tuple[str, str, IoV], name: str = "conditions") -> EmbeddedConditionsDB:
        conditions = EmbeddedConditionsDB(tmp_path / name)
        if conditions.get_tag(tag) is None:
            conditions.create_tag(tag)
        for _, text, _ in lines:
            (tmp_path / text).write_text(text)
        local = [LocalPayload(payload, tmp_path / text, iov) for payload, text, iov in lines]
        conditions.replace_iovs(tag, {payload for payload, _, _ in lines}, local)
        return conditions

    return fill


def rows(file: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def altered(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


# The format


def test_a_file_has_the_tables_views_and_numbers_that_basf2_asks_for(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", IoV(0, 0, 3, 5)), ("p", "two", IoV(3, 6, 3, -1)), ("q.txt", "three", ALWAYS))
    file = export_sqlite(conditions, ["a"], tmp_path / "out" / "metadata.sqlite", base_url="https://server/payloads")
    assert rows(file, "PRAGMA application_id") == [(0xB2CDB,)]
    assert rows(file, "PRAGMA user_version") == [(1,)]
    assert rows(file, "PRAGMA journal_mode") == [("delete",)]
    assert rows(file, "SELECT * FROM baseUrls") == [(1, "https://server/payloads")]
    assert rows(file, "SELECT * FROM payloadNames") == [(1, "p"), (2, "q.txt")]
    assert rows(file, "SELECT * FROM payloads") == [
        (1, 1, 1, MD5["one"], None, 1),
        (2, 1, 2, MD5["two"], None, 1),
        (3, 2, 1, MD5["three"], None, 1),
    ]
    assert rows(file, "SELECT * FROM globaltags") == [(1, "a", "OPEN")]
    assert rows(file, "SELECT * FROM iovs") == [(1, 1, 0, 0, 3, 5), (1, 2, 3, 6, 3, -1), (1, 3, 0, 0, -1, -1)]
    assert rows(file, "SELECT * FROM full_payloads")[1] == (
        *(2, "p", 2, MD5["two"]),
        *("dbstore/p/dbstore_p_rev_2.root", "https://server/payloads"),
    )
    assert rows(file, "SELECT * FROM iov_payloads")[2] == (
        *("a", 3, "q.txt", 1, MD5["three"], 0, 0, -1, -1),
        *("dbstore/q.txt/dbstore_q.txt_rev_1.root", "https://server/payloads"),
    )


def test_the_tables_keep_the_promises_of_the_format(tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("INSERT INTO baseUrls VALUES (1, 'u')")
        connection.execute("INSERT INTO payloadNames VALUES (1, 'p')")
        connection.execute("INSERT INTO payloads VALUES (7, 1, 1, 'md5', NULL, 1)")
        connection.execute("INSERT INTO globaltags VALUES (5, 'a', 'OPEN')")
        connection.execute("INSERT INTO iovs VALUES (5, 7, 0, 0, -1, -1)")
        for statement in (
            "INSERT INTO baseUrls VALUES (2, 'u')",
            "INSERT INTO payloadNames VALUES (2, 'p')",
            "INSERT INTO payloads VALUES (8, 1, 1, 'other', NULL, 1)",
            "INSERT INTO payloads VALUES (8, 2, 1, 'other', NULL, 1)",
            "INSERT INTO globaltags VALUES (6, 'a', 'OPEN')",
            "INSERT INTO iovs VALUES (5, 7, 0, 0, -1, -1)",
            "INSERT INTO iovs VALUES (5, 9, 0, 0, -1, -1)",
            "DELETE FROM payloads",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
        connection.execute("DELETE FROM globaltags")
        assert connection.execute("SELECT * FROM iovs").fetchall() == []


def test_of_several_payloads_in_a_run_the_highest_revision_is_read(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", ALWAYS))
    fill("b", ("p", "two", ALWAYS))
    file = export_sqlite(conditions, ["a", "b"], tmp_path / "metadata.sqlite")
    altered(file, "INSERT INTO iovs VALUES (1, 2, 1, 2, 1, 3)")
    with SqliteMetadata(file) as metadata:
        found = [metadata.valid("a", ExpRun(1, run))["p"] for run in (1, 2, 3, 4)]
    assert [(one.payload.revision, str(one.iov)) for one in found] == [
        (1, "0,0,-1,-1"),
        (2, "1,2,1,3"),
        (2, "1,2,1,3"),
        (1, "0,0,-1,-1"),
    ]


def test_a_url_that_is_not_of_the_standard_form_is_read_as_it_is(fill: Fill, tmp_path: Path) -> None:
    file = export_sqlite(fill("a", ("p", "one", ALWAYS)), ["a"], tmp_path / "metadata.sqlite")
    altered(file, "UPDATE payloads SET payloadUrl = 'elsewhere/p.root'")
    assert rows(file, "SELECT payloadUrl FROM iov_payloads") == [("elsewhere/p.root",)]


# Adding to a file


def test_a_tag_is_replaced_as_a_whole_and_keeps_its_id_while_others_stay(fill: Fill, tmp_path: Path) -> None:
    file = tmp_path / "metadata.sqlite"
    conditions = fill("b", ("p", "one", ALWAYS), ("q", "two", ALWAYS))
    fill("a", ("q", "two", ALWAYS))
    export_sqlite(conditions, ["b", "a"], file)
    conditions.replace_iovs("b", ["p", "q"], [LocalPayload("p", tmp_path / "two", IoV(1, 0, -1, -1))])
    conditions.set_state("b", expected=TagState.OPEN, new=TagState.TESTING)
    export_sqlite(conditions, ["b"], file)
    with SqliteMetadata(file) as metadata:
        assert metadata.tags() == (FileTag(2, "a", "OPEN"), FileTag(1, "b", "TESTING"))
        assert [(link.name, link.revision, str(link.iov)) for link in metadata.content("b").iovs] == [
            ("p", 2, "1,0,-1,-1")
        ]
        assert [link.name for link in metadata.content("a").iovs] == ["q"]


def test_ids_are_those_of_the_server_where_they_are_given(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", ALWAYS))
    fill("b", ("p", "two", ALWAYS))
    file = tmp_path / "metadata.sqlite"
    ids = ServerIds({"a": 815}, {("p", 1): 4711})
    export_sqlite(conditions, ["a", "b"], file, base_url="s", ids=ids)
    assert rows(file, "SELECT globalTagId, payloadId FROM iovs") == [(815, 4711), (816, 4712)]
    for other, reason in (
        (ServerIds({"a": 1}), "tag a has the id 815, not 1"),
        (ServerIds({}, {("p", 1): 1}), "p revision 1 has the id 4711, not 1"),
    ):
        with pytest.raises(ConflictError, match=reason):
            export_sqlite(conditions, ["a"], file, base_url="s", ids=other)
    fill("c", ("q", "three", ALWAYS))
    for taken in (ServerIds({"c": 815}), ServerIds({}, {("q", 1): 4711})):
        with pytest.raises(ConflictError, match=r"ids of s are taken by something else"):
            export_sqlite(conditions, ["c"], file, base_url="s", ids=taken)
    assert rows(file, "SELECT globalTagName FROM globaltags ORDER BY globalTagId") == [("a",), ("b",)]


def test_tags_of_two_servers_do_not_come_into_one_file(fill: Fill, tmp_path: Path) -> None:
    file = tmp_path / "metadata.sqlite"
    export_sqlite(fill("a", ("p", "one", ALWAYS)), ["a"], file, base_url="https://one")
    before = file.read_bytes()
    with pytest.raises(ConflictError, match=r"has payloads of https://one.*cannot be in one file"):
        export_sqlite(fill("a", ("p", "one", ALWAYS)), ["a"], file, base_url="https://two")
    other = fill("c", ("p", "two", ALWAYS), name="other")
    with pytest.raises(ConflictError, match=f"p revision 1 has MD5 {MD5['one']}, not {MD5['two']}"):
        export_sqlite(other, ["c"], file, base_url="https://one")
    assert file.read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))


def test_a_payload_file_of_something_else_is_not_written_over(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", ALWAYS))
    foreign = tmp_path / "out" / MD5["one"][:2] / "p_r1.root"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("of another database")
    with pytest.raises(ConflictError, match=r"p_r1\.root has MD5 .* damaged or of another database"):
        export_sqlite(conditions, ["a"], tmp_path / "out" / "metadata.sqlite")
    assert foreign.read_text() == "of another database"
    assert not (tmp_path / "out" / "metadata.sqlite").exists()


def test_payload_files_go_where_they_are_asked_to_and_are_not_written_twice(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", ALWAYS), ("q", "one", ALWAYS))
    for _ in range(2):
        export_sqlite(conditions, ["a", "a"], tmp_path / "metadata.sqlite", payloads=tmp_path / "tree")
    files = sorted((tmp_path / "tree").rglob("*"))
    assert [str(file.relative_to(tmp_path / "tree")) for file in files] == ["f9", "f9/p_r1.root", "f9/q_r1.root"]
    before = files[1].stat()
    for stored in (tmp_path / "conditions" / "payloads").rglob("*"):
        if stored.is_file():
            stored.unlink()  # so that nothing can be copied
    export_sqlite(conditions, ["a"], tmp_path / "metadata.sqlite", payloads=tmp_path / "tree")
    assert files[1].stat() == before


# What is refused


def test_an_unknown_tag_is_not_exported(fill: Fill, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no tag nobody"):
        export_sqlite(fill("a"), ["a", "nobody"], tmp_path / "metadata.sqlite")
    assert not (tmp_path / "metadata.sqlite").exists()


class Restless(EmbeddedConditionsDB):
    """Somebody else changes the tag right after it was listed, so many times."""

    changes = 0

    def list_iovs(self, tag: str, within: IoV | None = None, *, as_of: int | None = None) -> tuple[TagIov, ...]:
        listed = super().list_iovs(tag, within, as_of=as_of)
        if self.changes:
            self.changes -= 1
            self.add_iovs(tag, [TagIov("p", 1, IoV(self.changes + 1, 0, self.changes + 1, 0))])
        return listed


def test_a_tag_that_changes_while_it_is_read_is_read_again(fill: Fill, tmp_path: Path) -> None:
    fill("a", ("p", "one", IoV(0, 0, 0, 0)))
    conditions = Restless(tmp_path / "conditions")
    conditions.changes = 3
    with pytest.raises(ConflictError, match="tag a was changed each time"):
        export_sqlite(conditions, ["a"], tmp_path / "metadata.sqlite")
    conditions.changes = 1
    conditions.replace_iovs("a", ["p"], [LocalPayload("p", tmp_path / "one", IoV(5, 0, 5, 0))])
    with SqliteMetadata(export_sqlite(conditions, ["a"], tmp_path / "metadata.sqlite")) as metadata:
        assert metadata.content("a").iovs == tuple(
            TagIov(x.name, x.revision, x.iov) for x in EmbeddedConditionsDB(tmp_path / "conditions").list_iovs("a")
        )


def test_content_that_is_not_the_payloads_is_never_put_in_place(tmp_path: Path) -> None:
    (tmp_path / "two").write_text("two")
    with pytest.raises(IntegrityError, match=f"has MD5 {MD5['two']}, payload p revision 1 has {MD5['one']}"):
        keep_file(Payload("p", 1, MD5["one"]), lambda: tmp_path / "two", tmp_path / "tree")
    assert list((tmp_path / "tree" / "f9").iterdir()) == []


def test_a_payload_file_that_the_disk_does_not_take_is_a_failure_of_the_platform(tmp_path: Path) -> None:
    (tmp_path / "f9").touch()
    with pytest.raises(BackendError, match="cannot write payload file"):
        keep_file(Payload("p", 1, MD5["one"]), lambda: tmp_path / "one", tmp_path)


def test_a_damaged_payload_of_the_database_ends_the_export(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", ALWAYS))
    (stored,) = (path for path in (tmp_path / "conditions" / "payloads").rglob("*") if path.is_file())
    stored.chmod(0o644)
    stored.write_text("damaged")
    with pytest.raises(IntegrityError, match="p revision 1 is damaged"):
        export_sqlite(conditions, ["a"], tmp_path / "out" / "metadata.sqlite")
    assert {path.name for path in (tmp_path / "out").rglob("*")} <= {".metadata.sqlite.lock", "f9"}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA application_id = 7", "has application_id 0x7 instead of 0xb2cdb"),
        ("PRAGMA user_version = 2", "has user_version 0x2 instead of 0x1"),
    ],
)
def test_a_file_of_another_kind_or_version_is_neither_read_nor_added_to(
    fill: Fill, tmp_path: Path, statement: str, words: str
) -> None:
    conditions = fill("a", ("p", "one", ALWAYS))
    file = export_sqlite(conditions, ["a"], tmp_path / "metadata.sqlite")
    altered(file, statement)
    before = file.read_bytes()
    with pytest.raises(DataError, match=words):
        SqliteMetadata(file)
    with pytest.raises(DataError, match=words):
        export_sqlite(conditions, ["a"], file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be taken for a header" * 9])
def test_a_file_that_is_no_database_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "metadata.sqlite"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"metadata\.sqlite"):
        SqliteMetadata(file)
    with pytest.raises(DataError, match="there is no sqlite metadata file"):
        SqliteMetadata(tmp_path / "absent.sqlite")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE iovs SET finalExp = -1, finalRun = 3", "bad IoV"),
        ("UPDATE iovs SET firstExp = 9, finalExp = 3", "bad IoV"),
        ("UPDATE iovs SET firstRun = 'x'", "bad IoV"),
        ("UPDATE payloads SET checksum = 'F97C'", "that is no payload"),
        ("UPDATE payloadNames SET payloadName = '../p'", "that is no payload"),
    ],
)
def test_rows_that_no_database_has_are_refused(fill: Fill, tmp_path: Path, statement: str, words: str) -> None:
    file = export_sqlite(fill("a", ("p", "one", IoV(0, 0, 3, -1))), ["a"], tmp_path / "metadata.sqlite")
    altered(file, statement)
    with SqliteMetadata(file) as metadata, pytest.raises(DataError, match=words):
        metadata.content("a")


def test_a_tag_that_the_file_does_not_have_is_named_with_those_it_has(fill: Fill, tmp_path: Path) -> None:
    file = export_sqlite(fill("a"), ["a"], tmp_path / "metadata.sqlite")
    with SqliteMetadata(file) as metadata, pytest.raises(ConfigurationError, match="has no tag b; it has a"):
        metadata.content("b")


def test_a_disk_that_does_not_take_the_file_is_a_failure_of_the_platform(fill: Fill, tmp_path: Path) -> None:
    conditions = fill("a", ("p", "one", ALWAYS))
    (tmp_path / "in_the_way").touch()
    with pytest.raises(BackendError, match="cannot write"):
        export_sqlite(conditions, ["a"], tmp_path / "in_the_way" / "metadata.sqlite")


# Crashes


class KillAt:
    """Kills its own process at the given step, counted from 0."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, _step: str) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def exported_until(conditions: EmbeddedConditionsDB, file: Path, step: int) -> bool:
    """Whether an export that is to be killed at a step came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            export_sqlite(conditions, ["a"], file, on_step=KillAt(step))
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code == 0


def kept(file: Path) -> Iterator[str]:
    """The contents of all payloads of a file, found beside it."""
    with SqliteMetadata(file) as metadata:
        metadata.check()
        for name, revision in metadata.content("a").payloads:
            (found,) = file.parent.glob(f"*/{name}_r{revision}.root")
            yield found.read_text()


def test_an_export_killed_anywhere_leaves_the_old_file_or_the_new_one(fill: Fill, tmp_path: Path) -> None:
    file = tmp_path / "out" / "metadata.sqlite"
    conditions = fill("a", ("p", "one", ALWAYS))
    export_sqlite(conditions, ["a"], file)
    old = file.read_bytes()
    fill("a", ("p", "two", ALWAYS), ("q", "three", ALWAYS))
    killed = 0
    while not exported_until(conditions, file, killed):
        ended = killed == 4  # told that all is in place
        assert (file.read_bytes() == old) != ended
        assert sorted(kept(file)) == (["three", "two"] if ended else ["one"])
        killed += 1
    assert killed == 5
    assert sorted(kept(file)) == ["three", "two"]
    assert [path.name for path in file.parent.iterdir() if path.suffix == ".part"] == []


def test_a_first_export_killed_before_the_metadata_leaves_no_file(fill: Fill, tmp_path: Path) -> None:
    file = tmp_path / "out" / "metadata.sqlite"
    conditions = fill("a", ("p", "one", ALWAYS), ("q", "two", ALWAYS))
    for step in range(4):
        assert not exported_until(conditions, file, step)
        assert not file.exists()
    assert exported_until(conditions, file, 99)
    assert sorted(kept(file)) == ["one", "two"]
