"""The ways out of a database and back, by testing payload storages and metadata files, judged by what is read."""

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import BackendError, ConfigurationError, ConflictError, DataError, IntegrityError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.sqlite_export import export_sqlite
from resources.conditions.sqlite_file import SqliteMetadata
from resources.conditions.sqlite_import import Overlaps, import_sqlite
from resources.conditions.storage import upload

ALWAYS = IoV(0, 0, -1, -1)
# The largest number that is no edge of what the embedded database takes, and the largest that a reader may ask for.
LARGEST, MAX = 2**31 - 3, 2**63 - 1
NUMBERS = (0, 1, 2, LARGEST)
POINTS = [ExpRun(exp, run) for exp in (*NUMBERS, 2**62 - 1) for run in (*NUMBERS, MAX - 1)]
CONTENTS = ("1", "2", "3", "4")
# What basf2 asks a metadata file, in SQL of our own from its description.
BASF2_LOOK_UP = """
    SELECT payloadName, revision, checksum FROM iov_payloads WHERE globalTagName = :tag
    AND NOT (firstExp > :exp OR (firstExp = :exp AND firstRun > :run))
    AND CASE WHEN finalExp < 0 THEN 1 WHEN finalRun < 0 THEN finalExp >= :exp WHEN finalExp > :exp THEN 1
        ELSE finalExp = :exp AND finalRun >= :run END
"""

Line = tuple[str, str, IoV]


@st.composite
def iovs(draw: st.DrawFn) -> IoV:
    first = draw(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)))
    last = draw(st.tuples(st.sampled_from((-1, *NUMBERS)), st.sampled_from((-1, *NUMBERS))))
    closed = (last[0], -1) if last[0] == -1 else last
    return IoV(*first, *closed) if closed[0] == -1 or first <= (closed[0], closed[1] % 2**40) else IoV(*first, -1, -1)


