import fcntl
import hashlib
import os
import time
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


@pytest.mark.parametrize("name", ["a b", "a/b", "a#b", "", "a\nb"])
def test_a_name_that_does_not_fit_into_a_line_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    payload = a_file(tmp_path, b"1")
    with pytest.raises(DataError, match="cannot be called"):
        LocalDatabase(tmp_path / "db").add_all([LocalPayload(one, payload, IoV(1, 0, 1, 1)) for one in ("A", name)])
    assert not (tmp_path / "db").exists()


def test_a_raw_file_has_a_name_with_a_dot_and_the_same_pattern(tmp_path: Path) -> None:
    added = LocalDatabase(tmp_path / "db").add("geometry.xml", a_file(tmp_path, b"<a/>"), IoV(1, 0, -1, -1))
    revision = hashlib.md5(b"<a/>", usedforsecurity=False).hexdigest()[:6]
    assert added.file.name == f"dbstore_geometry.xml_rev_{revision}.root"
    assert LocalDatabase(tmp_path / "db").find("geometry.xml", ExpRun(2, 0)) == added


@pytest.mark.parametrize("revision", ["0", "abcdef0", "v-1.2"])
def test_a_local_revision_is_taken_as_it_is(tmp_path: Path, revision: str) -> None:
    file = tmp_path / f"dbstore_A_rev_{revision}.root"
    file.write_bytes(b"its MD5 says something else")
    (tmp_path / "database.txt").write_text(f"dbstore/A {revision} 1,0,1,-1\n")
    assert LocalDatabase(tmp_path).entries() == (LocalPayload("A", file, IoV(1, 0, 1, -1)),)


def test_the_text_file_may_have_another_name(tmp_path: Path) -> None:
    for name in ("other.txt", "constants"):
        (tmp_path / name).touch()
        database = LocalDatabase(tmp_path / name)
        added = database.add("A", a_file(tmp_path, b"1"), IoV(1, 0, 1, 1))
        assert database.text_file == tmp_path / name
        assert LocalDatabase(tmp_path / name).entries() == (added,)
    assert LocalDatabase(tmp_path / "new.txt").add("B", a_file(tmp_path, b"2"), IoV(1, 0, 1, 1)).file.parent == tmp_path
    assert LocalDatabase(tmp_path).entries() == ()


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "dbstore_A_rev_1.root").write_bytes(b"x")
    text = "# a comment\x0c with\u2028odd\x85characters\r\ndbstore/A 1 1,0,1,-1\r\n"
    (tmp_path / "database.txt").write_bytes(text.encode())
    assert [entry.name for entry in LocalDatabase(tmp_path).entries()] == ["A"]


def test_something_else_than_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "database.txt").write_bytes(b"root\xff\xfe")
    with pytest.raises(DataError, match=r"database\.txt is no text in UTF-8"):
        LocalDatabase(tmp_path).entries()


def test_comments_stay_and_a_last_line_without_an_end_is_not_run_into(tmp_path: Path) -> None:
    (tmp_path / "dbstore_A_rev_1.root").write_bytes(b"x")
    (tmp_path / "database.txt").write_text("# naïve\ndbstore/A 1 1,0,1,-1 # no end", encoding="utf-8")
    LocalDatabase(tmp_path).add("B", a_file(tmp_path, b"2"), IoV(2, 0, 2, 1))
    lines = (tmp_path / "database.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["# naïve", "dbstore/A 1 1,0,1,-1 # no end"]
    assert [entry.name for entry in LocalDatabase(tmp_path).entries()] == ["A", "B"]


def test_a_payload_file_that_goes_while_the_lines_are_known_is_an_error(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path / "db")
    added = database.add("A", a_file(tmp_path, b"1"), IoV(1, 0, 1, 1))
    assert database.find("A", ExpRun(1, 0)) == added
    added.file.unlink()
    with pytest.raises(DataError, match="valid for A in exp 1 run 0, is missing"):
        database.find("A", ExpRun(1, 0))


def test_a_program_that_locks_the_text_file_and_appends_loses_no_line(tmp_path: Path) -> None:
    text_file = tmp_path / "database.txt"
    (tmp_path / "dbstore_A_rev_1.root").write_bytes(b"x")
    text_file.touch()
    locked, tell = os.pipe()
    child = os.fork()
    if child == 0:  # does what basf2 does when it stores a testing payload
        with text_file.open("a") as other:
            fcntl.lockf(other, fcntl.LOCK_EX)
            os.write(tell, b"1")
            time.sleep(0.3)
            other.write("dbstore/A 1 1,0,1,-1\n")
        os._exit(0)
    os.read(locked, 1)
    LocalDatabase(tmp_path).add("B", a_file(tmp_path, b"2"), IoV(2, 0, 2, 1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(locked)
    os.close(tell)
    assert [entry.name for entry in LocalDatabase(tmp_path).entries()] == ["A", "B"]
