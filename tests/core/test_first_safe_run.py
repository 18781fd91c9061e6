"""The first run whose constants may still change."""

import pytest
from core.tag_grid import ANY_TAGS, GRID, link
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.first_safe_run import first_safe_run
from b2cal_core.ranges import ExpRun, IoV

PROCESSED = st.one_of(st.none(), st.sampled_from(GRID).map(lambda run: (run, "mdst files")))


@pytest.mark.parametrize(
    ("tag", "processed", "run", "reason"),
    [
        ([], None, ExpRun(0, 0), "the tag is empty, and nothing was processed with it"),
        ([link("p", 2, 1, 4, -1, -1)], None, ExpRun(1, 5), "p revision 2 begins in exp 1 run 4"),
        ([link("p", 2, 1, 4, 1, 8)], None, ExpRun(1, 9), "p revision 2 ends with exp 1 run 8"),
        ([link("p", 2, 1, 4, 1, -1)], None, ExpRun(2, 0), "p revision 2 ends with exp 1 its last run"),
        (
            [link("p", 2, 1, 4, 1, 8)],
            (ExpRun(1, 30), "mdst files"),
            ExpRun(1, 31),
            "exp 1 run 30 was processed (mdst files)",
        ),
    ],
)
def test_the_first_safe_run_tells_what_forbids_the_one_before(tag, processed, run, reason) -> None:
    safe = first_safe_run(tag, processed)
    assert (safe.run, safe.reason) == (run, reason)


@given(ANY_TAGS, PROCESSED)
def test_nothing_begins_ends_or_was_processed_from_the_first_safe_run_on(tag, processed) -> None:
    safe = first_safe_run(tag, processed).run
    assert all(item.iov.start < safe.edge for item in tag)
    assert all(item.iov.is_open or item.iov.stop <= safe.edge for item in tag)
    assert processed is None or processed[0] < safe


@given(ANY_TAGS, PROCESSED, st.sampled_from(GRID))
def test_the_part_of_a_tag_from_a_run_on_is_enough_to_judge_that_run(tag, processed, first) -> None:
    tail = [item for item in tag if item.iov.overlaps(IoV(*first, -1, -1))]
    whole, part = first_safe_run(tag, processed), first_safe_run(tail, processed)
    assert (whole.run <= first) == (part.run <= first)
    if whole.run > first:
        assert part.run == whole.run
