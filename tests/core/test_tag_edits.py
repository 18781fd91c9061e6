"""Edits of OPEN tags: what a reader gets in every run of a small grid, the fewest changes, and the golden merge."""

import pytest
from core.tag_grid import ANY_TAGS, GRID, IOVS, NAMES, disjoint, link, seen, tags
from hypothesis import given, settings
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.publishing import Operation, TagIov, UpdatePlan, applied, merge_tags
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_edits import close_at, copy_clipped, fill_gaps, merge_into, open_last

EVERYTHING = IoV(0, 0, -1, -1)


def steps(plan: UpdatePlan) -> list[tuple[str, str, int, str]]:
    return [(op.kind, op.name, op.revision, str(op.iov)) for op in plan.operations]


def is_minimal(plan: UpdatePlan, before: list[TagIov]) -> bool:
    """Nothing is dropped that is not there, or dropped and created alike."""
    dropped = {(op.name, op.revision, op.iov) for op in plan.operations if op.kind == "drop"}
    created = {(op.name, op.revision, op.iov) for op in plan.operations if op.kind == "create"}
    present = {(item.name, item.revision, item.iov) for item in before}
    return dropped <= present and not dropped & created and {op.kind for op in plan.operations} <= {"drop", "create"}


@given(ANY_TAGS, IOVS, st.one_of(st.none(), st.sets(st.sampled_from(GRID))))
def test_a_filled_gap_answers_with_the_payload_before_it_and_nothing_else_changes(tag, within, taken) -> None:
    plan = fill_gaps(tag, within, runs=taken)
    after = applied(tag, plan)
    assert is_minimal(plan, tag)
    for name in NAMES:
        earlier = None
        for run in GRID:
            was = seen(tag, run, name)
            earlier = was or earlier
            wanted = was
            if was is None and within.contains(run) and (taken is None or run in taken):
                wanted = earlier
            if taken is None or run in taken or not within.contains(run):
                assert seen(after, run, name) == wanted
            else:  # a run nobody took may get what the gap around it gets
                assert seen(after, run, name) in {was, earlier}


@given(tags(), IOVS)
def test_filling_gaps_makes_no_overlap_and_a_second_time_does_nothing(tag, within) -> None:
    after = applied(tag, fill_gaps(tag, within))
    assert disjoint(after)
    assert fill_gaps(after, within).operations == ()


def test_a_gap_is_filled_up_to_the_next_payload_and_not_before_the_first() -> None:
    tag = [link("p", 1, 1, 3, 1, 5, id=7), link("p", 2, 1, 9, 2, -1)]
    assert steps(fill_gaps(tag, IoV(1, 0, 3, 4))) == [
        ("drop", "p", 1, "1,3,1,5"),
        ("drop", "p", 2, "1,9,2,-1"),
        ("create", "p", 1, "1,3,1,8"),
        ("create", "p", 2, "1,9,3,4"),
    ]
    assert fill_gaps(tag, IoV(1, 0, 3, 4)).operations[0].id == 7


def test_a_gap_that_begins_before_the_runs_asked_for_is_filled_inside_only() -> None:
    tag = [link("p", 1, 1, 0, 1, 5), link("p", 2, 2, 0, -1, -1)]
    assert steps(fill_gaps(tag, IoV(1, 8, 1, 9))) == [("create", "p", 1, "1,8,1,9")]


def test_a_gap_in_which_no_run_was_taken_is_left() -> None:
    tag = [link("p", 1, 1, 0, 1, 5), link("p", 2, 1, 8, 1, 9), link("p", 3, 1, 12, -1, -1)]
    plan = fill_gaps(tag, EVERYTHING, runs=[ExpRun(1, 2), ExpRun(1, 11), ExpRun(2, 1)])
    assert steps(plan) == [("drop", "p", 2, "1,8,1,9"), ("create", "p", 2, "1,8,1,11")]


def test_a_name_that_ended_on_purpose_can_be_left_out_and_one_that_is_not_there_is_refused() -> None:
    tag = [link("kept", 1, 1, 0, 1, 5), link("retired", 1, 1, 0, 1, 5)]
    assert {op.name for op in fill_gaps(tag, IoV(1, 0, 1, 9), names=["kept"]).operations} == {"kept"}
    for edit in (
        lambda: fill_gaps(tag, EVERYTHING, names=["kept", "typo"]),
        lambda: open_last(tag, names=["typo"]),
        lambda: close_at(tag, ExpRun(1, 1), names=["typo"]),
        lambda: copy_clipped([], tag, within=EVERYTHING, names=["typo"]),
    ):
        with pytest.raises(ConfigurationError, match="no payload typo"):
            edit()


@given(ANY_TAGS)
def test_the_last_payload_of_each_name_becomes_valid_for_ever(tag) -> None:
    plan = open_last(tag)
    after = applied(tag, plan)
    assert is_minimal(plan, tag)
    future = ExpRun(99, 0)
    for name in {item.name for item in tag}:
        last = max(item.iov.stop for item in tag if item.name == name)
        lasting = max(item.revision for item in tag if item.name == name and item.iov.stop == last)
        assert seen(after, future, name) == lasting
        for run in GRID:
            assert seen(after, run, name) == (seen(tag, run, name) if run.edge < last else lasting)


