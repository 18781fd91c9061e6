"""Laws of IoVs and sets of IoVs, on a pool of nasty ones and on generated ones, and the recorded answers."""

import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.ranges import ExpRun, IoV, IoVSet

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "iov_algebra_vectors.jsonl").read_text().splitlines()
]
GRID = [ExpRun(exp, run) for exp in range(6) for run in range(9)]
NASTY = [
    IoV(0, 0, -1, -1),
    IoV(0, 0, 0, 0),
    IoV(0, 0, 0, -1),
    IoV(1, 0, 1, -1),
    IoV(1, 0, 1, 3),
    IoV(1, 4, 1, -1),
    IoV(1, 4, -1, -1),
    IoV(2, 0, -1, -1),
    IoV(0, 5, 3, 0),
]


def _is_valid(numbers: tuple[int, int, int, int]) -> bool:
    try:
        IoV(*numbers)
    except ValueError:
        return False
    return True


GENERATED = (
    st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(-1, 5), st.integers(-1, 7))
    .filter(_is_valid)
    .map(lambda numbers: IoV(*numbers))
)
IOVS = st.one_of(st.sampled_from(NASTY), GENERATED)


def members(*iovs: IoV | None) -> set[ExpRun]:
    return {run for run in GRID for iov in iovs if iov is not None and iov.contains(run)}


@pytest.mark.parametrize("vector", VECTORS)
def test_the_algebra_agrees_with_the_recorded_answers(vector: dict[str, list]) -> None:
    a, b = IoV(*vector["a"]), IoV(*vector["b"])
    many = IoVSet([IoV(*numbers) for numbers in vector["many"]], allow_overlaps=True)
    assert [list(piece) for piece in a - b] == vector["subtract"]
    assert [list(iov) for iov in (a & b,) if iov] == vector["intersect"]
    assert [list(iov) for iov in (a.union(b),) if iov] == vector["union"]
    assert [list(iov) for iov in many.iovs] == vector["merged"]
    assert [list(iov) for iov in many.gaps] == vector["gaps"]


@given(IOVS, IOVS)
def test_intersection_is_commutative_and_holds_what_both_hold(a: IoV, b: IoV) -> None:
    assert (a & b) == (b & a)
    assert members(a & b) == members(a) & members(b)
    assert ((a & b) is not None) == a.overlaps(b)


@given(IOVS, IOVS, IOVS)
def test_intersection_is_associative(a: IoV, b: IoV, c: IoV) -> None:
    ab, bc = a & b, b & c
    assert (None if ab is None else ab & c) == (None if bc is None else a & bc)


@given(IOVS, IOVS)
def test_what_is_cut_out_and_what_is_left_make_the_whole(a: IoV, b: IoV) -> None:
    left = a - b
    assert all(not piece.overlaps(b) for piece in left)
    assert members(*left) == members(a) - members(b)
    cut = a & b
    assert IoVSet([*left, *([cut] if cut else [])]).iovs == (a,)


@given(IOVS, IOVS)
def test_a_union_exists_when_the_two_overlap_or_touch(a: IoV, b: IoV) -> None:
    union = a.union(b)
    assert union == b.union(a)
    if union is not None:
        assert members(union) == members(a) | members(b)
        assert union.covers(a)
        assert union.covers(b)
    else:
        assert not a.overlaps(b)


@given(st.lists(IOVS, max_size=6), st.randoms())
def test_the_form_of_a_set_does_not_depend_on_the_order(iovs: list[IoV], random) -> None:
    shuffled = list(iovs)
    random.shuffle(shuffled)
    one, other = IoVSet(iovs, allow_overlaps=True), IoVSet(shuffled, allow_overlaps=True)
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)
    assert members(*one.iovs) == members(*iovs)
    assert {run for run in GRID if one.contains(run)} == members(*iovs)


@given(st.lists(IOVS, min_size=1, max_size=6), IOVS)
def test_gaps_and_missing_parts_hold_what_the_set_does_not(iovs: list[IoV], wanted: IoV) -> None:
    found = IoVSet(iovs, allow_overlaps=True)
    assert not members(*found.gaps) & members(*iovs)
    assert IoVSet([*found.iovs, *found.gaps]).iovs == (IoV.of_edges(found.iovs[0].start, found.iovs[-1].stop),)
    assert members(*found.missing_from(wanted)) == members(wanted) - members(*iovs)


@given(IOVS)
def test_the_two_forms_of_an_iov_are_one_to_one(iov: IoV) -> None:
    assert IoV.of_edges(iov.start, iov.stop) == iov
    assert IoV(*iov.as_tuple()) == iov
    assert iov.is_open == (iov.exp_high == -1)


def test_an_overlap_is_refused_unless_allowed() -> None:
    with pytest.raises(ValueError, match="a run would have two answers"):
        IoVSet([IoV(1, 0, 1, 5), IoV(1, 5, 1, 9)])


@pytest.mark.parametrize(
    ("numbers", "rule"),
    [
        ((-1, 0, 1, 1), "count from 0"),
        ((0, -1, 1, 1), "count from 0"),
        ((0, 0, -2, -1), "-1 for open"),
        ((0, 0, -1, 3), "open in the last run too"),
        ((2, 0, 1, -1), "must not start after its end"),
        ((1, 5, 1, 4), "must not start after its end"),
        ((-1, -1, -1, -1), "count from 0"),
    ],
)
def test_a_wrong_form_names_the_rule_it_breaks(numbers: tuple[int, int, int, int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        IoV(*numbers)


def test_runs_are_ordered_by_experiment_first() -> None:
    assert sorted([ExpRun(2, 0), ExpRun(1, 9), ExpRun(1, 2)]) == [ExpRun(1, 2), ExpRun(1, 9), ExpRun(2, 0)]
    assert tuple(ExpRun(7, 3)) == ExpRun(7, 3).edge == (7, 3)
    assert str(ExpRun(7, 3)) == "exp 7 run 3"


@pytest.mark.parametrize(("exp", "run"), list(product([-1, 0], repeat=2)))
def test_a_run_counts_from_zero(exp: int, run: int) -> None:
    if min(exp, run) < 0:
        with pytest.raises(ValueError, match="count from 0"):
            ExpRun(exp, run)
    else:
        assert ExpRun(exp, run).edge == (0, 0)


def test_the_span_of_runs_is_closed_and_needs_a_run() -> None:
    assert IoV.spanning([ExpRun(3, 9), ExpRun(3, 1)]) == IoV(3, 1, 3, 9)
    with pytest.raises(ValueError, match="no run was given"):
        IoV.spanning([])


@given(IOVS, IOVS)
def test_iovs_are_ordered_by_start_then_end_with_an_open_end_last(a: IoV, b: IoV) -> None:
    assert (a < b) == ((a.start, a.stop) < (b.start, b.stop))
    assert max([IoV(3, 0, -1, -1), IoV(3, 0, 3, -1), IoV(3, 0, 3, 5)]).is_open


@given(IOVS, st.lists(IOVS, max_size=4))
def test_an_iov_covers_another_when_it_holds_all_of_it(a: IoV, others: list[IoV]) -> None:
    for b in others:
        assert a.covers(b) == (IoVSet([a]).missing_from(b) == ())


def test_an_iov_set_is_no_other_thing() -> None:
    assert IoVSet() != ()
    assert IoVSet().gaps == ()


def test_a_run_and_all_after_it_are_an_open_iov() -> None:
    since = IoV.since(ExpRun(3, 7))
    assert since == IoV(3, 7, -1, -1)
    assert not since.contains(ExpRun(3, 6))
