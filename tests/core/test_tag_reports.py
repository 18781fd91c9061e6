"""What changes between two tags and what a tag covers, as readers see it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_reports import Change, coverage, diff_tags

GRID = [ExpRun(exp, run) for exp in range(3) for run in range(5)]
LINKS = st.builds(
    lambda name, revision, first, length: TagIov(
        name,
        revision,
        IoV(*GRID[first], *GRID[first + length]) if first + length < len(GRID) else IoV(*GRID[first], -1, -1),
    ),
    st.sampled_from(["p1", "p2"]),
    st.integers(1, 3),
    st.integers(0, len(GRID) - 1),
    st.integers(0, 8),
)
TAGS = st.lists(LINKS, max_size=5)


def link(name: str, revision: int, *iov: int) -> TagIov:
    return TagIov(name, revision, IoV(*iov))


def seen(tag: list[TagIov], run: ExpRun, name: str) -> int | None:
    return max((item.revision for item in tag if item.name == name and item.iov.contains(run)), default=None)


@given(TAGS, TAGS)
def test_a_diff_tells_for_every_run_what_a_reader_gets_before_and_after(before, after) -> None:
    changes = diff_tags(before, after)
    for name in ("p1", "p2"):
        for run in GRID:
            told = [(c.before, c.after) for c in changes if c.name == name and c.iov.contains(run)]
            both = seen(before, run, name), seen(after, run, name)
            assert told == ([both] if both[0] != both[1] else [])


@given(TAGS, TAGS)
def test_neighbouring_ranges_with_the_same_change_are_one(before, after) -> None:
    changes = diff_tags(before, after)
    assert list(changes) == sorted(changes, key=lambda change: (change.name, change.iov))
    for one, other in pairwise(changes):
        same = (one.name, one.before, one.after) == (other.name, other.before, other.after)
        assert not (same and one.iov.union(other.iov))


def test_an_iov_that_was_split_with_the_same_payload_is_no_change() -> None:
    assert diff_tags([link("p", 1, 1, 0, 1, 9)], [link("p", 1, 1, 0, 1, 4), link("p", 1, 1, 5, 1, 9)]) == ()


def test_a_diff_says_what_came_what_went_and_what_was_replaced() -> None:
    before = [link("gone", 1, 1, 0, 1, 4), link("kept", 1, 1, 0, -1, -1)]
    after = [link("kept", 1, 1, 0, 1, 4), link("kept", 2, 1, 5, -1, -1), link("new", 3, 2, 0, 2, -1)]
    assert diff_tags(before, after) == (
        Change("gone", IoV(1, 0, 1, 4), 1, None),
        Change("kept", IoV(1, 5, -1, -1), 1, 2),
        Change("new", IoV(2, 0, 2, -1), None, 3),
    )
    assert diff_tags(before, after, within=IoV(1, 3, 1, 6)) == (
        Change("gone", IoV(1, 3, 1, 4), 1, None),
        Change("kept", IoV(1, 5, 1, 6), 1, 2),
    )


def test_a_diff_tells_the_checksums_and_how_many_runs_each_change_is_about() -> None:
    before, after = [link("p", 1, 1, 0, -1, -1)], [link("p", 1, 1, 0, 1, 4), link("p", 2, 1, 5, 1, 9)]
    taken = [ExpRun(2, 1), ExpRun(1, 4), ExpRun(1, 5), ExpRun(1, 9), ExpRun(1, 9)]
    assert diff_tags(before, after, checksums={("p", 1): "aa", ("p", 2): "bb"}, runs=taken) == (
        Change("p", IoV(1, 5, 1, 9), 1, 2, ("aa", "bb"), 2),
        Change("p", IoV(1, 10, -1, -1), 1, None, ("aa", None), 1),
    )
    assert diff_tags(before, after, runs=[])[0].runs == 0
    assert diff_tags(before, after)[0].runs is None


@given(TAGS, LINKS)
def test_a_coverage_finds_every_wanted_run_without_or_with_two_payloads(tag, wanted) -> None:
    for report in coverage(tag, wanted.iov, runs=GRID):
        for run in GRID:
            count = sum(item.name == report.name and item.iov.contains(run) for item in tag)
            inside = wanted.iov.contains(run)
            assert any(gap.contains(run) for gap in report.gaps) == (inside and count == 0)
            assert any(both.contains(run) for both in report.overlaps) == (inside and count > 1)
            assert (run in report.missing_runs) == (inside and count == 0)
        assert report.is_complete == (not report.gaps and not report.overlaps)
        assert report.is_open == any(item.name == report.name and item.iov.is_open for item in tag)


def test_a_gap_between_runs_that_were_taken_misses_no_run() -> None:
    tag = [link("p", 1, 1, 0, 1, 3), link("p", 2, 1, 6, 1, 9)]
    (report,) = coverage(tag, IoV(1, 0, 1, 9), runs=[ExpRun(1, 2), ExpRun(1, 7), ExpRun(2, 1)])
    assert report.gaps == (IoV(1, 4, 1, 5),)
    assert report.missing_runs == ()
    assert not report.is_complete


def test_a_name_that_was_asked_for_is_reported_even_when_the_tag_has_none_of_it() -> None:
    reports = coverage([link("p", 1, 1, 0, -1, -1)], IoV(1, 0, 1, 9), names=["q", "p"])
    assert [(report.name, report.is_complete, report.is_open) for report in reports] == [
        ("p", True, True),
        ("q", False, False),
    ]
    assert reports[1].gaps == (IoV(1, 0, 1, 9),)
