"""A home of the laptop's defaults moves to MariaDB with everything in it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cli_answers import CommandLine
from servers.mariadb import MariaDBServer

from b2cal_core.buckets import Bucket
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.verdicts import Decision, SignOff
from resources.campaigns.files import FileCampaignStore
from resources.conditions.deployed import open_embedded
from resources.deployment import registry_address
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog

SIGNED = SignOff(
    "prompt",
    "e0012r00001-e0012r00002",
    "CDC Tracking",
    Decision.accepted,
    "mia",
    "größer ☢",
    "ab" * 32,
    datetime(2026, 3, 1, tzinfo=UTC),
)
BUCKET = Bucket(ExpRun(12, 1), ExpRun(12, 2), "first light")


@pytest.fixture
def laptop(home: Home, b2cal: CommandLine, tmp_path: Path) -> Home:
    """A home with two runs, a bucket, a decision and a tag with a payload, all in SQLite."""
    b2cal.ok("runs", "simulate", "--count", "2", "--scale", "0.1", "--register")
    FileCampaignStore(home).add_bucket("prompt", BUCKET, closed_by="mia")
    EmbeddedSignOffLog(home.registry_url).record(SIGNED)
    conditions = open_embedded(home)
    conditions.create_tag("a", "for the test")
    (tmp_path / "p").write_text("content")
    conditions.replace_iovs("a", ["p"], [LocalPayload("p", tmp_path / "p", IoV(12, 1, 12, -1))])
    return home


def serve(home: Home, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2CAL_STORAGE", f"{address}&ssl_disabled=true")
    (home.path / "deployment.yaml").write_text(yaml.safe_dump({"storage": {"database": "env:B2CAL_STORAGE"}}))


def test_everything_but_dagsters_record_goes_along_and_work_goes_on(
    laptop: Home, b2cal: CommandLine, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = (("runs", "list"), ("cdb", "tags"), ("cdb", "iovs", "a"), ("cdb", "audit"))
    before = [b2cal.ok(*question, "--json").json for question in questions]
    serve(laptop, mariadb.new_database(), monkeypatch)
    assert "b2cal storage copy" in b2cal("cdb", "tags").err  # rather than beginning anew beside the payload files
    copied = b2cal.ok("storage", "copy", "--json").json
    assert (copied["reg_runs"], copied["reg_buckets"], copied["reg_decisions"], copied["cdb_iovs"]) == (2, 1, 1, 1)
    assert [b2cal.ok(*question, "--json").json for question in questions] == before
    b2cal.ok("cdb", "audit", "--check")
    assert FileCampaignStore(laptop).buckets("prompt") == (BUCKET,)
    log = EmbeddedSignOffLog(registry_address(laptop))
    log.record(SIGNED)
    assert log.decisions("prompt") == (SIGNED, SIGNED)
    b2cal.ok("cdb", "create", "b")
    shown = {row["part"]: row for row in b2cal.ok("storage", "show", "--json").json}
    assert all("127.0.0.1" in row["address"] for row in shown.values())


def test_a_database_that_holds_something_is_not_copied_into(
    laptop: Home, b2cal: CommandLine, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(laptop, mariadb.new_database(), monkeypatch)
    EmbeddedSignOffLog(registry_address(laptop)).record(SIGNED)
    answer = b2cal("storage", "copy")
    assert answer.code == 1
    assert "holds rows in reg_decisions already; copy into an empty database" in answer.err
    assert b2cal.ok("runs", "list", "--json").json == []


def test_nothing_is_copied_where_the_deployment_names_no_database(laptop: Home, b2cal: CommandLine) -> None:
    answer = b2cal("storage", "copy")
    assert answer.code == 2
    assert "names no storage.database" in answer.err
    shown = b2cal.ok("storage", "show", "--json").json
    assert [row["part"] for row in shown] == ["registry", "conditions", "dagster"]
    assert "registry.db" in b2cal.ok("storage", "show").out
