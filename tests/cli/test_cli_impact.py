from cli_answers import CommandLine

from resources.home import Home


def test_without_a_campaign_nothing_is_known_of_a_payload(b2cal: CommandLine, home: Home) -> None:
    home.create()
    answer = b2cal("impact", "show", "BeamSpot")
    assert answer.code == 2
    assert "no campaign makes a payload 'BeamSpot'" in answer.err


def test_a_sample_is_noted_with_a_tag_that_is_there(b2cal: CommandLine, home: Home) -> None:
    home.create()
    runs = ("--runs", 12, 1, 12, -1)
    assert b2cal("impact", "sample", "add", "mc16", *runs, "--tag", "main").code == 2
    backwards = b2cal("impact", "sample", "add", "mc16", "--runs", 12, 9, 12, 6, "--tag", "main")
    assert (backwards.code, "--runs: " in backwards.err, "--iov" in backwards.err) == (2, True, False)
    b2cal.ok("cdb", "create", "main")
    added = b2cal.ok("impact", "sample", "add", "mc16", *runs, "--tag", "main", "--author", "mia", "--json").json
    assert added == {"sample": "mc16", "tag": "main", "iov": [12, 1, 12, -1]}
    assert b2cal.ok("impact", "sample", "list", "--json").json == [added]
    assert "12/last" in b2cal.ok("impact", "sample", "list").out
    other = b2cal("impact", "sample", "add", "mc16", "--runs", 13, 1, 13, 2, "--tag", "main")
    assert other.code == 1
    assert "b2cal impact sample remove mc16" in other.err
    assert b2cal.ok("impact", "sample", "remove", "mc16", "--json").json == added