LINES = st.lists(st.tuples(st.sampled_from(("p", "q.txt")), st.sampled_from(CONTENTS), iovs()), max_size=6)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory with a file for each content."""
    with tempfile.TemporaryDirectory() as name:
        for text in CONTENTS:
            Path(name, text).write_text(text)
        yield Path(name)


def stored(conditions: EmbeddedConditionsDB, root: Path, tag: str, lines: Sequence[Line]) -> None:
    """Make a tag with these lines, overlaps and all."""
    conditions.create_tag(tag)
    for name, text, iov in lines:
        payload = conditions.put_payload(name, root / text)
        conditions.add_iovs(tag, [TagIov(name, payload.revision, iov)], allow_overlaps=True)


def read(conditions: ConditionsDB, chain: Sequence[str], run: ExpRun) -> dict[str, str]:
    """Name to content, as read in a run."""
    found = conditions.resolve(chain, run)
    return {name: conditions.payload_file(one.payload).read_text() for name, one in found.items()}


def checksums(conditions: ConditionsDB, chain: Sequence[str], run: ExpRun) -> dict[str, str]:
    """Name to MD5, as looked up in a run."""
    return {name: one.payload.md5 for name, one in conditions.resolve(chain, run).items()}


def found(storage: LocalDatabase, run: ExpRun) -> dict[str, str]:
    """Name to content, as a testing payload storage has it in a run."""
    payloads = (storage.find(name, run) for name in ("p", "q.txt"))
    return {payload.name: payload.file.read_text() for payload in payloads if payload}


def looked_up(connection: sqlite3.Connection, tag: str, run: ExpRun) -> Mapping[str, tuple[int, str]]:
    """Name to revision and MD5, as basf2 reads a metadata file."""
    best: dict[str, tuple[int, str]] = {}
    for name, revision, md5 in connection.execute(BASF2_LOOK_UP, {"tag": tag, "exp": run.exp, "run": run.run}):
        best[name] = max(best.get(name, (0, "")), (revision, md5))
    return best


# Testing payload storages


@settings(max_examples=30, deadline=None)
@given(LINES)
@example([("p", "1", IoV(0, 0, 0, 0)), ("p", "2", IoV(0, 0, -1, -1)), ("p", "1", IoV(0, 1, 0, -1))])
def test_lines_come_back_as_they_were_written_and_the_last_one_wins(lines: list[Line]) -> None:
    with scratch() as root:
        LocalDatabase(root / "db").add_all([LocalPayload(name, root / text, iov) for name, text, iov in lines])
        database = LocalDatabase(root / "db")
        assert [(entry.name, entry.file.read_text(), entry.iov) for entry in database.entries()] == lines
        for run in POINTS:
            for name in ("p", "q.txt"):
                meant = [text for other, text, iov in lines if other == name and iov.contains(run)]
                found = database.find(name, run)
                assert (found and found.file.read_text()) == (meant[-1] if meant else None)


@settings(max_examples=30, deadline=None)
@given(LINES, st.sampled_from(["", "# a remark\n", "\n \t\n"]), st.sampled_from([" ", "\t", "  \t "]))
def test_white_space_and_remarks_between_lines_change_nothing(lines: list[Line], between: str, space: str) -> None:
    with scratch() as root:
        database = LocalDatabase(root / "db")
        database.add_all([LocalPayload(name, root / text, iov) for name, text, iov in lines])
        entries = database.entries()
        plain = database.text_file.read_text().splitlines()
        noisy = (f"{space}{line.replace(' ', space)}{space}# remark\n{between}" for line in plain)
        database.text_file.write_text(between + "".join(noisy))
        assert LocalDatabase(root / "db").entries() == entries


@settings(max_examples=10, deadline=None)
@given(LINES)
@example([("p", "1", ALWAYS), ("p", "2", IoV(0, 1, 1, -1)), ("p", "1", IoV(1, 0, 1, 0))])
def test_a_storage_taken_into_a_tag_as_it_is_read_gives_every_run_the_same(lines: list[Line]) -> None:
    with scratch() as root:
        storage = LocalDatabase(root / "db")
        storage.add_all([LocalPayload(name, root / text, iov) for name, text, iov in lines])
        conditions = EmbeddedConditionsDB(root / "conditions")
        conditions.create_tag("a")
        upload(conditions, "a", [storage.text_file], last_line_wins=True)
        again = LocalDatabase(conditions.export(["a"], root / "out", within=ALWAYS))
        for run in POINTS:
            meant = found(storage, run)
            assert read(conditions, ["a"], run) == meant
            assert found(again, run) == meant


# Metadata files


@settings(max_examples=10, deadline=None)
@given(LINES, LINES)
@example([("p", "1", ALWAYS), ("p", "2", IoV(0, 1, 0, -1)), ("q.txt", "3", IoV(1, 0, 1, 0))], [("p", "1", ALWAYS)])
@example([("p", "2", IoV(0, 0, 0, LARGEST)), ("p", "1", IoV(0, 0, LARGEST, -1))], [])
def test_basf2_reads_from_an_export_what_the_database_answers(lines: list[Line], others: list[Line]) -> None:
    with scratch() as root:
        conditions = EmbeddedConditionsDB(root / "conditions")
        stored(conditions, root, "a", lines)
        stored(conditions, root, "b", others)
        file = export_sqlite(conditions, ["a", "b"], root / "out" / "metadata.sqlite")
        with closing(sqlite3.connect(file)) as connection, SqliteMetadata(file) as metadata:
            for tag in ("a", "b"):
                for run in POINTS:
                    answered = {
                        name: (one.payload.revision, one.payload.md5)
                        for name, one in conditions.resolve([tag], run).items()
                    }
                    assert looked_up(connection, tag, run) == answered
                    read_here = {
                        name: (one.payload.revision, one.payload.md5) for name, one in metadata.valid(tag, run).items()
                    }
                    assert read_here == answered


@settings(max_examples=10, deadline=None)
@given(LINES, LINES, st.sampled_from([Overlaps.settle, Overlaps.keep]))
@example([("p", "1", ALWAYS), ("p", "2", IoV(0, 1, 0, -1)), ("p", "3", IoV(0, 2, 1, 0))], [], Overlaps.settle)
@example([("p", "2", ALWAYS), ("p", "1", ALWAYS)], [("q.txt", "1", ALWAYS)], Overlaps.keep)
def test_an_export_imported_into_an_empty_database_gives_every_run_the_same(
    lines: list[Line], others: list[Line], overlaps: Overlaps
) -> None:
    with scratch() as root:
        conditions = EmbeddedConditionsDB(root / "conditions")
        stored(conditions, root, "a", lines)
        stored(conditions, root, "b", others)
        file = export_sqlite(conditions, ["a", "b"], root / "out" / "metadata.sqlite")
        copy = EmbeddedConditionsDB(root / "copy")
        import_sqlite(copy, file, [root / "out"], overlaps=overlaps)
        for chain in (["a"], ["b"], ["a", "b"]):
            for run in POINTS:
                assert checksums(copy, chain, run) == checksums(conditions, chain, run)
        for run in POINTS[:2]:
            assert read(copy, ["b", "a"], run) == read(conditions, ["b", "a"], run)


# Imports, one by one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for text in CONTENTS:
        (tmp_path / text).write_text(text)
    return tmp_path


@pytest.fixture
def conditions(root: Path) -> EmbeddedConditionsDB:
    """A database with a PUBLISHED tag ``a`` and a RUNNING tag ``b``."""
    conditions = EmbeddedConditionsDB(root / "conditions")
    stored(conditions, root, "a", [("p", "1", IoV(0, 0, 0, 5)), ("p", "2", IoV(0, 6, -1, -1)), ("q", "3", ALWAYS)])
    stored(conditions, root, "b", [("p", "2", ALWAYS)])
    path = [TagState.OPEN, TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED]
    for before, after in pairwise(path):
        conditions.set_state("a", expected=before, new=after)
    conditions.set_state("b", expected=TagState.OPEN, new=TagState.RUNNING)
    return conditions


@pytest.fixture
def file(conditions: EmbeddedConditionsDB, root: Path) -> Path:
    """An export of both tags."""
    return export_sqlite(conditions, ["a", "b"], root / "out" / "metadata.sqlite")


@pytest.fixture
def copy(root: Path) -> EmbeddedConditionsDB:
    """An empty database."""
    return EmbeddedConditionsDB(root / "copy")


def altered(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def is_untouched(conditions: ConditionsDB) -> bool:
    return conditions.list_tags() == () and conditions.payload("p", 1) is None and conditions.audit() == ()


def test_tags_come_in_open_and_equal_or_in_their_state_when_asked(
    conditions: EmbeddedConditionsDB, file: Path, copy: EmbeddedConditionsDB
) -> None:
    assert [tag.state for tag in import_sqlite(copy, file, [file.parent])] == [TagState.OPEN, TagState.OPEN]
    tags = import_sqlite(copy, file, [file.parent], with_states=True)
    assert [(tag.name, tag.state) for tag in tags] == [("a", TagState.PUBLISHED), ("b", TagState.RUNNING)]
    for tag in ("a", "b"):
        assert copy.fingerprint(tag) == conditions.fingerprint(tag)


def test_an_import_again_changes_nothing_and_needs_no_payload_files(file: Path, copy: EmbeddedConditionsDB) -> None:
    import_sqlite(copy, file, [file.parent], with_states=True)
    log = copy.audit()
    import_sqlite(copy, file, [], with_states=True)
    assert copy.audit() == log


def test_a_prefix_leaves_tags_of_the_same_name_alone(file: Path, copy: EmbeddedConditionsDB) -> None:
    copy.create_tag("a")
    import_sqlite(copy, file, [file.parent], tags=["a"], prefix="cvmfs_")
    assert [tag.name for tag in copy.list_tags()] == ["a", "cvmfs_a"]
    assert copy.list_iovs("a") == ()
    assert len(copy.list_iovs("cvmfs_a")) == 3


def test_a_tag_with_other_content_or_in_another_state_is_not_touched(
    root: Path, file: Path, copy: EmbeddedConditionsDB
) -> None:
    stored(copy, root, "a", [("z", "1", ALWAYS)])
    copy.create_tag("b")
    copy.set_state("b", expected=TagState.OPEN, new=TagState.TESTING)
    log = copy.audit()
    for tag in ("a", "b"):
        with pytest.raises(ConflictError, match=f"there is a tag {tag}, .*import with a prefix"):
            import_sqlite(copy, file, [file.parent], tags=[tag], with_states=True)
    assert copy.audit() == log


class StopAt:
    """Fails at a step of a change, as a full disk would."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, _step: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise BackendError("no space left", transient=False)


