"""The list of a replay: when each run comes, in the detector's own time, and how it can be disordered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cli_answers import CommandLine
from filelock import FileLock

from b2cal_cli.replay_feed import Feed
from b2cal_cli.replay_list import LATE, LONGEST_PAUSE, Arrival, Disorder, arrivals
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from b2cal_detector.feed import plan_runs
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.runs.records import write_records

RUNS = plan_runs(1, 12, 1, 40)
ORDER = Disorder()


def numbers(found: tuple[Arrival, ...]) -> list[int]:
    return [arrival.record.run.run for arrival in found]


def test_runs_come_when_they_ended_beginning_with_the_first() -> None:
    found = arrivals(reversed(RUNS), ORDER)
    assert [arrival.record for arrival in found] == list(RUNS)
    assert [arrival.after for arrival in found] == [record.ended - RUNS[0].ended for record in RUNS]


def test_no_runs_make_an_empty_list() -> None:
    assert arrivals([], ORDER) == ()


def test_the_pause_between_experiments_is_cut() -> None:
    found = arrivals([*RUNS, *plan_runs(1, 14, 1, 2)], ORDER)
    pauses = [later.after - earlier.after for earlier, later in pairwise(found)]
    assert max(pauses) == pauses[39] == LONGEST_PAUSE


def test_a_late_run_comes_a_day_after_its_end() -> None:
    on_time = {arrival.record.run: arrival.after for arrival in arrivals(RUNS, ORDER)}
    found = arrivals(RUNS, Disorder(late=0.2))
    delays = [arrival.after - on_time[arrival.record.run] for arrival in found]
    assert set(delays) == {timedelta(0), LATE}
    assert 1 < delays.count(LATE) < 16
    assert numbers(found) != sorted(numbers(found))


def test_a_run_out_of_order_comes_after_the_one_that_follows() -> None:
    found = numbers(arrivals(RUNS, Disorder(out_of_order=0.2)))
    places = {run: place for place, run in enumerate(found)}
    assert sorted(found) == list(range(1, 41))
    assert 1 < sum(places[run] > places[run + 1] for run in range(1, 40)) < 16


def test_bad_runs_are_bad_for_everything_and_otherwise_as_they_are() -> None:
    found = {arrival.record.run: arrival.record for arrival in arrivals(RUNS, Disorder(bad=1.0))}
    assert not any(word.startswith("Good") for record in found.values() for word in record.quality)
    assert all("Bad For Alignment" in record.quality for record in found.values())
    assert [replace(found[record.run], quality=record.quality) for record in RUNS] == list(RUNS)


def test_the_same_disorder_is_found_again() -> None:
    wild = Disorder(seed=3, late=0.3, out_of_order=0.3, bad=0.3)
    assert arrivals(RUNS, wild) == arrivals(RUNS, wild) != arrivals(RUNS, replace(wild, seed=4))


def test_what_is_registered_is_not_fed_again(home: Home) -> None:
    home.create()
    registry = EmbeddedRunRegistry(home.registry_url)
    registry.add(RUNS[:30])
    feed = Feed(home, arrivals(RUNS, ORDER), speed=1e9)
    assert numbers(tuple(feed.left())) == list(range(31, 41))
    feed.start()
    while not feed.is_over():
        pass
    assert registry.runs() == RUNS
    assert feed.left() == []
    feed.start()
    assert feed.is_over()


def test_a_run_that_is_not_due_does_not_come(home: Home) -> None:
    home.create()
    feed = Feed(home, arrivals(RUNS[:2], ORDER), speed=1e-3)
    feed.start()
    while len(feed.left()) == 2:
        pass
    assert not feed.is_over()
    feed.stop()
    assert numbers(tuple(feed.left())) == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "either a file with recorded runs or --generate"),
        (("--generate", 2, "--late", "many"), "in per cent"),
        (("--generate", 2, "--bad", "101%"), "from 0% to 100%"),
        (("--generate", 2, "--experiments", "12;13"), "with commas between them"),
        (("--generate", 2, "--campaign", __file__, "--bucket-runs", 2), "is for the demo's campaign"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(b2cal: CommandLine, options: tuple[object, ...], message: str) -> None:
    answer = b2cal("replay", *options)
    assert answer.code == 2
    assert message in " ".join(answer.err.replace("│", " ").split())


def test_recorded_runs_whose_files_are_gone_are_not_replayed(b2cal: CommandLine, tmp_path: Path) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    file = DataFile(str(tmp_path / "gone.root"), "hadron_calib", "raw", 1, 1, "ab" * 32)
    quality = frozenset({"Good"})
    record = RunRecord(ExpRun(12, 1), "physics", "4S", "On", quality, moment, moment + timedelta(hours=1), (file,))
    feed = tmp_path / "feed.jsonl"
    write_records(feed, [record])
    answer = b2cal("replay", feed)
    assert answer.code == 1
    assert f"1 runs of {feed} cannot be replayed" in answer.err
    assert "gone.root cannot be read" in answer.err


def test_two_replays_on_one_home_do_not_mix(b2cal: CommandLine, home: Home) -> None:
    home.create()
    with FileLock(home.path / "replay.lock"):
        answer = b2cal("replay", "--generate", 1)
    assert answer.code == 1
    assert f"a replay is running on {home.path}" in answer.err
