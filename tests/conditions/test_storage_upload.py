from pathlib import Path

import pytest

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import ConflictError, DataError
from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.storage import read_storages, upload


@pytest.fixture
def conditions(tmp_path: Path) -> EmbeddedConditionsDB:
    """A database with the OPEN tag ``staging``."""
    conditions = EmbeddedConditionsDB(tmp_path / "conditions")
    conditions.create_tag("staging")
    return conditions


def stored(directory: Path, *lines: tuple[str, str, IoV]) -> Path:
    """A testing payload storage with lines (name, content, IoV)."""
    directory.mkdir()
    for number, (name, text, iov) in enumerate(lines):
        file = directory / f"new{number}"
        file.write_text(text)
        LocalDatabase(directory).add(name, file, iov)
    return directory / "database.txt"


def test_several_storages_go_into_a_tag_together(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    one = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)), ("p", "2", IoV(0, 6, 0, -1)))
    two = stored(tmp_path / "two", ("q", "3", IoV(0, 0, -1, -1)))
    links = upload(conditions, "staging", [one, two.parent])
    assert links == conditions.list_iovs("staging")
    assert [(link.name, str(link.iov)) for link in links] == [("p", "0,0,0,5"), ("p", "0,6,0,-1"), ("q", "0,0,-1,-1")]


def test_an_upload_twice_changes_nothing_the_second_time(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    database = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)))
    first, log = upload(conditions, "staging", [database]), conditions.audit()
    assert upload(conditions, "staging", [database]) == first
    assert conditions.audit() == log
    assert conditions.payload("p", 2) is None


def test_of_equal_names_and_iovs_the_last_line_wins(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    database = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)), ("p", "2", IoV(0, 0, 0, 5)))
    later = stored(tmp_path / "two", ("p", "3", IoV(0, 0, 0, 5)))
    assert [entry.file.read_text() for entry in read_storages([database])] == ["2"]
    upload(conditions, "staging", [database, later])
    found = conditions.resolve(["staging"], ExpRun(0, 0))["p"]
    assert conditions.payload_file(found.payload).read_text() == "3"


def test_payloads_are_clipped_to_the_runs_asked_for(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    database = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)), ("p", "2", IoV(0, 6, -1, -1)))
    links = upload(conditions, "staging", [database], within=IoV(0, 7, 0, 9))
    assert [str(link.iov) for link in links] == ["0,7,0,9"]


def test_overlaps_are_refused_with_name_runs_and_places(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    one = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)))
    two = stored(tmp_path / "two", ("p", "2", IoV(0, 5, 0, 9)))
    with pytest.raises(DataError, match=r"p is valid in 0,0,0,5 \(.*one\) and in 0,5,0,9 \(.*two\)"):
        upload(conditions, "staging", [one, two])
    assert conditions.list_iovs("staging") == ()


@pytest.mark.parametrize("line", ["dbstore/q abc 0,0,0", "dbstore/q abcdef 0,0,-1,-1", "p 1 0,0,-1,-1"])
def test_a_bad_line_ends_the_upload_before_anything_is_written(
    conditions: EmbeddedConditionsDB, tmp_path: Path, line: str
) -> None:
    good = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)))
    bad = stored(tmp_path / "two", ("q", "1", IoV(0, 0, 0, 5)))
    bad.write_text(bad.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"two/database\.txt, line 2"):
        upload(conditions, "staging", [good, bad])
    assert conditions.payload("p", 1) is None
    assert conditions.list_iovs("staging") == ()


def test_a_storage_that_is_not_there_is_an_error(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        upload(conditions, "staging", [tmp_path / "absent"])


def test_names_that_are_no_longer_made_are_dropped_when_named(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    both = stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)), ("q", "2", IoV(0, 0, 0, 5)))
    only = stored(tmp_path / "two", ("p", "1", IoV(0, 0, 0, 5)))
    upload(conditions, "staging", [both])
    upload(conditions, "staging", [only])
    assert len(conditions.list_iovs("staging")) == 2
    upload(conditions, "staging", [only], names=["q"])
    assert [link.name for link in conditions.list_iovs("staging")] == ["p"]


def test_a_tag_that_is_not_open_gets_nothing(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    conditions.set_state("staging", expected=TagState.OPEN, new=TagState.TESTING)
    with pytest.raises(ConflictError, match="staging is TESTING"):
        upload(conditions, "staging", [stored(tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)))])
    assert conditions.payload("p", 1) is None


def test_an_export_uploaded_again_gives_the_same_tag(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    database = stored(
        tmp_path / "one", ("p", "1", IoV(0, 0, 0, 5)), ("p", "2", IoV(0, 6, 3, -1)), ("p", "1", IoV(4, 0, -1, -1))
    )
    upload(conditions, "staging", [database])
    exported = conditions.export(["staging"], tmp_path / "out", within=IoV(0, 0, -1, -1))
    conditions.create_tag("again")
    upload(conditions, "again", [exported])
    assert conditions.fingerprint("again") == conditions.fingerprint("staging")
