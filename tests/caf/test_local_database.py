import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun, IoV


def a_file(folder: Path, content: bytes) -> Path:
    path = folder / f"{hashlib.sha256(content).hexdigest()}.bin"
    path.write_bytes(content)
    return path


def test_a_payload_is_copied_under_its_hashed_revision_and_gets_a_line(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "db")
    added = database.add("CDCTimeZeros", a_file(tmp_path, b"one"), IoV(12, 1, 12, -1))
    revision = hashlib.md5(b"one", usedforsecurity=False).hexdigest()[:6]
    assert added.file == tmp_path / "db" / f"dbstore_CDCTimeZeros_rev_{revision}.root"
    assert added.file.read_bytes() == b"one"
    assert (tmp_path / "db" / "database.txt").read_text() == f"dbstore/CDCTimeZeros {revision} 12,1,12,-1\n"
    assert LocalDatabase(tmp_path / "db").entries() == (added,)


def test_the_same_content_twice_is_one_file_and_two_lines(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "db")
    database.add("A", a_file(tmp_path, b"x"), IoV(1, 0, 1, 3))
    database.add("A", a_file(tmp_path, b"x"), IoV(1, 4, 1, 5))
    assert len(database.entries()) == 2
    assert len(list((tmp_path / "db").glob("*.root"))) == 1


def test_another_content_under_the_same_six_digits_gets_seven(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "db")
    checksum = hashlib.md5(b"real", usedforsecurity=False).hexdigest()
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / f"dbstore_A_rev_{checksum[:6]}.root").write_bytes(b"squatter")
    added = database.add("A", a_file(tmp_path, b"real"), IoV(1, 0, 1, 3))
    assert added.file.name == f"dbstore_A_rev_{checksum[:7]}.root"
    assert database.entries() == (added,)


def test_the_last_line_that_holds_the_run_wins(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "db")
    first = database.add("A", a_file(tmp_path, b"1"), IoV(1, 0, -1, -1))
    second = database.add("A", a_file(tmp_path, b"2"), IoV(1, 5, 1, 9))
    assert database.find("A", ExpRun(1, 4)) == first
    assert database.find("A", ExpRun(1, 5)) == second
    assert database.find("A", ExpRun(0, 9)) is None
    assert database.find("B", ExpRun(1, 5)) is None


def test_comments_and_blank_lines_are_passed_over_and_old_integer_revisions_read(tmp_path: Path) -> None:
    (tmp_path / "dbstore_A_rev_17.root").write_bytes(b"old")
    (tmp_path / "database.txt").write_text("# made by hand\n\ndbstore/A  17\t1,0,1,-1  # note\n")
    assert LocalDatabase(tmp_path / "database.txt").entries() == (
        LocalPayload("A", tmp_path / "dbstore_A_rev_17.root", IoV(1, 0, 1, -1)),
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A 17 1,0,1,-1", "expected"),
        ("dbstore/A 17 1,0,1", "expected"),
        ("dbstore/A 17 -1,-1,-1,-1", "count from 0"),
        ("dbstore/A 18 1,0,1,-1", "is missing"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "database.txt").write_text(f"# head\n{line}\n")
    with pytest.raises(DataError, match=f"database.txt, line 2: .*{words}"):
        LocalDatabase(tmp_path).entries()


def test_a_database_not_written_yet_is_empty(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "nothing")
    assert database.entries() == ()
    assert database.find("A", ExpRun(1, 1)) is None


def test_writers_at_the_same_time_lose_no_line(tmp_path: Path) -> None:
    files = [a_file(tmp_path, bytes([index])) for index in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: LocalDatabase(tmp_path / "db").add("A", files[i], IoV(1, i, 1, i)), range(40)))
    entries = LocalDatabase(tmp_path / "db").entries()
    assert sorted(entry.iov.run_low for entry in entries) == list(range(40))
    assert all(entry.file.read_bytes() == bytes([entry.iov.run_low]) for entry in entries)


def test_an_addition_is_seen_by_the_same_object(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "db")
    database.entries()
    added = database.add("A", a_file(tmp_path, b"1"), IoV(1, 0, 1, 1))
    assert database.find("A", ExpRun(1, 1)) == added
