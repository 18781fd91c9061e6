"""What every run registry, and every fake of one, must do."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from b2cal_core.errors import DataError
from b2cal_core.ports import RunRegistry
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord


def a_run(exp: int, run: int, *, quality: str = "Good", events: int = 100) -> RunRecord:
    started = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC) + timedelta(hours=run)
    path = f"/data/e{exp:04d}/r{run:05d}/hadron_calib/raw/f.root"
    file = DataFile(path, "hadron_calib", "raw", events, 4096, "ab" * 32)
    return RunRecord(
        ExpRun(exp, run), "physics", "4S", "On", frozenset({quality}), started, started + timedelta(hours=1), (file,)
    )


@dataclass(frozen=True)
class Reader:
    """A list of runs as it is read, all pages of it, and a way to put runs there from outside."""

    fill: Callable[[Sequence[RunRecord]], object]
    read: Callable[[IoV | None], Iterable[RunRecord]]


class RunReadingContract:
    """What holds of every list of runs, whether it is ours to write or not."""

    @pytest.fixture
    def reader(self) -> Reader:
        raise NotImplementedError

    def test_where_there_are_no_runs_none_are_read(self, reader: Reader) -> None:
        assert list(reader.read(None)) == []
        assert list(reader.read(IoV(12, 1, 13, 4))) == []

    def test_a_run_is_read_with_what_calibrations_ask_of_it(self, reader: Reader) -> None:
        reader.fill([a_run(12, 3), replace(a_run(0, 0), run_type="null", magnet="Off", beam_energy="")])
        ours, other = sorted(reader.read(None), key=lambda record: record.run, reverse=True)
        assert (ours.run, ours.run_type, ours.beam_energy, ours.magnet) == (ExpRun(12, 3), "physics", "4S", "On")
        assert (ours.started, ours.ended) == (a_run(12, 3).started, a_run(12, 3).ended)
        assert "Good" in ours.quality
        assert (other.run, other.run_type, other.beam_energy, other.magnet) == (ExpRun(0, 0), "null", "", "Off")

    def test_what_changed_about_a_run_is_read(self, reader: Reader) -> None:
        reader.fill([a_run(12, 1), a_run(12, 2)])
        reader.fill([a_run(12, 2, quality="Bad For Alignment")])
        assert {record.run.run: "Good" in record.quality for record in reader.read(None)} == {1: True, 2: False}

    def test_many_runs_are_read_once_each(self, reader: Reader) -> None:
        reader.fill([a_run(exp, run) for exp in (12, 13) for run in range(5)])
        assert len(list(reader.read(None))) == 10
        assert sorted(tuple(r.run) for r in reader.read(IoV(12, 3, 13, 1))) == [(12, 3), (12, 4), (13, 0), (13, 1)]

    @pytest.mark.parametrize(
        ("within", "expected"),
        [
            (IoV(12, 4, 12, 30), [(12, 4), (12, 30)]),
            (IoV(12, 5, 12, 30), [(12, 30)]),
            (IoV(12, 5, 12, 29), []),
            (IoV(12, 5, 12, -1), [(12, 30)]),
            (IoV(12, 30, 13, 0), [(12, 30)]),
            (IoV(12, 30, 13, 1), [(12, 30), (13, 1)]),
            (IoV(12, 31, -1, -1), [(13, 1), (14, 2)]),
            (IoV(0, 0, -1, -1), [(12, 4), (12, 30), (13, 1), (14, 2)]),
            (IoV(13, 0, 13, -1), [(13, 1)]),
            (IoV(12, 0, 13, -1), [(12, 4), (12, 30), (13, 1)]),
            (IoV(12, 5, 14, 1), [(12, 30), (13, 1)]),
            (IoV(12, 30, 14, 2), [(12, 30), (13, 1), (14, 2)]),
            (IoV(13, 0, 14, 2), [(13, 1), (14, 2)]),
        ],
    )
    def test_a_range_takes_its_ends_and_nothing_beyond(
        self, reader: Reader, within: IoV, expected: list[tuple[int, int]]
    ) -> None:
        reader.fill([a_run(12, 4), a_run(12, 30), a_run(13, 1), a_run(14, 2)])
        assert sorted(tuple(r.run) for r in reader.read(within)) == expected


class RunRegistryContract(RunReadingContract):
    @pytest.fixture
    def registry(self) -> Iterator[RunRegistry]:
        raise NotImplementedError

    @pytest.fixture
    def reader(self, registry: RunRegistry) -> Reader:
        return Reader(registry.add, registry.runs)

    def test_an_empty_registry_answers_nothing(self, registry: RunRegistry) -> None:
        assert registry.runs() == ()
        assert registry.changes(0) == ((), 0)

    def test_a_run_comes_back_as_it_was_registered(self, registry: RunRegistry) -> None:
        bare = RunRecord(ExpRun(0, 0), "null", "", "Off", frozenset(), a_run(0, 0).started, a_run(0, 0).ended)
        assert registry.add([a_run(12, 3), bare]) == 2
        assert registry.runs() == (bare, a_run(12, 3))

    def test_runs_come_in_order_of_experiment_and_run(self, registry: RunRegistry) -> None:
        registry.add([a_run(13, 1), a_run(12, 30), a_run(12, 4)])
        assert [tuple(r.run) for r in registry.runs()] == [(12, 4), (12, 30), (13, 1)]

    def test_registering_the_same_again_changes_nothing(self, registry: RunRegistry) -> None:
        registry.add([a_run(12, 1), a_run(12, 2)])
        _, cursor = registry.changes(0)
        assert registry.add([a_run(12, 2), a_run(12, 1)]) == 0
        assert registry.changes(cursor) == ((), cursor)

    def test_a_changed_run_replaces_the_old_one_and_is_a_change(self, registry: RunRegistry) -> None:
        registry.add([a_run(12, 1), a_run(12, 2)])
        _, cursor = registry.changes(0)
        assert registry.add([a_run(12, 1, quality="Bad For Alignment"), a_run(12, 2)]) == 1
        assert registry.changes(cursor)[0] == (a_run(12, 1, quality="Bad For Alignment"),)
        assert registry.runs() == (a_run(12, 1, quality="Bad For Alignment"), a_run(12, 2))

    def test_changes_come_in_the_order_they_were_made(self, registry: RunRegistry) -> None:
        registry.add([a_run(12, 9)])
        registry.add([a_run(12, 1)])
        registry.add([a_run(12, 9, events=7)])
        assert [tuple(r.run) for r in registry.changes(0)[0]] == [(12, 1), (12, 9)]

    def test_reading_in_pages_gives_every_change_once(self, registry: RunRegistry) -> None:
        registry.add([a_run(12, n) for n in range(1, 8)])
        seen, cursor = [], 0
        while page := registry.changes(cursor, limit=3):
            if not page[0]:
                break
            assert len(page[0]) <= 3
            seen += [record.run.run for record in page[0]]
            cursor = page[1]
        assert seen == [1, 2, 3, 4, 5, 6, 7]

    def test_a_cursor_beyond_the_last_change_starts_over(self, registry: RunRegistry) -> None:
        registry.add([a_run(12, 1)])
        records, cursor = registry.changes(10**9)
        assert records == (a_run(12, 1),)
        assert registry.changes(cursor) == ((), cursor)

    def test_the_first_runs_of_a_range_can_be_asked_for(self, registry: RunRegistry) -> None:
        registry.add([a_run(13, 1), a_run(12, 30), a_run(12, 4), a_run(12, 1)])
        assert [tuple(r.run) for r in registry.runs(limit=2)] == [(12, 1), (12, 4)]
        assert [tuple(r.run) for r in registry.runs(IoV(12, 4, -1, -1), limit=2)] == [(12, 4), (12, 30)]
        assert len(registry.runs(limit=9)) == 4

    def test_the_last_change_of_a_range_grows_with_its_runs_only(self, registry: RunRegistry) -> None:
        here = IoV(12, 1, 12, 9)
        assert registry.last_change(here) == 0
        registry.add([a_run(12, 1), a_run(12, 9), a_run(13, 1)])
        before = registry.last_change(here)
        assert 0 < before < registry.last_change(IoV(0, 0, -1, -1))
        registry.add([a_run(12, 10), a_run(12, 1)])
        assert registry.last_change(here) == before
        registry.add([a_run(12, 1, quality="Bad For Alignment")])
        assert registry.last_change(here) > before

    def test_runs_are_told_by_when_they_were_first_registered(self, registry: RunRegistry) -> None:
        registry.add([a_run(12, 1), a_run(12, 2)])
        moment = datetime.now(UTC)
        assert registry.runs(registered_by=moment - timedelta(hours=1)) == ()
        registry.add([a_run(12, 3), a_run(12, 2, quality="Bad For Alignment")])
        then = (a_run(12, 1), a_run(12, 2, quality="Bad For Alignment"))
        assert registry.runs(registered_by=moment) == then
        assert registry.runs(IoV(12, 2, 12, 3), registered_by=moment) == then[1:]
        assert registry.runs(registered_by=datetime.now(UTC)) == (*then, a_run(12, 3))

    def test_of_one_run_twice_in_one_call_the_later_counts(self, registry: RunRegistry) -> None:
        assert registry.add([a_run(12, 1), a_run(12, 1, events=9)]) == 1
        assert registry.runs() == (a_run(12, 1, events=9),)

    def test_times_of_other_zones_are_the_same_moments(self, registry: RunRegistry) -> None:
        local = timezone(timedelta(hours=9))
        run = a_run(12, 1)
        abroad = RunRecord(
            run.run,
            run.run_type,
            run.beam_energy,
            run.magnet,
            run.quality,
            run.started.astimezone(local),
            run.ended.astimezone(local),
            run.files,
        )
        registry.add([abroad])
        assert registry.runs() == (run,)
        assert registry.runs()[0].started.utcoffset() == timedelta(0)

    def test_it_knows_when_each_run_was_registered_first(self, registry: RunRegistry) -> None:
        before = datetime.now(UTC)
        registry.add([a_run(12, 1), a_run(12, 9)])
        between = datetime.now(UTC)
        registry.add([a_run(12, 1, quality="Bad For Alignment"), a_run(12, 2)])
        found = registry.registrations(IoV(12, 1, 12, 2))
        assert set(found) == {ExpRun(12, 1), ExpRun(12, 2)}
        assert before <= found[ExpRun(12, 1)] <= between <= found[ExpRun(12, 2)] <= datetime.now(UTC)

    def test_a_time_without_zone_is_refused(self, registry: RunRegistry) -> None:
        run = a_run(12, 1)
        naive = RunRecord(
            run.run,
            "physics",
            "4S",
            "On",
            run.quality,
            datetime(2026, 1, 1),  # noqa: DTZ001 (it is the point)
            run.ended,
        )
        with pytest.raises(DataError, match="exp 12 run 1 has a time without time zone"):
            registry.add([naive])
