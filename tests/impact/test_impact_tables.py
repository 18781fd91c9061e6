"""The derived tables: made again when what they were derived from was changed, or when they are spoiled."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from servers.mariadb import MariaDBServer

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.impact import Sample
from b2cal_core.payloads import TagState
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.schema import edges
from resources.home import Home
from resources.impact.cdst_cells import cdst_cells
from resources.impact.cells import UNKNOWN, Cells
from resources.impact.samples import EmbeddedSamples
from resources.impact.tag_cells import TagCells

TAG = "data_prompt"
NEVER = (UNKNOWN, UNKNOWN)


@pytest.fixture
def conditions(tmp_path: Path) -> EmbeddedConditionsDB:
    opened = EmbeddedConditionsDB(tmp_path / "conditions")
    opened.create_tag(TAG)
    return opened


def link(conditions: EmbeddedConditionsDB, directory: Path, content: str, iov: IoV, *runs: tuple[int, int]) -> None:
    """A payload ``p`` with this content, made from these runs."""
    file = directory / content
    file.write_text(content)
    (payload,) = conditions.put_payloads([("p", file)])
    conditions.add_iovs(TAG, [TagIov("p", payload.revision, iov)])
    if runs:
        conditions.record_provenance({("p", payload.md5): Provenance(runs=runs)}, author="test")


def test_cells_say_for_which_runs_payloads_are_valid_and_from_which_they_were_made(
    conditions: EmbeddedConditionsDB, tmp_path: Path
) -> None:
    open_end, closed = IoV(7, 5, -1, -1), IoV(7, 1, 7, 4)
    link(conditions, tmp_path, "one", closed)
    link(conditions, tmp_path, "two", open_end, (7, 8), (7, 5))
    rows = TagCells(tmp_path / "impact", conditions).of(TAG).of("p").rows.tolist()
    assert rows == [[*edges(closed), *NEVER, 1], [*edges(open_end), *edges(IoV(7, 5, 7, 8)), 2]]


def test_a_tag_is_read_again_only_when_it_was_changed(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    link(conditions, tmp_path, "one", IoV(7, 1, 7, 4), (7, 1))
    first = TagCells(tmp_path / "impact", conditions).of(TAG)
    (file,) = (tmp_path / "impact").iterdir()
    written = file.stat().st_mtime_ns
    again = TagCells(tmp_path / "impact", conditions).of(TAG)
    assert file.stat().st_mtime_ns == written
    assert again.of("p").rows.tolist() == first.of("p").rows.tolist()
    link(conditions, tmp_path, "two", IoV(7, 5, 7, 8), (7, 5))
    assert len(TagCells(tmp_path / "impact", conditions).of(TAG)) == 2


def test_a_record_that_was_missing_is_found_when_the_tag_is_read_again(
    conditions: EmbeddedConditionsDB, tmp_path: Path
) -> None:
    link(conditions, tmp_path, "one", IoV(7, 1, 7, 4))
    TagCells(tmp_path / "impact", conditions).of(TAG)
    (payload,) = conditions.put_payloads([("p", tmp_path / "one")])
    conditions.record_provenance({("p", payload.md5): Provenance(runs=((7, 2),))}, author="test")
    link(conditions, tmp_path, "two", IoV(7, 5, 7, 8))
    rows = TagCells(tmp_path / "impact", conditions).of(TAG).of("p").rows
    assert [tuple(row[2:4]) for row in rows.tolist()] == [edges(IoV(7, 2, 7, 2)), NEVER]


class WatchedConditions(EmbeddedConditionsDB):
    """Remembers which part of a tag was read."""

    def list_iovs(self, tag: str, within: IoV | None = None, *, as_of: int | None = None) -> tuple[TagIov, ...]:
        self.__dict__.setdefault("read", []).append(within)
        return super().list_iovs(tag, within, as_of=as_of)

    def taken(self) -> list[IoV | None]:
        read = self.__dict__.pop("read", [])
        return list(read)


@pytest.fixture
def watched(tmp_path: Path) -> WatchedConditions:
    """A tag with 600 runs of two names, and one payload that is valid in all of them."""
    opened = WatchedConditions(tmp_path / "conditions")
    opened.create_tag(TAG)
    for name in ("p", "q", "forever"):
        file = tmp_path / name
        file.write_text(name)
        opened.put_payloads([(name, file)])
    runs = [TagIov(name, 1, IoV(7, run, 7, run)) for run in range(600) for name in ("p", "q")]
    opened.add_iovs(TAG, [*runs, TagIov("forever", 1, IoV(0, 0, -1, -1))])
    return opened


def as_if_new(watched: WatchedConditions, directory: Path) -> dict[str, list[list[int]]]:
    """The table as it is derived from the whole tag."""
    cells = TagCells(directory / "anew", watched).of(TAG)
    watched.taken()
    return {name: sorted(of_name.rows.tolist()) for name, of_name in cells.by_name.items()}


def test_of_a_tag_that_grew_only_the_end_is_read(watched: WatchedConditions, tmp_path: Path) -> None:
    TagCells(tmp_path / "impact", watched).of(TAG)
    assert watched.taken() == [None]
    watched.add_iovs(TAG, [TagIov(name, 1, IoV(7, 600, -1, -1)) for name in ("p", "q")])
    cells = TagCells(tmp_path / "impact", watched).of(TAG)
    (read,) = watched.taken()
    assert read is not None
    assert read.start > (7, 590)
    found = {name: sorted(of_name.rows.tolist()) for name, of_name in cells.by_name.items()}
    assert found == as_if_new(watched, tmp_path)
    assert len(cells) == 1203


def test_of_a_tag_that_was_changed_further_back_more_is_read_and_nothing_is_missed(
    watched: WatchedConditions, tmp_path: Path
) -> None:
    TagCells(tmp_path / "impact", watched).of(TAG)
    (tmp_path / "other").write_text("other")
    watched.put_payloads([("other", tmp_path / "other")])
    for run, times, whole in ((585, 2, False), (3, 3, True)):
        watched.add_iovs(TAG, [TagIov("other", 1, IoV(7, run, 7, run))])
        watched.taken()
        cells = TagCells(tmp_path / "impact", watched).of(TAG)
        read = watched.taken()
        assert (len(read), None in read) == (times, whole)
        found = {name: sorted(of_name.rows.tolist()) for name, of_name in cells.by_name.items()}
        assert found == as_if_new(watched, tmp_path)


def test_a_tag_that_only_changed_its_state_is_read_at_its_end(watched: WatchedConditions, tmp_path: Path) -> None:
    before = len(TagCells(tmp_path / "impact", watched).of(TAG))
    watched.taken()
    watched.set_state(TAG, expected=TagState.OPEN, new=TagState.TESTING)
    assert len(TagCells(tmp_path / "impact", watched).of(TAG)) == before
    assert None not in watched.taken()


def test_a_tag_that_is_not_there_has_no_cells(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    nothing = TagCells(tmp_path / "impact", conditions).of("nowhere")
    assert len(nothing) == 0
    assert len(nothing.of("p").rows) == 0


def test_an_empty_tag_is_kept_as_such(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    for _ in range(2):
        assert len(TagCells(tmp_path / "impact", conditions).of(TAG)) == 0


def test_a_spoiled_table_is_made_again(conditions: EmbeddedConditionsDB, tmp_path: Path) -> None:
    link(conditions, tmp_path, "one", IoV(7, 1, 7, 4))
    TagCells(tmp_path / "impact", conditions).of(TAG)
    (file,) = (tmp_path / "impact").iterdir()
    whole = file.read_bytes()
    kept = Cells.load(file)
    assert kept is not None
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        file.write_bytes(content)
        assert Cells.load(file) is None
        assert len(TagCells(tmp_path / "impact", conditions).of(TAG)) == 1
        again = Cells.load(file)
        assert again is not None
        assert again.version == kept.version


def record(run: int, files: int) -> RunRecord:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    made = tuple(DataFile(f"/{run}/{n}", "hadron_calib", "cdst", 10, 10, "0" * 64) for n in range(files))
    return RunRecord(ExpRun(7, run), "physics", "4S", "On", frozenset(), when, when, made)


def test_cdst_files_are_cells_per_run_and_follow_the_lists_of_the_buckets(tmp_path: Path) -> None:
    lists = [tmp_path / name for name in ("one", "two")]
    records = TypeAdapter(tuple[RunRecord, ...])
    lists[0].write_bytes(records.dump_json((record(2, 3), record(1, 1))))
    table = tmp_path / "table.npz"
    runs = [edges(IoV(7, run, 7, run)) for run in (1, 2, 3)]
    for _ in range(2):
        assert cdst_cells(table, lists).of("cDST").rows.tolist() == [[*runs[0] * 2, 1], [*runs[1] * 2, 3]]
    lists[1].write_bytes(records.dump_json((record(3, 2),)))
    assert cdst_cells(table, lists).of("cDST").rows.tolist()[-1] == [*runs[2] * 2, 2]
    lists[1].write_bytes(b"[")
    with pytest.raises(DataError, match="is damaged"):
        cdst_cells(table, lists)


SAMPLE = Sample("mc16", TAG, IoV(7, 1, 8, -1))


class SampleBook:
    """What the book of samples keeps, on every database."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    def test_a_sample_is_noted_once_and_for_good(self, url: str) -> None:
        EmbeddedSamples(url).add(SAMPLE, author="mia")
        EmbeddedSamples(url).add(SAMPLE, author="ada")
        other = Sample("mc15", "released", IoV(0, 0, -1, -1))
        EmbeddedSamples(url).add(other, author="mia")
        assert EmbeddedSamples(url).samples() == (other, SAMPLE)

    def test_a_name_stands_for_one_sample(self, url: str) -> None:
        EmbeddedSamples(url).add(SAMPLE, author="mia")
        with pytest.raises(ConflictError, match="sample mc16 is known with tag data_prompt"):
            EmbeddedSamples(url).add(Sample("mc16", "other", SAMPLE.iov), author="mia")
        assert EmbeddedSamples(url).samples() == (SAMPLE,)

    def test_a_sample_can_be_forgotten(self, url: str) -> None:
        EmbeddedSamples(url).add(SAMPLE, author="mia")
        assert EmbeddedSamples(url).remove("mc16") == SAMPLE
        assert EmbeddedSamples(url).samples() == ()
        with pytest.raises(ConfigurationError, match="no sample is called 'mc16'"):
            EmbeddedSamples(url).remove("mc16")


class TestSamplesOnSQLite(SampleBook):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return Home(tmp_path).registry_url


class TestSamplesOnMariaDB(SampleBook):
    @pytest.fixture
    def url(self, mariadb: MariaDBServer) -> str:
        return mariadb.new_database()
