"""``b2cal signoff``: what people decide, on which terms, and who may."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_answers import Answer, CommandLine
from judged_bucket import BUCKET, JudgedBucket

from resources.home import Home

PLACE = ("prompt", BUCKET)
MakeBucket = Callable[[str], JudgedBucket]


@pytest.fixture
def make_bucket(b2cal: CommandLine, home: Home, tmp_path: Path) -> MakeBucket:
    """A bucket in which A failed its validation; takes further lines of the campaign file."""

    def make(campaign: str) -> JudgedBucket:
        bucket = JudgedBucket(b2cal, home, tmp_path, campaign)
        bucket.made("A", "aa", verdict="fail", failed=["pull"])
        return bucket

    return make


@pytest.fixture
def bucket(make_bucket: MakeBucket) -> JudgedBucket:
    return make_bucket("")


def day(after: float) -> str:
    return f"{datetime.now(UTC) + timedelta(days=after):%Y-%m-%d}"


def waive(b2cal: CommandLine, *more: object, calibration: str = "A") -> Answer:
    return b2cal("signoff", "waive", *PLACE, calibration, "--reason", "known shift", "--author", "mia", *more)


def reject(b2cal: CommandLine, *more: object) -> Answer:
    return b2cal("signoff", "reject", *PLACE, "A", "--reason", "hot wires", "--author", "ada", "--json", *more)


def test_a_waiver_opens_the_gate_until_the_end_of_its_day(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    assert bucket.cells()["prompt/b/payloads"]["state"] == "blocked"
    answer = waive(b2cal, "--until", day(3))
    assert answer.code == 0, answer.err
    assert f"A of {BUCKET} is waived until {day(4)} 00:00 UTC; go on with: b2cal bucket run prompt" in answer.out
    assert bucket.cells()["prompt/b/payloads"]["state"] == "can start"
    (logged,) = b2cal.ok("signoff", "list", *PLACE, "--json").json
    assert (logged["decision"], logged["author"], logged["reason"]) == ("waived", "mia", "known shift")
    assert logged["until"] == f"{day(4)}T00:00:00+00:00"
    assert f"until {day(4)} 00:00 UTC" in b2cal.ok("signoff", "list", "prompt").out


def test_a_waiver_of_one_figure_is_kept_as_such(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    assert waive(b2cal, "--until", "2100-01-01T12:00+09:00", "--figure", "pull").code == 0
    (logged,) = b2cal.ok("signoff", "list", "prompt", "--json").json
    assert (logged["figure"], logged["until"]) == ("pull", "2100-01-01T03:00:00+00:00")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--until", "2020-01-01"), "has passed"),
        (("--until", "tomorrow"), "takes a day like 2026-08-31"),
        (("--until", "2100-01-01T12:00"), "has no time zone"),
        (("--until", "2100-01-01", "--figure", "width"), "'width' is no figure of A that fails; these do: pull"),
    ],
)
def test_a_waiver_that_would_do_nothing_is_refused(
    b2cal: CommandLine, bucket: JudgedBucket, options: tuple[str, ...], says: str
) -> None:
    answer = waive(b2cal, *options)
    assert answer.code == 2
    assert says in answer.err
    assert b2cal.ok("signoff", "list", "prompt", "--json").json == []


def test_only_a_failed_verdict_is_waived(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    bucket.made("B", "bb", verdict="warn")
    bucket.made("C", "cc")
    assert (
        "B has the verdict warn; only a verdict fail is waived" in waive(b2cal, "--until", day(1), calibration="B").err
    )
    assert "C has no verdict" in waive(b2cal, "--until", day(1), calibration="C").err


def test_a_rejection_keeps_what_is_to_be_done_otherwise(
    b2cal: CommandLine, bucket: JudgedBucket, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"minimum": 5}))
    options = ("--exclude-run", "12:2", "--exclude-run", "12:1", "--boundaries", "12:1,12:2")
    answer = reject(b2cal, "--redo-with", f"expert_config=@{file}", *options)
    assert answer.code == 0, answer.err
    assert answer.json["redo"] == {
        "expert_config": {"minimum": 5},
        "excluded_runs": [[12, 1], [12, 2]],
        "boundaries": [[12, 1], [12, 2]],
        "anew": False,
    }
    told = bucket.cells("A")["prompt/a/payloads"]
    assert (told["state"], told["command"]) == ("stale", f"b2cal bucket run prompt {BUCKET} --only a")
    asked = "minimum=5; payload_boundaries=[[12, 1], [12, 2]]; without exp 12 run 1, exp 12 run 2"
    assert told["reasons"] == [f"A was rejected by ada (hot wires), to be redone: {asked}"]
    assert f"to be redone {asked}" in b2cal.ok("signoff", "list", "prompt").out


def test_a_rejection_may_ask_for_one_payload_and_take_back_what_was_asked_before(
    b2cal: CommandLine, bucket: JudgedBucket
) -> None:
    assert reject(b2cal, "--redo-with", '{"minimum": 5}').json["redo"]["expert_config"] == {"minimum": 5}
    assert reject(b2cal, "--boundaries", "").json["redo"]["boundaries"] == []
    assert reject(b2cal, "--anew").json["redo"]["anew"] is True
    assert reject(b2cal).json["redo"] is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--redo-with", "minimum"), "takes expert_config=JSON"),
        (("--redo-with", "[1]"), "takes an object of keys and values"),
        (("--redo-with", "expert_config=@/nowhere.json"), "nowhere.json"),
        (("--redo-with", '{"maximum": 5}'), "expert_config of 'A' has no key maximum; it has minimum"),
        (("--exclude-run", "12"), "--exclude-run takes a run as EXP:RUN"),
        (("--boundaries", "12:1;12:2"), "--boundaries takes a run as EXP:RUN"),
        (("--exclude-run", "99:1"), f"--exclude-run: 99:1 is not in bucket {BUCKET}"),
        (("--boundaries", "12:1,12:3"), f"--boundaries: 12:3 is not in bucket {BUCKET}"),
    ],
)
def test_an_instruction_that_cannot_be_followed_is_refused(
    b2cal: CommandLine, bucket: JudgedBucket, options: tuple[str, ...], says: str
) -> None:
    answer = reject(b2cal, *options)
    assert answer.code == 2
    assert says in answer.err


EXPERTS_ONLY = """
managers: [tom]
gates: {experts_only: true, deputies: [{expert: a-expert, deputy: bob}, {expert: b-expert, deputy: joe}]}
"""


def accept(b2cal: CommandLine, author: str) -> Answer:
    return b2cal("signoff", "accept", *PLACE, "A", "--reason", "fine", "--author", author, "--json")


def test_where_only_experts_decide_others_are_told_who_does(b2cal: CommandLine, make_bucket: MakeBucket) -> None:
    make_bucket(EXPERTS_ONLY)
    answer = accept(b2cal, "joe")
    assert answer.code == 1
    assert "joe may not decide here, only a-expert (expert), bob (deputy), mia (manager), tom (manager)" in answer.err
    assert b2cal.ok("signoff", "list", "prompt", "--json").json == []
    for author in ("a-expert", "mia", "tom"):
        assert accept(b2cal, author).json["deputy_of"] == ""


def test_a_deputy_is_logged_as_such(b2cal: CommandLine, make_bucket: MakeBucket) -> None:
    make_bucket(EXPERTS_ONLY)
    assert accept(b2cal, "bob").json["deputy_of"] == "a-expert"
    assert "as deputy of a-expert" in b2cal.ok("signoff", "list", "prompt").out


def test_on_a_laptop_anybody_decides_but_no_rule(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    assert accept(b2cal, "anybody").code == 0
    assert "is the name of a rule" in accept(b2cal, "rule:all_pass").err


def test_what_waits_for_a_person_is_listed_with_who_is_to_act(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    bucket.made("B", "bb", verdict="warn")
    bucket.made("C", "cc", verdict="pass")
    waiting = b2cal.ok("signoff", "open", "--json").json
    assert [(one["calibration"], one["verdict"], one["to_act"]) for one in waiting] == [
        ("A", "fail", ["a-expert"]),
        ("B", "warn", ["b-expert"]),
    ]
    assert waiting[0]["days"] < 1
    assert "b-expert" in b2cal.ok("signoff", "open", "prompt").out
    accept(b2cal, "mia")
    assert [one["calibration"] for one in b2cal.ok("signoff", "open", "--json").json] == ["B"]
    assert b2cal("signoff", "open", "promt").code == 2


def test_of_a_published_bucket_only_what_was_judged_since_waits(b2cal: CommandLine, bucket: JudgedBucket) -> None:
    bucket.published()
    assert b2cal.ok("signoff", "open", "--json").json == []
    bucket.made("B", "bb", verdict="warn")
    waiting = b2cal.ok("signoff", "open", "--json").json
    assert [one["calibration"] for one in waiting] == ["A", "B"]


def test_who_decides_over_a_published_bucket_is_told_that_readers_keep_what_it_has(
    b2cal: CommandLine, bucket: JudgedBucket
) -> None:
    decide = ("signoff", "reject", "prompt", BUCKET, "A", "--reason", "hot wires", "--author", "mia")
    told = f"{BUCKET} is published, which no decision changes"
    assert told not in b2cal.ok(*decide).out
    bucket.published()
    out = " ".join(b2cal.ok(*decide).out.split())
    assert told in out
    assert f"b2cal bucket why prompt {BUCKET} published" in out
    cell = bucket.cells("published")["prompt/published"]
    assert cell["state"] == "stale"
    assert 'b2cal cdb rollback PLAN --reason "…"' in cell["reasons"][-1]


def test_a_spoiled_campaign_does_not_hide_what_waits_in_others(
    b2cal: CommandLine, bucket: JudgedBucket, home: Home
) -> None:
    (home.campaigns / "other.yaml").write_text("name: [")
    answer = b2cal.ok("signoff", "open", "--json")
    assert [one["calibration"] for one in answer.json] == ["A"]
    assert "campaign other is left out" in answer.err
    b2cal.ok("campaign", "archive", "prompt", "--reason", "done")
    assert b2cal.ok("signoff", "open", "--json").json == []


def test_a_campaign_whose_scripts_are_gone_does_not_hide_what_waits_in_others(
    b2cal: CommandLine, bucket: JudgedBucket, home: Home, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    shutil.copytree(tmp_path / "scripts", others)
    b2cal.ok("catalogue", "import", others, "--release", "r2")
    text = (tmp_path / "prompt.yaml").read_text().replace("r1", "r2").replace("prompt", "other")
    (home.campaigns / "other.yaml").write_text(text)
    shutil.rmtree(others)
    answer = b2cal.ok("signoff", "open", "--json")
    assert [one["calibration"] for one in answer.json] == ["A"]
    assert "campaign other is left out: the scripts of release r2 were in" in " ".join(answer.err.split())
    assert b2cal("signoff", "open", "other").code == 1


def test_nothing_waits_in_a_new_home(b2cal: CommandLine, home: Home) -> None:
    home.create()
    assert "nothing waits for a person" in b2cal.ok("signoff", "open").out
