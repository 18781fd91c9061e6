"""Runs of another registry come into ours: once, in goes that resume each other, with what changed about them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from asset_fakes import run_record
from servers import faults
from servers.fake_rundb import FakeRunDb

from b2cal_assets.run_mirror import MirrorCursor, RunMirror
from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord
from resources.conditions.rest.patience import Patience
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.runs.rundb import RunDb
from resources.secret_values import Secret
from sensors.run_feed import run_feed_sensor

NOW = datetime(2026, 1, 10, tzinfo=UTC)


class World:
    """A fake run registry, ours, and a clock."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.fake = FakeRunDb(newest_first=True)
        self.registry = EmbeddedRunRegistry(Home(directory).registry_url)
        self._token = directory / "token"
        self._token.touch(mode=0o600)
        self._token.write_text(self.fake.token)

    def mirror(self) -> RunMirror:
        patience = Patience(attempts=1)
        source = RunDb(self.fake.url, Secret(f"file:{self._token}", "the token"), page=2, patience=patience)
        return RunMirror(source, self.registry, clock=lambda: self.now)

    def runs(self) -> list[int]:
        return [record.run.run for record in self.registry.runs()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.fake.stop()


def without_files(run: int, quality: str = "Good") -> RunRecord:
    return replace(run_record(run, quality), files=())


def test_all_runs_come_over_and_afterwards_only_new_ones_are_asked_for(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    done = world.mirror().advance(MirrorCursor(), seconds=60)
    assert (world.runs(), done.runs, done.changed) == ([1, 2, 3, 4, 5], 5, 5)
    world.fake.faults.reset()
    world.fake.put([without_files(6)])
    again = world.mirror().advance(done.cursor, seconds=60)
    assert (world.runs(), again.runs) == ([1, 2, 3, 4, 5, 6], 1)
    assert [request.query.split("&")[:3] for request in world.fake.faults.requests] == [
        ["min_experiment=12", "max_experiment=12", "min_run=6"],
        ["min_experiment=13", "expand=true", "limit=2"],
    ]


def test_a_go_that_ends_early_is_resumed_where_it_was(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    cursor, goes = MirrorCursor(), []
    for _ in range(3):
        done = world.mirror().advance(cursor, seconds=0)
        goes.append(done.runs)
        cursor = MirrorCursor.from_text(done.cursor.to_text())
    assert goes == [2, 2, 1]
    assert (cursor.last, cursor.token) == ((12, 5), "")
    assert world.runs() == [1, 2, 3, 4, 5]


def test_a_go_that_breaks_off_loses_nothing(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    world.fake.faults.at(1, faults.unavailable)
    sensor = run_feed_sensor(world.mirror())
    assert isinstance(sensor(dg.build_sensor_context()), dg.SkipReason)
    assert isinstance(sensor(dg.build_sensor_context()), dg.SensorResult)
    assert world.runs() == [1, 2, 3, 4, 5]


def test_changed_quality_is_found_when_runs_are_read_again_and_files_stay(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    cursor = world.mirror().advance(MirrorCursor(), seconds=60).cursor
    world.registry.add([run_record(2)])
    world.fake.put([without_files(2, "Good Or Recoverable")])
    assert world.mirror().advance(cursor, seconds=60).runs == 0
    world.now += timedelta(hours=1)
    done = world.mirror().advance(cursor, seconds=60)
    assert (done.runs, done.changed) == (5, 5 - 4)
    changed = world.registry.runs()[1]
    assert "Good" not in changed.quality
    assert changed.files == run_record(2).files
    assert world.mirror().advance(done.cursor, seconds=60).runs == 0


def test_runs_of_long_ago_are_not_read_again(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    cursor = world.mirror().advance(MirrorCursor(), seconds=60).cursor
    world.now += timedelta(days=60)
    done = world.mirror().advance(cursor, seconds=60)
    assert done.runs == 0
    assert done.cursor.last == (12, 5)


def test_what_the_other_registry_does_not_tell_stays_as_it_was_registered(world: World) -> None:
    world.registry.add([run_record(1)])
    world.fake.put([replace(without_files(1), beam_energy="", magnet="Off")])
    world.mirror().advance(MirrorCursor(), seconds=60)
    (record,) = world.registry.runs()
    assert (record.beam_energy, record.magnet, record.files) == ("4S", "Off", run_record(1).files)


def test_a_run_that_appears_before_known_ones_is_found_when_runs_are_read_again(world: World) -> None:
    world.fake.put(map(without_files, (1, 2, 4)))
    cursor = world.mirror().advance(MirrorCursor(), seconds=60).cursor
    world.fake.put([without_files(3)])
    world.now += timedelta(hours=1)
    world.mirror().advance(cursor, seconds=60)
    assert world.runs() == [1, 2, 3, 4]


def test_the_sensor_says_what_it_did_and_goes_on_from_its_cursor(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    sensor = run_feed_sensor(world.mirror())
    first = sensor(dg.build_sensor_context())
    assert first.skip_reason.skip_message == "5 runs read, 5 of them new or changed"
    second = sensor(dg.build_sensor_context(cursor=first.cursor))
    assert second.skip_reason.skip_message == "0 runs read, 0 of them new or changed"
    unfinished = run_feed_sensor(world.mirror(), mirror_seconds=0)(dg.build_sensor_context())
    assert unfinished.skip_reason.skip_message.endswith("; the next tick reads on")


def spoil_server(world: World) -> str:
    world.fake.faults.at(0, faults.unavailable, times=9)
    return "runs could not be read, which the next tick does again: the run registry at http://127.0.0.1"


def spoil_token(world: World) -> str:
    world.fake.token = "another"  # noqa: S105 (of no real server)
    return "runs may not be read: the run registry at http://127.0.0.1"


@pytest.mark.parametrize("spoil", [spoil_server, spoil_token])
def test_a_server_that_gives_nothing_is_said_and_the_cursor_stays(world: World, spoil: Callable[[World], str]) -> None:
    expected = spoil(world)
    answer = run_feed_sensor(world.mirror())(dg.build_sensor_context(cursor='{"last": [12, 3]}'))
    assert isinstance(answer, dg.SkipReason)
    assert str(answer.skip_message).startswith(expected)


def test_a_cursor_keeps_all_of_itself_as_text() -> None:
    cursor = MirrorCursor(last=(12, 3), highest=(12, 5), token="0 ?a", since="2026-01-01", looked="2026-01-02")  # noqa: S106 (of a page)
    assert MirrorCursor.from_text(cursor.to_text()) == cursor
    assert MirrorCursor.from_text(None) == MirrorCursor.from_text(MirrorCursor().to_text()) == MirrorCursor()
    with pytest.raises(ConfigurationError, match="is no cursor"):
        MirrorCursor.from_text('{"first": 3}')


def test_experiments_after_the_last_run_are_asked_for_too(world: World) -> None:
    world.fake.put([without_files(5)])
    cursor = world.mirror().advance(MirrorCursor(), seconds=60).cursor
    world.fake.put([replace(without_files(1), run=ExpRun(13, 1)), replace(without_files(1), run=ExpRun(11, 9))])
    done = world.mirror().advance(cursor, seconds=60)
    assert [tuple(record.run) for record in world.registry.runs()] == [(12, 5), (13, 1)]
    assert done.cursor.last == (13, 1)


def test_a_range_is_read_again_whenever_a_person_asks(world: World) -> None:
    world.fake.put(map(without_files, range(1, 6)))
    everything = world.mirror().bring()
    assert (everything.runs, everything.changed) == (5, 5)
    world.fake.put(without_files(run, "Good Or Recoverable") for run in (2, 4))
    some = world.mirror().bring(IoV(12, 1, 12, 3))
    assert (some.runs, some.changed) == (3, 1)
