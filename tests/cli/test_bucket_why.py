"""``b2cal bucket why``: an answer for every asset, with the command that brings it further."""

from pathlib import Path

import pytest
from cli_answers import CommandLine
from judged_bucket import BUCKET, JudgedBucket

from resources.home import Home


@pytest.fixture
def bucket(b2cal: CommandLine, home: Home, tmp_path: Path) -> JudgedBucket:
    return JudgedBucket(b2cal, home, tmp_path)


def test_every_asset_of_a_bucket_has_an_answer(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    cells = bucket.cells()
    assert len(cells) == 3 * 4 + 1
    assert cells["prompt/a/payloads"] == {
        "asset": "prompt/a/payloads",
        "state": "can start",
        "reasons": [],
        "command": f"b2cal bucket run prompt {BUCKET}",
    }
    assert cells["prompt/published"]["state"] == "waits"


def test_what_could_start_in_a_paused_campaign_is_blocked(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    b2cal.ok("campaign", "pause", "prompt", "--reason", "shutdown", "--author", "mia")
    first = bucket.cells()["prompt/a/payloads"]
    assert (first["state"], first["command"]) == ("blocked", 'b2cal campaign resume prompt --reason "…"')
    assert first["reasons"][0].startswith("campaign prompt is paused by mia (shutdown)")


def test_one_calibration_is_asked_for_by_any_of_its_names(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    assert {name.split("/")[1] for name in bucket.cells("caf_b")} == {"b"}
    assert list(bucket.cells("published")) == ["prompt/published"]
    assert b2cal("bucket", "why", "prompt", BUCKET, "nobody").code == 2


def test_people_read_the_reason_and_the_command(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    bucket.made("A", "aa", verdict="warn")
    out = b2cal.ok("bucket", "why", "prompt", BUCKET).out
    assert "A has the verdict warn and waits for its expert" in out
    assert f'  - b2cal signoff accept|reject prompt {BUCKET} a --reason "…"' in out


def test_a_rejection_is_seen_at_once(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    bucket.made("A", "aa", verdict="pass")
    said = b2cal.ok("signoff", "reject", "prompt", BUCKET, "A", "--reason", "hot wires", "--author", "mia").out
    assert f"do it again with: b2cal bucket run prompt {BUCKET} --only a" in " ".join(said.split())
    cells = bucket.cells()
    assert cells["prompt/a/payloads"]["state"] == "stale"
    assert cells["prompt/a/payloads"]["reasons"] == ["A was rejected by mia (hot wires)"]
    assert cells["prompt/b/payloads"]["state"] == "blocked"
    assert cells["prompt/b/payloads"]["command"] == f"b2cal bucket run prompt {BUCKET} --only a"
    assert cells["prompt/a/sign_off"]["state"] == "blocked"
    assert cells["prompt/a/sign_off"]["reasons"][0].startswith("A was rejected by mia (hot wires)")


def test_who_waits_for_a_decision_is_told_once_though_the_publishing_waits_for_it_too(
    b2cal: CommandLine, bucket: JudgedBucket
) -> None:
    bucket.made("A", "aa", verdict="warn")
    told = b2cal.ok("bucket", "status", "prompt", BUCKET).out
    assert told.count("b2cal signoff accept|reject") == 1
    assert "A has the verdict warn and waits for its expert" in told
