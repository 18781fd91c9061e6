"""Late runs on the command line: which a bucket leaves out, which no bucket has, and buckets of their own for these."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_answers import CommandLine

from b2cal_core.buckets import Bucket
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from resources.campaigns.files import FileCampaignStore
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
buckets: {runs: 5, late: ignore}
"""


def a_run(run: int) -> RunRecord:
    started = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=run)
    file = DataFile(f"/data/{run}.root", "hadron_calib", "raw", 10, 100, "ab" * 32)
    ended = started + timedelta(hours=1)
    return RunRecord(ExpRun(12, run), "physics", "4S", "On", frozenset({"Good"}), started, ended, (file,))


@pytest.fixture
def late(home: Home, b2cal: CommandLine, tmp_path: Path) -> str:
    """Buckets of runs 1 to 4 and 8 to 9; runs 3 and 6 came late. The key of the first bucket."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "caf_a.py").write_text(SCRIPT)
    (tmp_path / "prompt.yaml").write_text(CAMPAIGN)
    b2cal.ok("catalogue", "import", scripts, "--release", "r1")
    b2cal.ok("cdb", "create", "main")
    b2cal.ok("campaign", "create", tmp_path / "prompt.yaml")
    registry = EmbeddedRunRegistry(home.registry_url)
    registry.add(map(a_run, (1, 2, 4, 8, 9)))
    for first, last in ((1, 4), (8, 9)):
        FileCampaignStore(home).add_bucket("prompt", Bucket(ExpRun(12, first), ExpRun(12, last)), closed_by="mia")
    registry.add(map(a_run, (3, 6)))
    return "e0012r00001-e0012r00004"


def test_a_bucket_says_which_runs_it_leaves_out_and_why(b2cal: CommandLine, late: str) -> None:
    found = b2cal.ok("bucket", "status", "prompt", late, "--json").json
    assert (found["left_out"], found["left_out_because"]) == (
        ["12/3"],
        "registered after the bucket was closed, and buckets.late is ignore",
    )
    assert (
        "left out: 1 runs, registered after the bucket was closed" in b2cal.ok("bucket", "status", "prompt", late).out
    )
    other = b2cal.ok("bucket", "status", "prompt", "e0012r00008-e0012r00009", "--json").json
    assert other["left_out"] == []


def test_runs_between_buckets_are_listed_and_given_a_bucket_of_their_own(b2cal: CommandLine, late: str) -> None:
    assert b2cal.ok("bucket", "list", "prompt", "--json").json["late"] == [[12, 6]]
    assert "b2cal bucket close prompt --late" in b2cal.ok("bucket", "list", "prompt").out
    own = "e0012r00006-e0012r00006"
    assert b2cal.ok("bucket", "close", "prompt", "--late", "--json").json == {"buckets": [own]}
    listed = b2cal.ok("bucket", "list", "prompt", "--json").json
    assert (listed["late"], [entry["bucket"] for entry in listed["buckets"]][1]) == ([], own)
    answer = b2cal("bucket", "close", "prompt", "--late")
    assert (answer.code, "no run of campaign prompt came too late" in answer.err) == (2, True)
    assert b2cal("bucket", "close", "prompt", "--late", "--label", "rest").code == 2
