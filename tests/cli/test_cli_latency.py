"""``b2cal latency show``: the table, the JSON and the picture of a bucket that waits for people."""

from pathlib import Path

import pytest
from cli_answers import CommandLine
from judged_bucket import BUCKET, JudgedBucket

from resources.home import Home


@pytest.fixture
def bucket(b2cal: CommandLine, home: Home, tmp_path: Path) -> JudgedBucket:
    return JudgedBucket(b2cal, home, tmp_path)


def test_a_bucket_that_is_not_published_is_shown_with_what_it_waits_for(
    b2cal: CommandLine, bucket: JudgedBucket
) -> None:
    bucket.made("A", "content", "warn")
    (found,) = b2cal.ok("latency", "show", "prompt", "--json").json["buckets"]
    assert (found["bucket"], found["published"]) == (BUCKET, False)
    assert set(found["shares"]) == {"data", "machine", "batch queue", "people", "platform"}
    assert found["shares_since_closing"]["people"] > 0
    assert found["from_closing"] < found["from_last_run"] <= found["from_first_run"]
    out = b2cal.ok("latency", "show", "prompt").out
    assert BUCKET in out
    assert "not published" in out
    assert "median" not in out


def test_the_numbers_of_a_campaign_are_those_of_its_buckets(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    one = b2cal.ok("latency", "show", "prompt", BUCKET, "--json").json
    everything = b2cal.ok("latency", "show", "prompt", "--json").json
    assert one["buckets"][0]["closed"] == everything["buckets"][0]["closed"]
    assert one["summary"] == everything["summary"] == {}


def test_the_picture_is_written_where_it_is_wanted(b2cal: CommandLine, bucket: JudgedBucket, tmp_path: Path) -> None:
    file = tmp_path / "latency.png"
    assert str(file) in b2cal.ok("latency", "show", "prompt", "--plot", file).out
    assert file.read_bytes().startswith(b"\x89PNG")
    answer = b2cal("latency", "show", "prompt", "--plot", tmp_path / "latency.pdf")
    assert (answer.code, "a .png file" in answer.err) == (2, True)


def test_what_does_not_exist_is_wrong_usage(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    assert b2cal("latency", "show", "promt").code == 2
    answer = b2cal("latency", "show", "prompt", "e0099r00001-e0099r00002")
    assert (answer.code, BUCKET in answer.err) == (2, True)


def test_a_campaign_without_buckets_is_told_as_such(b2cal: CommandLine, home: Home, tmp_path: Path) -> None:
    JudgedBucket(b2cal, home, tmp_path)
    text = (tmp_path / "prompt.yaml").read_text().replace("prompt\ncat", "second\ncat").replace("data_prompt", "other")
    (tmp_path / "second.yaml").write_text(text)
    b2cal.ok("campaign", "create", tmp_path / "second.yaml")
    assert "campaign second has no bucket yet" in b2cal.ok("latency", "show", "second").out
