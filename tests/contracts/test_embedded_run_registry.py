import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from run_registry_contract import RunRegistryContract, a_run

from b2cal_core.errors import BackendError, DataError
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.runs.records import read_records, write_records


class TestEmbeddedRunRegistry(RunRegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[EmbeddedRunRegistry]:
        return EmbeddedRunRegistry(Home(tmp_path).registry_url)


def test_making_a_registry_opens_nothing(tmp_path: Path) -> None:
    EmbeddedRunRegistry(Home(tmp_path / "absent").registry_url)
    assert list(tmp_path.iterdir()) == []


def test_two_registries_of_one_address_see_the_same_runs(tmp_path: Path) -> None:
    one, other = (EmbeddedRunRegistry(Home(tmp_path).registry_url) for _ in range(2))
    one.add([a_run(12, 1)])
    other.add([a_run(12, 2)])
    assert one.runs() == other.runs() == (a_run(12, 1), a_run(12, 2))


def test_a_registry_is_usable_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    registry = EmbeddedRunRegistry(Home(tmp_path).registry_url)
    registry.add([a_run(12, 1)])
    child = os.fork()
    if child == 0:
        os._exit(0 if registry.add([a_run(12, 2)]) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    registry.add([a_run(12, 3)])
    assert [r.run.run for r in registry.runs()] == [1, 2, 3]


def test_writers_of_several_processes_do_not_lose_changes(tmp_path: Path) -> None:
    registry = EmbeddedRunRegistry(Home(tmp_path).registry_url)
    children = []
    for exp in range(4):
        child = os.fork()
        if child == 0:
            added = sum(registry.add([a_run(exp, n)]) for n in range(20))
            os._exit(0 if added == 20 else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    records, cursor = registry.changes(0)
    assert len(records) == cursor == 80


def test_more_runs_than_one_transaction_takes_are_all_registered(tmp_path: Path) -> None:
    registry = EmbeddedRunRegistry(Home(tmp_path).registry_url)
    first = a_run(12, 0)
    assert registry.add(a_run(12, n) for n in range(5001)) == 5001
    assert registry.runs()[0] == first
    assert registry.changes(5000)[0] == (a_run(12, 5000),)


def test_a_file_that_is_no_database_is_a_lasting_failure_that_says_what_to_do(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.registry.write_bytes(b"this is not a database, it never was one" * 100)
    with pytest.raises(BackendError, match=r"registry\.db cannot be used.*move it away") as raised:
        EmbeddedRunRegistry(home.registry_url).runs()
    assert not raised.value.transient


def test_a_registry_that_cannot_be_reached_is_a_passing_failure(tmp_path: Path) -> None:
    home = Home(tmp_path / "not" / "mounted")
    registry = EmbeddedRunRegistry(home.registry_url)
    with pytest.raises(BackendError, match="check that its directory exists") as raised:
        registry.changes(0)
    assert raised.value.transient
    home.create()
    assert registry.changes(0) == ((), 0)


def test_a_file_of_records_is_read_as_it_was_written(tmp_path: Path) -> None:
    records = (a_run(12, 1), a_run(12, 2, quality=">=30 Minute Run"))
    write_records(tmp_path / "feed.jsonl", records)
    assert tuple(read_records(tmp_path / "feed.jsonl")) == records


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda fields: fields.pop("magnet"), "line 2, has no field 'magnet'"),
        (lambda fields: fields.update(exp=-1), "line 2, is not a run record: experiment and run count from 0"),
        (lambda fields: fields.update(started="yesterday"), "line 2, is not a run record"),
        (lambda fields: fields["files"][0].update(colour="red"), "line 2, is not a run record"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, spoil: object, says: str) -> None:
    feed = tmp_path / "feed.jsonl"
    write_records(feed, [a_run(12, 1), a_run(12, 2)])
    good, bad = feed.read_text().splitlines()
    fields = json.loads(bad)
    spoil(fields)
    feed.write_text(f"{good}\n{json.dumps(fields)}\n")
    with pytest.raises(DataError, match=says):
        tuple(read_records(feed))


@pytest.mark.parametrize(("text", "says"), [("{", "line 1, is not JSON"), ("[1]", "line 1, is list")])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: str, says: str) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_text(text)
    with pytest.raises(DataError, match=says):
        tuple(read_records(feed))


def test_an_absent_feed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"feed\.jsonl cannot be read"):
        tuple(read_records(tmp_path / "feed.jsonl"))


def test_a_run_that_lasted_microseconds_keeps_them(tmp_path: Path) -> None:
    registry = EmbeddedRunRegistry(Home(tmp_path).registry_url)
    registry.add([a_run(12, 1)])
    (run,) = registry.runs()
    assert run.ended - run.started == timedelta(hours=1)
    assert run.started.microsecond == 250_000
