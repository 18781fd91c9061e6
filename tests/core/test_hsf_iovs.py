"""The three forms of an interval: Belle II's with both ends included, half-open edges, and that of an HSF database."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from b2cal_core.hsf_iovs import MAX, from_hsf, to_hsf
from b2cal_core.ranges import ExpRun, IoV

LAST_EXP = 2**62 - 2
EXPERIMENTS = st.one_of(st.integers(0, 3), st.sampled_from([1003, 2**31 - 1, LAST_EXP - 1, LAST_EXP]))
RUNS = st.one_of(st.integers(0, 3), st.sampled_from([2**31 - 1, MAX - 2, MAX - 1]))
ENDS = st.one_of(
    st.tuples(EXPERIMENTS, RUNS), st.tuples(EXPERIMENTS, st.just(-1)), st.just((-1, -1)), st.tuples(st.just(-1), RUNS)
)
NUMBERS = st.tuples(EXPERIMENTS, RUNS, ENDS).map(lambda parts: (parts[0], parts[1], *parts[2]))


def is_valid(numbers: tuple[int, int, int, int]) -> bool:
    try:
        IoV(*numbers)
    except ValueError:
        return False
    return True


IOVS = NUMBERS.filter(is_valid).map(lambda numbers: IoV(*numbers))


@given(IOVS)
@example(IoV(0, 0, -1, -1))
@example(IoV(0, 0, 0, 0))
@example(IoV(0, 0, 0, MAX - 1))
@example(IoV(LAST_EXP, MAX - 1, LAST_EXP, MAX - 1))
@example(IoV(LAST_EXP, 0, LAST_EXP, -1))
def test_an_iov_comes_back_from_either_form_as_it_was(iov: IoV) -> None:
    assert IoV.of_edges(iov.start, iov.stop) == iov
    assert from_hsf(to_hsf(iov)) == iov


@given(st.tuples(EXPERIMENTS, RUNS, EXPERIMENTS, RUNS))
@example((1, 0, 2, 0))
@example((1, 0, 1, MAX))
@example((0, 0, LAST_EXP + 1, 0))
@example((3, 1, MAX, MAX))
def test_an_interval_comes_back_from_an_iov_as_it_was(interval: tuple[int, int, int, int]) -> None:
    if interval[:2] < interval[2:]:
        assert to_hsf(from_hsf(interval)) == interval
    else:
        with pytest.raises(ValueError, match="is empty"):
            from_hsf(interval)


@given(IOVS, st.lists(st.tuples(EXPERIMENTS, RUNS), max_size=8))
def test_the_interval_holds_the_runs_of_the_iov_and_no_other(iov: IoV, runs: list[tuple[int, int]]) -> None:
    major, minor, major_end, minor_end = to_hsf(iov)
    for run in (*runs, iov.start):
        assert ((major, minor) <= run < (major_end, minor_end)) == iov.contains(ExpRun(*run))


@pytest.mark.parametrize(
    ("iov", "interval"),
    [
        ((7, 3, 7, 9), (7, 3, 7, 10)),
        ((7, 3, 7, -1), (7, 3, 8, 0)),
        ((7, 3, -1, -1), (7, 3, MAX, MAX)),
        ((7, 0, 7, 0), (7, 0, 7, 1)),
        ((7, 1, 8, 0), (7, 1, 8, 1)),
    ],
)
def test_each_form_of_end_has_its_own(iov: tuple[int, int, int, int], interval: tuple[int, int, int, int]) -> None:
    assert to_hsf(IoV(*iov)) == interval


@pytest.mark.parametrize("iov", [(0, MAX, -1, -1), (0, 0, 1, MAX), (LAST_EXP + 1, 0, -1, -1), (0, 0, LAST_EXP + 1, 0)])
def test_numbers_too_large_for_a_one_to_one_mapping_are_refused(iov: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="goes beyond experiment"):
        to_hsf(IoV(*iov))


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((1, 5, 1, 5), "from 1,5 up to 1,5 is empty"),
        ((1, 5, 1, 4), "is empty"),
        ((-1, 0, 1, 4), "count from 0"),
        ((0, 0, MAX, 0), "goes beyond"),
        ((0, 0, MAX, MAX - 1), "goes beyond"),
        ((0, MAX, 1, 0), "goes beyond"),
        ((MAX, MAX, MAX, MAX), "goes beyond"),
    ],
)
def test_rows_that_are_no_interval_are_refused(interval: tuple[int, int, int, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_hsf(interval)
