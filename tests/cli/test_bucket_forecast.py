"""``b2cal bucket forecast``: what calibrations can expect of the bucket that is filling."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_answers import CommandLine

from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry

SCRIPT = """
from b2cal_core.settings import CalibrationSettings
settings = CalibrationSettings(name="A", input_data_formats={"raw"}, input_data_names={"hadron_calib"})
def get_calibrations(input_data, **kwargs):
    return []
"""
CAMPAIGN = """
name: prompt
catalogue: r1
base_tags: [main]
target_tag: data_prompt
buckets: {runs: 10}
wanted_events: {caf_a: 700}
"""
HOUR = timedelta(hours=1)
BEGIN = datetime.now(UTC).replace(microsecond=0) - 4 * HOUR
"""The fifth run ends an hour after now, so that its end counts as now."""


def record(number: int, begin: datetime = BEGIN) -> RunRecord:
    file = DataFile(f"/r{number}.root", "hadron_calib", "raw", 100, 1, "0" * 64)
    started = begin + number * HOUR
    ended = started + HOUR
    return RunRecord(ExpRun(1, number), "physics", "4S", "On", frozenset({"Good"}), started, ended, (file,))


@pytest.fixture
def campaign(b2cal: CommandLine, home: Home, tmp_path: Path) -> str:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "caf_a.py").write_text(SCRIPT)
    (tmp_path / "prompt.yaml").write_text(CAMPAIGN)
    b2cal.ok("catalogue", "import", tmp_path / "scripts", "--release", "r1")
    b2cal.ok("cdb", "create", "main")
    b2cal.ok("campaign", "create", tmp_path / "prompt.yaml")
    return "prompt"


def test_it_says_what_there_will_be_and_when_it_is_enough(b2cal: CommandLine, home: Home, campaign: str) -> None:
    assert "nothing to tell" in b2cal.ok("bucket", "forecast", campaign).out
    EmbeddedRunRegistry(home.registry_url).add(record(number) for number in range(5))
    told = b2cal.ok("bucket", "forecast", campaign, "--json").json
    assert told["closes_at"] == (BEGIN + 10 * HOUR).isoformat()
    assert told["calibrations"] == [
        {
            "calibration": "A",
            "events": 500,
            "wanted": 700,
            "per_hour": 100.0,
            "at_closing": 1000,
            "enough_at": (BEGIN + 7 * HOUR).isoformat(),
            "will_do": True,
        }
    ]
    shown = b2cal.ok("bucket", "forecast", campaign).out
    assert f"5 runs wait in the bucket that is filling; it closes {BEGIN + 10 * HOUR:%Y-%m-%d %H:%M} UTC" in shown


def test_while_no_data_are_taken_it_says_since_when_and_what_a_full_bucket_has(
    b2cal: CommandLine, home: Home, campaign: str
) -> None:
    EmbeddedRunRegistry(home.registry_url).add(record(number, BEGIN - 100 * HOUR) for number in range(5))
    told = b2cal.ok("bucket", "forecast", campaign, "--json").json
    assert told["closes_at"] is None
    assert (told["calibrations"][0]["enough_at"], told["calibrations"][0]["at_closing"]) == (None, 1000)
    shown = " ".join(b2cal.ok("bucket", "forecast", campaign).out.split())
    assert f"while no runs come: the last ended {BEGIN - 95 * HOUR:%Y-%m-%d %H:%M} UTC" in shown


def test_of_a_whole_experiment_it_says_what_ends_the_wait(b2cal: CommandLine, home: Home, campaign: str) -> None:
    text = CAMPAIGN.replace("{runs: 10}", "{whole_experiments: true}").replace("prompt", "again")
    (home.path / "again.yaml").write_text(text + "last_run: [1, 7]\n")
    b2cal.ok("campaign", "create", home.path / "again.yaml")
    EmbeddedRunRegistry(home.registry_url).add(record(number) for number in range(5))
    shown = b2cal.ok("bucket", "forecast", "again").out
    assert "5 runs wait" in shown
    told = "closes when a run of a later experiment, or exp 1 run 7 or a later one, is registered"
    assert told in " ".join(shown.split())
    assert b2cal.ok("bucket", "forecast", "again", "--json").json["closes_at"] is None
    EmbeddedRunRegistry(home.registry_url).add([record(9)])
    assert "1 more are full" in b2cal.ok("bucket", "list", "again").out
    assert "0 runs wait" in b2cal.ok("bucket", "forecast", "again").out