def test_an_import_broken_off_anywhere_is_completed_by_the_next(
    root: Path, conditions: EmbeddedConditionsDB, file: Path
) -> None:
    broken = 0
    for step in range(100):
        home = root / f"copy{step}"
        try:
            import_sqlite(EmbeddedConditionsDB(home, on_step=StopAt(step)), file, [file.parent], with_states=True)
        except BackendError:
            broken += 1
            copy = EmbeddedConditionsDB(home)
            import_sqlite(copy, file, [file.parent], with_states=True)
            assert [copy.fingerprint(tag) for tag in ("a", "b")] == [conditions.fingerprint(tag) for tag in ("a", "b")]
            assert copy.payload("p", 3) is None
        else:
            break
    assert broken > 10


# Payload files


def test_the_flat_layout_is_read_too_and_a_damaged_file_is_passed_over_for_a_good_one(
    conditions: EmbeddedConditionsDB, root: Path, file: Path, copy: EmbeddedConditionsDB
) -> None:
    flat = root / "flat"
    flat.mkdir()
    for name, revision, text in (("p", 1, "1"), ("p", 2, "2"), ("q", 1, "3")):
        (flat / f"dbstore_{name}_rev_{revision}.root").write_text(text)
    (damaged,) = file.parent.glob("*/p_r1.root")
    damaged.write_text("damaged")
    import_sqlite(copy, file, [root / "absent", file.parent, flat])
    assert read(copy, ["a"], ExpRun(0, 0)) == read(conditions, ["a"], ExpRun(0, 0))