def test_opening_the_last_payload_changes_one_link_per_closed_name() -> None:
    tag = [link("open", 1, 1, 0, -1, -1), link("p", 1, 1, 0, 1, 5), link("p", 2, 1, 6, 1, 9), link("q", 1, 1, 0, 1, 5)]
    assert steps(open_last(tag, names=["open", "p"])) == [("drop", "p", 2, "1,6,1,9"), ("create", "p", 2, "1,6,-1,-1")]


@given(ANY_TAGS, st.sampled_from(GRID))
def test_a_name_that_is_closed_has_nothing_from_that_run_on(tag, stop) -> None:
    named = {item.name for item in tag} - {"p3"}
    plan = close_at(tag, stop, names=named)
    after = applied(tag, plan)
    assert is_minimal(plan, tag)
    for name in NAMES:
        for run in GRID:
            ended = name in named and run >= stop
            assert seen(after, run, name) == (None if ended else seen(tag, run, name))


@settings(max_examples=200)
@given(ANY_TAGS, ANY_TAGS, IOVS, st.sets(st.sampled_from(NAMES)))
def test_what_is_copied_replaces_the_target_in_the_range_only(target, source, within, names) -> None:
    offered = {item.name for item in source if item.iov.overlaps(within)}
    plan = copy_clipped(target, source, within=within, names=names & offered)
    after = applied(target, plan)
    assert is_minimal(plan, target)
    for name in NAMES:
        for run in GRID:
            copied = name in names & offered and within.contains(run)
            assert seen(after, run, name) == seen(source if copied else target, run, name)
    assert copy_clipped(after, source, within=within, names=names & offered).operations == ()


@given(tags(), tags(first_revision=3), IOVS)
def test_copying_between_disjoint_tags_makes_no_overlap(target, source, within) -> None:
    assert disjoint(applied(target, copy_clipped(target, source, within=within)))


def test_a_local_calibration_is_clipped_to_the_bucket_and_the_target_split_around_it() -> None:
    target = [link("KLMAlignment", 1, 0, 0, -1, -1, id=5), link("other", 1, 0, 0, -1, -1)]
    source = [link("KLMAlignment", 2, 0, 0, 7, 19), link("KLMAlignment", 3, 7, 20, -1, -1)]
    plan = copy_clipped(target, source, within=IoV(7, 10, 7, 29))
    assert plan.operations == (
        Operation("drop", "KLMAlignment", 1, IoV(0, 0, -1, -1), 5),
        Operation("create", "KLMAlignment", 1, IoV(0, 0, 7, 9)),
        Operation("create", "KLMAlignment", 2, IoV(7, 10, 7, 19)),
        Operation("create", "KLMAlignment", 3, IoV(7, 20, 7, 29)),
        Operation("create", "KLMAlignment", 1, IoV(7, 30, -1, -1)),
    )


def test_copying_what_readers_get_already_changes_nothing() -> None:
    target = [link("p", 1, 0, 0, -1, -1)]
    assert copy_clipped(target, [link("p", 1, 1, 0, 1, 5)], within=IoV(1, 0, 1, 5)).operations == ()


A = [link("p1", 2, 1, 0, 1, 10), link("p1", 3, 1, 20, 1, 22), link("p2", 1, 1, 0, 1, -1)]
B = [link("p1", 1, 1, 1, 1, 30), link("p2", 2, 0, 1, 1, 20)]


@pytest.mark.parametrize(
    ("within", "made"),
    [
        (
            None,
            [
                ("p1", 2, "1,0,1,10"),
                ("p1", 1, "1,11,1,19"),
                ("p1", 3, "1,20,1,22"),
                ("p1", 1, "1,23,1,30"),
                ("p2", 2, "0,1,0,-1"),
                ("p2", 1, "1,0,1,-1"),
            ],
        ),
        (
            IoV(1, 0, 1, 21),
            [("p1", 2, "1,0,1,10"), ("p1", 1, "1,11,1,19"), ("p1", 3, "1,20,1,21"), ("p2", 1, "1,0,1,21")],
        ),
    ],
)
def test_the_golden_example_of_a_merge_into_an_empty_tag(within, made) -> None:
    assert steps(merge_into([], [A, B], within=within)) == [("create", *row) for row in made]


@given(st.lists(ANY_TAGS, max_size=3))
def test_a_tag_that_was_filled_by_a_merge_answers_like_the_chain(chain) -> None:
    after = applied([], merge_into([], chain))
    assert disjoint(after)
    assert after == tuple(merge_tags(chain))
    assert merge_into(after, chain).operations == ()


def test_a_merge_keeps_what_the_tag_has_and_never_makes_an_overlap() -> None:
    assert steps(merge_into([link("p1", 2, 1, 0, 1, 10), link("p3", 1, 0, 0, 1, 0)], [A[:1], B[1:]])) == [
        ("create", "p2", 2, "0,1,1,20")
    ]
    with pytest.raises(ConflictError, match=r"has p1 revision 9 in 1,5,1,10; .* already; merge into an empty tag"):
        merge_into([link("p1", 9, 1, 5, 2, 0)], [A])
    many = [link(f"q{i}", 1, 0, 0, -1, -1) for i in range(12)]
    with pytest.raises(ConflictError, match="; … already"):
        merge_into(many, [[link(f"q{i}", 2, 1, 0, -1, -1) for i in range(12)]])
