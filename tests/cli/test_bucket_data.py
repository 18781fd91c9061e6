"""``b2cal bucket data``: what people choose where a calibration has not enough data."""

from pathlib import Path

import pytest
from cli_answers import CommandLine
from judged_bucket import BUCKET, JudgedBucket

from b2cal_core.remedies import Remedy
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog

PLACE = ("prompt", BUCKET, "A")


@pytest.fixture
def bucket(b2cal: CommandLine, home: Home, tmp_path: Path) -> JudgedBucket:
    return JudgedBucket(b2cal, home, tmp_path, "gates: {experts_only: true}\n")


def test_a_choice_is_logged_and_the_next_step_is_said(b2cal: CommandLine, home: Home, bucket: JudgedBucket) -> None:
    said = b2cal.ok("bucket", "data", *PLACE, "reuse", "--reason", "beam off", "--author", "mia")
    assert f"A of {BUCKET}: reuse, chosen by mia" in said.out
    answer = b2cal.ok("bucket", "data", *PLACE, "ask", "--reason", "not so fast", "--author", "mia", "--json")
    assert answer.json == {"campaign": "prompt", "bucket": BUCKET, "calibration": "A", "remedy": "ask"}
    logged = EmbeddedSignOffLog(home.registry_url).choices("prompt", BUCKET)
    assert [(choice.remedy, choice.reason) for choice in logged] == [
        (Remedy.reuse, "beam off"),
        (Remedy.ask, "not so fast"),
    ]
    cell = bucket.cells()["prompt/a/payloads"]
    assert cell["state"] == "blocked"
    assert "A has not enough data" in cell["reasons"][0]
    assert "b2cal bucket data prompt" in str(cell)


def test_what_waits_for_a_choice_is_listed_with_who_is_to_act(
    b2cal: CommandLine, home: Home, bucket: JudgedBucket
) -> None:
    b2cal.ok("bucket", "data", *PLACE, "ask", "--reason", "too few tracks", "--author", "mia")
    (waiting,) = b2cal.ok("signoff", "open", "--json").json
    assert (waiting["calibration"], waiting["verdict"], waiting["to_act"]) == ("A", "", ["a-expert"])
    assert waiting["days"] < 1
    command = f"b2cal bucket data prompt {BUCKET} a merge|extend|reuse"
    assert command in waiting["question"]
    shown = " ".join(b2cal.ok("signoff", "open").out.split())
    assert "not enough data" in shown
    assert command in shown
    bucket.made("A", "aa", verdict="warn")  # it is not lacking any more, whatever was asked before
    assert [(one["calibration"], one["question"]) for one in b2cal.ok("signoff", "open", "--json").json] == [("A", "")]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--author", "joe"], 1),
        (["--author", "rule:any"], 2),
        (["--author", "mia", "--nonsense"], 2),
        (["--author", "mia", "--reason", ""], 2),
    ],
)
def test_who_may_not_decide_changes_nothing(
    b2cal: CommandLine, home: Home, bucket: JudgedBucket, more: list[str], code: int
) -> None:
    assert bucket.cells()
    assert b2cal("bucket", "data", *PLACE, "merge", "--reason", "few", *more).code == code
    assert EmbeddedSignOffLog(home.registry_url).choices("prompt", BUCKET) == ()