def test_every_payload_file_that_is_missing_or_damaged_is_named_before_anything_is_written(
    file: Path, copy: EmbeddedConditionsDB
) -> None:
    (missing,) = file.parent.glob("*/p_r1.root")
    missing.unlink()
    with pytest.raises(DataError, match=r"p revision 1 is missing.*p_r1\.root.*Nothing was imported"):
        import_sqlite(copy, file, [file.parent])
    (damaged,) = file.parent.glob("*/q_r1.root")
    damaged.write_text("damaged")
    with pytest.raises(IntegrityError, match=r"p revision 1 is missing.*q revision 1 should have MD5"):
        import_sqlite(copy, file, [file.parent])
    with pytest.raises(DataError, match="is in no directory"):
        import_sqlite(copy, file, [])
    assert is_untouched(copy)


# Files that cannot be right


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA user_version = 2", "user_version"),
        ("PRAGMA application_id = 0", "application_id"),
        ("DELETE FROM payloads WHERE revision = 2", "2 rows name others that are not there"),
        ("DROP VIEW iov_payloads", "no such table"),
        ("UPDATE payloads SET checksum = 'abc'", "is no payload"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(
    file: Path, copy: EmbeddedConditionsDB, statement: str, words: str
) -> None:
    altered(file, statement)
    with pytest.raises(DataError, match=words):
        import_sqlite(copy, file, [file.parent])
    assert is_untouched(copy)


def test_a_file_with_a_damaged_page_is_refused(file: Path, copy: EmbeddedConditionsDB) -> None:
    content = bytearray(file.read_bytes())
    content[-4096:] = b"\xff" * 4096
    file.write_bytes(content)
    with pytest.raises(DataError, match="fetch or export it again"):
        import_sqlite(copy, file, [file.parent])
    assert is_untouched(copy)


def test_a_state_that_is_not_known_is_refused_only_when_states_are_asked_for(
    file: Path, copy: EmbeddedConditionsDB
) -> None:
    altered(file, "UPDATE globaltags SET globalTagStatus = 'locked'")
    with pytest.raises(DataError, match="tag a is 'locked' in the file, which is none of OPEN, TESTING"):
        import_sqlite(copy, file, [file.parent], with_states=True)
    assert is_untouched(copy)
    assert [tag.state for tag in import_sqlite(copy, file, [file.parent])] == [TagState.OPEN, TagState.OPEN]


def test_a_tag_that_is_not_in_the_file_is_refused(file: Path, copy: EmbeddedConditionsDB) -> None:
    with pytest.raises(ConfigurationError, match="has no tag nobody; it has a, b"):
        import_sqlite(copy, file, [file.parent], tags=["a", "nobody"])
    assert is_untouched(copy)


# Overlaps


@pytest.fixture
def overlapping(root: Path) -> Path:
    """An export of a tag with revision 1 for ever and revision 2 over a part of it."""
    conditions = EmbeddedConditionsDB(root / "legacy")
    stored(conditions, root, "a", [("p", "1", ALWAYS), ("p", "2", IoV(3, 1, 3, -1))])
    return export_sqlite(conditions, ["a"], root / "out" / "metadata.sqlite")


def test_overlaps_are_refused_with_names_and_runs(overlapping: Path, copy: EmbeddedConditionsDB) -> None:
    with pytest.raises(DataError, match="in tag a, p has revisions 1 in 0,0,-1,-1 and 2 in 3,1,3,-1"):
        import_sqlite(copy, overlapping, [overlapping.parent])
    assert is_untouched(copy)


def test_overlaps_are_settled_by_what_is_read_or_kept_as_they_are(
    overlapping: Path, copy: EmbeddedConditionsDB
) -> None:
    import_sqlite(copy, overlapping, [overlapping.parent], prefix="s_", overlaps=Overlaps.settle)
    import_sqlite(copy, overlapping, [overlapping.parent], prefix="k_", overlaps=Overlaps.keep)
    settled, kept = ([(x.revision, str(x.iov)) for x in copy.list_iovs(tag)] for tag in ("s_a", "k_a"))
    assert settled == [(1, "0,0,3,0"), (2, "3,1,3,-1"), (1, "4,0,-1,-1")]
    assert kept == [(1, "0,0,-1,-1"), (2, "3,1,3,-1")]


class AnotherAdapter:
    """Hands everything on to a database without being an embedded one."""

    def __init__(self, inner: EmbeddedConditionsDB) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def test_overlaps_are_kept_by_the_embedded_database_only(overlapping: Path, copy: EmbeddedConditionsDB) -> None:
    with pytest.raises(ConfigurationError, match=r"does not keep overlaps .*settle them"):
        import_sqlite(AnotherAdapter(copy), overlapping, [overlapping.parent], overlaps=Overlaps.keep)
    assert is_untouched(copy)
    import_sqlite(AnotherAdapter(copy), overlapping, [overlapping.parent], overlaps=Overlaps.settle)
    assert len(copy.list_iovs("a")) == 3


def test_overlaps_are_not_kept_where_revisions_would_turn_them_round(
    root: Path, overlapping: Path, copy: EmbeddedConditionsDB
) -> None:
    copy.put_payload("p", root / "2")
    with pytest.raises(ConflictError, match="p revisions 1 and 2 overlap in tag a, and are 2 and 1 here"):
        import_sqlite(copy, overlapping, [overlapping.parent], overlaps=Overlaps.keep)
    assert copy.list_tags() == ()
    import_sqlite(copy, overlapping, [overlapping.parent], overlaps=Overlaps.settle)
    assert [read(copy, ["a"], ExpRun(3, run)) for run in (0, 1)] == [{"p": "1"}, {"p": "2"}]
