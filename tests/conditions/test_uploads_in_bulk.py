"""Many payloads in one call: all or none, files before rows, and each content once."""

import os
import time
from pathlib import Path

import pytest
from kept_database import KeptDatabase

from b2cal_core.errors import ConfigurationError, DataError, IntegrityError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import IoV

ALWAYS = IoV(0, 0, -1, -1)


def written(root: Path, *texts: str) -> list[Path]:
    files = [root / f"{text}.root" for text in texts]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return files


def test_one_missing_file_among_many_and_nothing_is_stored(database: KeptDatabase, tmp_path: Path) -> None:
    conditions = database.open()
    conditions.create_tag("a")
    before = database.rows(), database.payload_files()
    files = [("p", file) for file in (*written(tmp_path, "1", "2"), tmp_path / "absent.root", *written(tmp_path, "3"))]
    with pytest.raises(DataError, match=r"absent\.root"):
        conditions.put_payloads(files)
    lines = [LocalPayload("p", file, IoV(number, 0, number, 0)) for number, (_, file) in enumerate(files)]
    with pytest.raises(DataError, match=r"absent\.root"):
        conditions.replace_iovs("a", ["p"], lines)
    with pytest.raises(ConfigurationError, match="payload"):
        conditions.put_payloads([*files[:2], ("no/name", files[0][1])])
    assert (database.rows(), database.payload_files()) == before


def test_the_same_content_many_times_in_one_call_is_stored_once_for_each_name(
    database: KeptDatabase, tmp_path: Path
) -> None:
    conditions = database.open()
    one, other = written(tmp_path, "one", "other")
    twin = tmp_path / "twin.root"
    twin.write_text("one")
    stored = conditions.put_payloads([("p", one), ("q", one), ("p", twin), ("p", other), ("p", one), ("q", twin)])
    assert [(payload.name, payload.revision) for payload in stored] == [
        ("p", 1),
        ("q", 1),
        ("p", 1),
        ("p", 2),
        ("p", 1),
        ("q", 1),
    ]
    assert stored[0] == stored[2] == stored[4]
    assert len(database.rows()["cdb_payloads"]) == 3
    assert len(database.payload_files()) == 2
    assert conditions.put_payloads([("p", twin), ("p", other)]) == (stored[0], stored[3])
    assert len(database.rows()["cdb_payloads"]) == 3


def test_three_hundred_files_are_stored_in_order_and_given_back(database: KeptDatabase, tmp_path: Path) -> None:
    conditions = database.open()
    texts = [f"content {number}" for number in range(300)]
    files = [(f"p{number % 7}", file) for number, file in enumerate(written(tmp_path, *texts))]
    stored = conditions.put_payloads(files)
    assert [payload.revision for payload in stored] == [number // 7 + 1 for number in range(300)]
    assert [conditions.payload_file(payload).read_text() for payload in stored] == texts
    assert conditions.find_payloads((payload.name, payload.md5) for payload in stored) == {
        (payload.name, payload.md5): payload for payload in stored
    }
    assert conditions.put_payloads(files[::-1]) == stored[::-1]
    assert len(database.payload_files()) == 300


def test_nothing_at_all_is_nothing(database: KeptDatabase) -> None:
    conditions = database.open()
    before = database.rows()
    assert conditions.put_payloads([]) == ()
    assert database.rows() == before


def test_a_row_names_only_content_that_is_in_place(database: KeptDatabase, tmp_path: Path) -> None:
    """At each step of an upload, what the rows name can be read; the files come first."""
    reader, looks = database.open(), []

    def look(_step: str) -> None:
        known = reader.payloads_of(("p", revision) for revision in range(1, 9))
        looks.append([reader.payload_file(payload).read_text() for payload in known.values()])

    files = [("p", file) for file in written(tmp_path, "1", "2", "3")]
    database.open(on_step=look).put_payloads(files)
    assert looks[:-1] == [[]] * (len(looks) - 1)
    assert sorted(looks[-1]) == ["1", "2", "3"]


def test_a_file_that_changes_while_it_is_read_is_not_stored(database: KeptDatabase, tmp_path: Path) -> None:
    first, second = written(tmp_path, "first", "second")

    def change(step: str) -> None:
        if step == "write payload file":
            second.write_text("another")

    conditions = database.open(on_step=change)
    before = database.rows()
    with pytest.raises(IntegrityError, match=r"second\.root was changed"):
        conditions.put_payloads([("p", first), ("p", second)])
    assert database.rows() == before
    assert database.payload_files() == []


def test_what_is_stored_belongs_to_the_database_alone(database: KeptDatabase, tmp_path: Path) -> None:
    (file,) = written(tmp_path, "1")
    conditions = database.open()
    stored = conditions.payload_file(conditions.put_payload("p", file))
    assert stored.stat().st_ino != file.stat().st_ino
    assert stored.stat().st_mode & 0o222 == 0
    file.unlink()
    assert stored.read_text() == "1"


def test_what_a_killed_writer_left_half_written_is_removed_a_day_later(database: KeptDatabase, tmp_path: Path) -> None:
    conditions = database.open()
    kept = database.directory / "payloads"
    old, fresh = kept / ".incoming-old", kept / ".incoming-fresh"
    for file in (old, fresh):
        file.write_text("half")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    conditions.put_payloads([("p", *written(tmp_path, "whole"))])
    assert (old.exists(), fresh.exists()) == (False, True)
