"""An installation that names the detector's run registry brings its runs over, by a sensor and by a command."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from cli_answers import CommandLine
from servers.fake_rundb import FakeRunDb

from b2cal_assets.definitions import build_definitions
from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import RunRecord
from resources.deployment import read_deployment
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry


@pytest.fixture
def fake() -> Iterator[FakeRunDb]:
    fake = FakeRunDb()
    yield fake
    fake.stop()


def a_run(exp: int, run: int) -> RunRecord:
    started = datetime(2026, 3, 1, tzinfo=UTC)
    ended = started + timedelta(hours=1)
    return RunRecord(ExpRun(exp, run), "physics", "4S", "On", frozenset({"Good"}), started, ended)


def name_registry(home: Home, **runs: object) -> None:
    home.create()
    (home.path / "deployment.yaml").write_text(json.dumps({"runs": runs}))


def sensors(home: Home) -> set[str]:
    definitions = build_definitions(home)
    dg.Definitions.validate_loadable(definitions)
    return {sensor.name for sensor in definitions.sensors or ()}


def test_a_named_run_registry_is_mirrored(home: Home, b2cal: CommandLine, fake: FakeRunDb, tmp_path: Path) -> None:
    fake.put([a_run(12, 1), a_run(12, 2), a_run(13, 1)])
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(fake.token)
    name_registry(home, kind="rundb", server=fake.url, token=f"file:{token}")
    assert "run_feed" in sensors(home)
    assert b2cal.ok("runs", "mirror", "--exp", 12, "--json").json == {"runs": 2, "changed": 2}
    assert "3 runs are read, 1 of them new or changed" in b2cal.ok("runs", "mirror").out
    assert [tuple(r.run) for r in EmbeddedRunRegistry(home.registry_url).runs()] == [(12, 1), (12, 2), (13, 1)]


def test_without_a_run_registry_there_is_nothing_to_mirror(home: Home, b2cal: CommandLine) -> None:
    home.create()
    assert "run_feed" not in sensors(home)
    answer = b2cal("runs", "mirror")
    assert (answer.code, "give runs.kind: rundb and runs.server in deployment.yaml" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "runs",
    [
        {"kind": "rundb"},
        {"server": "https://rundb.example.org/rest/v1"},
        {"token": "env:RUNDB"},
        {"kind": "rundb", "server": "https://rundb.example.org/rest/v1", "token": "the secret itself"},
        {"kind": "rundb", "server": "https://rundb.example.org/rest/v1", "again_days": 0},
    ],
)
def test_what_does_not_go_together_is_refused(home: Home, runs: dict) -> None:
    name_registry(home, **runs)
    with pytest.raises(ConfigurationError, match="runs"):
        read_deployment(home)
