"""Belle II's run registry: the reading half of what our own passes, and what only a server can do to us."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from run_registry_contract import Reader, RunReadingContract, a_run
from servers import faults
from servers.fake_rundb import FakeRunDb

from b2cal_core.errors import BackendError, ConfigurationError, RightsError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord
from resources.conditions.rest.patience import Patience
from resources.runs.rundb import RunDb
from resources.secret_values import Secret

AT_ONCE = Patience(attempts=3, sleep=lambda _: None)


@pytest.fixture
def fake() -> Iterator[FakeRunDb]:
    fake = FakeRunDb()
    yield fake
    fake.stop()


def opened(fake: FakeRunDb, tmp_path: Path, *, page: int = 3) -> RunDb:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(f"{fake.token}\n")
    return RunDb(fake.url, Secret(f"file:{file}", "the token"), page=page, patience=AT_ONCE)


def everything(rundb: RunDb, within: IoV | None = None) -> Iterator[RunRecord]:
    token = ""
    while True:
        records, token = rundb.page(within, token=token)
        yield from records
        if not token:
            return


@pytest.mark.parametrize("order", [{}, {"newest_first": True}, {"elsewhere": "https://rundb.example.org/rest/v1"}])
class TestRunDb(RunReadingContract):
    @pytest.fixture
    def reader(self, order: dict, tmp_path: Path) -> Iterator[Reader]:
        fake = FakeRunDb(**order)
        rundb = opened(fake, tmp_path)
        yield Reader(fake.put, lambda within: everything(rundb, within))
        fake.stop()


def test_a_page_is_not_longer_than_asked_for_and_its_token_gives_the_next(fake: FakeRunDb, tmp_path: Path) -> None:
    fake.put(a_run(12, run) for run in range(5))
    rundb = opened(fake, tmp_path, page=2)
    first, token = rundb.page()
    other_process = opened(fake, tmp_path, page=2)
    second, token = other_process.page(token=token)
    third, end = other_process.page(token=token)
    assert [record.run.run for record in (*first, *second, *third)] == [0, 1, 2, 3, 4]
    assert (len(first), len(second), len(third), end) == (2, 2, 1, "")


def test_runs_can_be_read_from_the_day_on_that_they_started(fake: FakeRunDb, tmp_path: Path) -> None:
    fake.put(a_run(12, 24 * day) for day in range(4))
    records, _ = opened(fake, tmp_path).page(started_since=a_run(12, 48).started + timedelta(hours=3))
    assert [record.run.run for record in records] == [48, 72]


def test_a_run_that_goes_on_is_left_out_until_it_has_ended(fake: FakeRunDb, tmp_path: Path) -> None:
    fake.put([a_run(12, 1), a_run(12, 2)])
    fake.entries[12, 2]["time_stop"] = None
    assert [record.run.run for record in everything(opened(fake, tmp_path))] == [1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"Good", "Good Or Recoverable", "Good For PXD", ">=30 Minute Run"}),
        (
            {"quality_expert": {"pxd": "GOOD", "cdc": "recoverable"}},
            {"Good Or Recoverable", "Good For PXD", ">=30 Minute Run"},
        ),
        ({"quality_expert": {"pxd": "BAD", "cdc": "GOOD"}}, {">=30 Minute Run"}),
        ({"quality_expert": {}}, {">=30 Minute Run"}),
        ({"quality_expert": None, "quality_shifter": {"run": "GOOD"}, "time_stop": "2026-03-01T14:00:00"}, {"shifter"}),
    ],
)
def test_quality_tags_are_made_of_the_flags_of_experts_and_shifters(
    fake: FakeRunDb, tmp_path: Path, changes: dict, expected: set[str]
) -> None:
    fake.put([a_run(12, 1)])
    fake.entries[12, 1] |= changes
    (record,) = everything(opened(fake, tmp_path))
    shifter = {"Good Shifter", "Good Or Recoverable Shifter"}
    assert record.quality == (shifter if expected == {"shifter"} else expected)


def test_a_run_that_cannot_be_read_keeps_no_other_out(
    fake: FakeRunDb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.put(a_run(12, run) for run in (1, 2, 3))
    fake.entries[12, 1]["time_start"] = "yesterday"
    del fake.entries[12, 3]["run_type"]
    with caplog.at_level(logging.WARNING, "b2cal"):
        assert [record.run.run for record in everything(opened(fake, tmp_path))] == [2]
    assert "(experiment 12, run 1)" in caplog.text
    assert "'run_type') (experiment 12, run 3)" in caplog.text


@pytest.mark.parametrize("fault", [faults.unavailable, faults.html_page, faults.lose_reply, faults.malformed])
def test_a_page_that_was_spoiled_is_asked_for_again(fake: FakeRunDb, tmp_path: Path, fault: faults.Fault) -> None:
    fake.put([a_run(12, 1)])
    fake.faults.at(0, fault, times=2)
    assert [record.run.run for record in everything(opened(fake, tmp_path))] == [1]
    assert len(fake.faults.requests) == 3


@pytest.mark.parametrize(
    ("fault", "says", "transient"),
    [
        (faults.unavailable, "answers 503", True),
        (faults.html_page, "no JSON", True),
        (faults.lose_reply, "gives no reply", True),
        (faults.redirect, "answers 308; check runs.server", False),
        (faults.html_absent, "answers 404; check runs.server", False),
        (faults.wrong_type, "no page of runs", False),
    ],
)
def test_a_server_that_stays_broken_is_told_in_words(
    fake: FakeRunDb, tmp_path: Path, fault: faults.Fault, says: str, *, transient: bool
) -> None:
    fake.faults.at(0, fault, times=99)
    with pytest.raises(BackendError, match=says) as raised:
        opened(fake, tmp_path).page()
    assert raised.value.transient is transient
    assert fake.token not in str(raised.value)


def test_a_server_that_is_away_is_a_passing_failure(fake: FakeRunDb, tmp_path: Path) -> None:
    fake.stop()
    with pytest.raises(BackendError, match="gives no reply") as raised:
        opened(fake, tmp_path).page()
    assert raised.value.transient


def test_a_refused_token_is_told_by_where_it_is_kept(fake: FakeRunDb, tmp_path: Path) -> None:
    rundb = opened(fake, tmp_path)
    fake.token = "another"  # noqa: S105 (of no real server)
    with pytest.raises(RightsError, match=r"refuses our token \(401\); it is read from file:.*token"):
        rundb.page()
    with pytest.raises(RightsError, match="none is configured"):
        RunDb(fake.url, patience=AT_ONCE).page()


def test_a_token_that_others_can_read_is_not_sent(fake: FakeRunDb, tmp_path: Path) -> None:
    rundb = opened(fake, tmp_path)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        rundb.page()
    assert fake.faults.requests == []


def test_a_next_page_elsewhere_is_not_followed(fake: FakeRunDb, tmp_path: Path) -> None:
    for elsewhere in ("/rest/v1/users/?page=2", "/rest/v1/runs/"):
        page = f'{{"results": [], "next": "http://127.0.0.1:9{elsewhere}"}}'
        fake.faults.at(0, faults.answering(200, page.encode()))
        with pytest.raises(BackendError, match="next page that is none of its runs"):
            opened(fake, tmp_path).page()


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("rundb.example.org", "must be an address"),
        ("ftp://rundb.example.org", "must be an address"),
        ("https://[rundb", "must be an address"),
        ("https://ada:secret@rundb.example.org/rest/v1", "has a user or password"),
        ("http://rundb.example.org/rest/v1", "over https only"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_without_being_shown(server: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        RunDb(server)
    assert "secret" not in str(raised.value)


def test_a_token_is_in_no_picture_of_the_adapter(fake: FakeRunDb, tmp_path: Path) -> None:
    rundb = opened(fake, tmp_path)
    fake.put([replace(a_run(12, 1), run=ExpRun(12, 7))])
    list(everything(rundb))
    assert fake.token not in repr(vars(rundb))
