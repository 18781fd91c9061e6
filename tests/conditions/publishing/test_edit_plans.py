"""Edits of OPEN tags by plan: merges, gaps, ends, local calibrations."""

import pytest
from published_tags import RELEASE, rows

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun, IoV


def test_tags_are_merged_into_an_open_one(conditions, publisher, make) -> None:
    """The golden example of the Belle II tools."""
    low = [("p1", "p1 r1", "1,1,1,30"), ("p2", "p2 r1", "0,0,0,0"), ("p2", "p2 r2", "0,1,1,20")]
    make("B", low)
    make("A", [("p1", "p1 r2", "1,0,1,10"), ("p1", "p1 r3", "1,20,1,22"), ("p2", "p2 r1", "1,0,1,-1")])
    make("C", [])
    document = publisher.plan_merge("C", ["A", "B"], within=IoV(0, 1, -1, -1))
    assert [name for name, _ in document.sources] == ["A", "B"]
    publisher.apply(document, RELEASE)
    assert rows(conditions, "C") == {
        ("p1", 2, "1,0,1,10"),
        ("p1", 1, "1,11,1,19"),
        ("p1", 3, "1,20,1,22"),
        ("p1", 1, "1,23,1,30"),
        ("p2", 2, "0,1,0,-1"),
        ("p2", 1, "1,0,1,-1"),
    }
    assert publisher.verify(document).discrepancies == ()
    assert publisher.plan_merge("C", ["A", "B"], within=IoV(0, 1, -1, -1)).plan.operations == ()


def test_gaps_are_filled_and_what_stays_is_said(conditions, publisher, make) -> None:
    make("open", [("p", "one", "1,3,1,5"), ("p", "two", "1,9,1,9"), ("q", "one", "1,0,1,9")])
    document = publisher.plan_gap_fill("open", IoV(1, 0, 1, 9))
    assert document.purpose == "fill gaps in 1,0,1,9; nothing comes before, so these stay: p in 1,0,1,2"
    publisher.apply(document, RELEASE)
    assert rows(conditions, "open") == {("p", 1, "1,3,1,8"), ("p", 2, "1,9,1,9"), ("q", 1, "1,0,1,9")}
    quiet = publisher.plan_gap_fill("open", IoV(1, 0, 1, 9), names=["p"], runs=[ExpRun(1, 4)])
    assert (quiet.purpose, quiet.plan.operations) == ("fill gaps in 1,0,1,9", ())


def test_ends_are_opened_set_and_an_edit_is_taken_back(conditions, publisher, make) -> None:
    make("open", [("p", "one", "1,3,1,5")])
    before = rows(conditions, "open")
    document = publisher.plan_open_last("open")
    publisher.apply(document, RELEASE)
    assert rows(conditions, "open") == {("p", 1, "1,3,-1,-1")}
    publisher.rollback(document, RELEASE)
    assert rows(conditions, "open") == before
    publisher.apply(publisher.plan_open_last("open"), RELEASE)
    publisher.apply(publisher.plan_close("open", ExpRun(2, 0), names=["p"]), RELEASE)
    assert rows(conditions, "open") == {("p", 1, "1,3,1,-1")}


def test_local_calibrations_are_copied_for_the_runs_of_a_bucket(conditions, publisher, make) -> None:
    make("local", [("KLM", "new", "0,0,-1,-1"), ("other", "new", "0,0,-1,-1")])
    make("staging", [("KLM", "old", "0,0,-1,-1")])
    document = publisher.plan_local_copy("staging", "local", within=IoV(1, 5, 1, 9), names=["KLM"])
    publisher.apply(document, RELEASE)
    assert rows(conditions, "staging") == {("KLM", 2, "0,0,1,4"), ("KLM", 1, "1,5,1,9"), ("KLM", 2, "1,10,-1,-1")}
    make("frozen", [("KLM", "old", "0,0,-1,-1")], TagState.TESTING)
    with pytest.raises(ConflictError, match="frozen is TESTING, and an edit takes a tag that is OPEN"):
        publisher.plan_open_last("frozen")


def test_a_change_that_was_undone_by_hand_is_planned_and_made_once_more(conditions, publisher, make) -> None:
    make("source", [("p", "one", "1,3,1,5")])
    make("open", [])
    first = publisher.plan_merge("open", ["source"])
    publisher.apply(first, RELEASE)
    publisher.apply(publisher.plan_close("open", ExpRun(0, 0), names=["p"]), RELEASE)
    assert conditions.fingerprint("open") == first.fingerprint
    with pytest.raises(ConflictError, match="the tag was changed back since; make a new plan"):
        publisher.apply(first, RELEASE)
    for time in (2, 3):
        again = publisher.plan_merge("open", ["source"])
        assert again.purpose == f"merge source (time {time})"
        publisher.apply(again, RELEASE)
        assert rows(conditions, "open") == {("p", 1, "1,3,1,5")}
        publisher.rollback(again, RELEASE)
        assert rows(conditions, "open") == set()


def test_a_plan_without_any_change_is_harmless(conditions, publisher, make) -> None:
    make("open", [("p", "one", "1,3,-1,-1")])
    before = conditions.fingerprint("open")
    for _ in range(2):
        document = publisher.plan_open_last("open")
        assert publisher.apply(document, RELEASE) == ()
        assert publisher.verify(document).discrepancies == ()
    assert conditions.fingerprint("open") == before
