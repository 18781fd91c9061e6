"""Running updates and tag merges: recorded answers, golden examples, and the invariants on a small grid of runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from b2cal_core.publishing import (
    Operation,
    TagIov,
    UpdateMode,
    UpdatePlan,
    UpdateRefused,
    applied,
    merge_tags,
    next_possible_run,
    plan_running_update,
)
from b2cal_core.ranges import ExpRun, IoV, IoVSet

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "running_update_vectors.jsonl").read_text().splitlines()
]
GRID = [ExpRun(exp, run) for exp in range(5) for run in range(6)]


def link(name: str, revision: int, *iov: int) -> TagIov:
    return TagIov(name, revision, IoV(*iov))


def links(rows: list[dict[str, Any]]) -> list[TagIov]:
    return [TagIov(row["name"], row["revision"], IoV(*row["iov"]), row["id"]) for row in rows]


def seen(tag, run: ExpRun, name: str) -> int | None:
    """What a reader gets: the highest revision valid in the run."""
    return max((item.revision for item in tag if item.name == name and item.iov.contains(run)), default=None)


@pytest.mark.parametrize("vector", VECTORS)
def test_a_running_update_agrees_with_the_recorded_answers(vector: dict[str, Any]) -> None:
    case = vector["case"]
    try:
        plan = plan_running_update(
            links(case["running"]), links(case["staging"]), ExpRun(*case["valid_from"]), UpdateMode(case["mode"])
        )
    except UpdateRefused as refused:
        found: dict[str, Any] = {"refused": refused.reasons}
    else:
        rows = sorted([op.kind.upper(), op.name, op.revision, list(op.iov)] for op in plan.operations)
        found = {"operations": rows}
    assert found == vector["expected"]


RUNNING = [
    link("p1", 1, 0, 1, 1, 0),
    link("p1", 2, 1, 1, -1, -1),
    link("p2", 1, 0, 1, -1, -1),
    link("p3", 1, 0, 1, 1, 0),
    link("p4", 1, 0, 1, -1, -1),
    link("p5", 1, 0, 1, -1, -1),
]
STAGING = [
    link("p1", 3, 0, 0, 1, 8),
    link("p1", 4, 1, 9, 1, 20),
    link("p2", 2, 1, 5, 1, 20),
    link("p3", 2, 0, 0, -1, -1),
    link("p4", 1, 0, 0, 1, 20),
]
GOLDEN = {
    ("p1", 1): "0,1,1,0",
    ("p1", 2): "1,1,1,1",
    ("p1", 3): "1,2,1,8",
    ("p1", 4): "1,9,1,20",
    ("p2", 1): "0,1,1,4",
    ("p2", 2): "1,5,1,20",
    ("p3", 1): "0,1,1,0",
    ("p3", 2): "1,2,-1,-1",
    ("p4", 1): "0,1,1,20",
    ("p5", 1): "0,1,-1,-1",
}


@pytest.mark.parametrize(
    ("mode", "differences"),
    [
        (UpdateMode.allow_closed, {}),
        (UpdateMode.full_replacement, {("p5", 1): "0,1,1,1"}),
        (
            UpdateMode.fix_closed,
            {("p1", 4): "1,9,-1,-1", ("p2", 2): "1,5,-1,-1", ("p4", 1): "0,1,-1,-1"},
        ),
    ],
)
def test_the_golden_example_of_a_running_update(mode: UpdateMode, differences: dict) -> None:
    after = applied(RUNNING, plan_running_update(RUNNING, STAGING, ExpRun(1, 2), mode))
    assert {(item.name, item.revision): str(item.iov) for item in after} == GOLDEN | differences


def test_an_update_that_reaches_into_the_past_names_the_payload_and_the_next_possible_run() -> None:
    with pytest.raises(UpdateRefused, match=r"p1 revision 2 .* choose a later first run, exp 1 run 2") as refused:
        plan_running_update(RUNNING, STAGING, ExpRun(1, 1), UpdateMode.allow_closed)
    assert refused.value.reasons == {"payloads start after first valid run": 1}
    with pytest.raises(UpdateRefused, match="p2 starts before exp 1 run 6"):
        plan_running_update(RUNNING, STAGING, ExpRun(1, 6), UpdateMode.allow_closed)


def test_every_gap_and_every_payload_too_many_counts() -> None:
    holes = [link("p1", 1, 1, 0, 1, 3), link("p1", 2, 1, 5, 1, 6), link("p1", 3, 1, 8, -1, -1)]
    with pytest.raises(UpdateRefused, match="p1 has nothing in 1,4,1,4 and 1,7,1,7") as refused:
        plan_running_update([], holes, ExpRun(1, 0), UpdateMode.strict)
    assert refused.value.reasons == {"gaps": 2}
    with pytest.raises(UpdateRefused, match="p1 is 3 times in the staging tag") as refused:
        plan_running_update([], holes, ExpRun(1, 0), UpdateMode.simple)
    assert refused.value.reasons == {"duplicate payloads": 2, "wrong validity": 3}


def test_overlaps_are_refused_in_either_tag() -> None:
    doubled = [link("p1", 1, 0, 1, -1, -1), link("p1", 2, 1, 0, -1, -1)]
    with pytest.raises(UpdateRefused, match="the running tag must be mended first"):
        plan_running_update(doubled, [], ExpRun(2, 0), UpdateMode.strict)
    with pytest.raises(UpdateRefused) as refused:
        plan_running_update([], [*doubled, link("p1", 3, 3, 0, -1, -1)], ExpRun(0, 1), UpdateMode.strict)
    assert refused.value.reasons == {"overlaps": 2}


def test_a_payload_that_ended_before_the_update_is_refused() -> None:
    past = [link("p1", 3, 0, 0, 1, 0)]
    with pytest.raises(UpdateRefused, match="drop it from the staging tag"):
        plan_running_update([], past, ExpRun(1, 1), UpdateMode.allow_closed)
    opened = plan_running_update([], past, ExpRun(1, 1), UpdateMode.fix_closed)
    assert opened.operations == (Operation("create", "p1", 3, IoV(1, 1, -1, -1)),)


def test_a_long_refusal_is_cut_to_a_screenful() -> None:
    many = [link(f"p{i}", 1, 3, 0, -1, -1) for i in range(15)]
    with pytest.raises(UpdateRefused, match=r"; …$") as refused:
        plan_running_update(many, [], ExpRun(1, 1), UpdateMode.strict)
    assert len(refused.value.details) == 15


def test_the_next_possible_run_is_after_every_start_and_every_end() -> None:
    assert next_possible_run([]) == ExpRun(0, 0)
    assert next_possible_run(RUNNING) == ExpRun(1, 2)
    assert next_possible_run([link("p", 1, 3, 0, 3, -1), link("q", 1, 3, 7, -1, -1)]) == ExpRun(4, 0)


@st.composite
def tags(draw, *, first_revision: int = 1, earliest: int = 0) -> list[TagIov]:
    """Disjoint links of up to three names, from grid run ``earliest`` on, the last one perhaps open."""
    content = []
    for name in draw(st.sets(st.sampled_from(["p1", "p2", "p3"]))):
        starts = sorted(draw(st.sets(st.integers(earliest, len(GRID) - 2), min_size=1, max_size=3)))
        is_open = draw(st.booleans())
        for position, start in enumerate(starts):
            stop = GRID[starts[position + 1]].edge if position + 1 < len(starts) else None
            end = stop or (IoV(0, 0, -1, -1).stop if is_open else (GRID[start].exp + 1, 0))
            content.append(TagIov(name, first_revision + position, IoV.of_edges(GRID[start].edge, end)))
    return content


@given(tags(), st.integers(0, len(GRID) - 1), st.sampled_from(list(UpdateMode)), st.data())
def test_an_update_never_changes_the_past_and_leaves_no_overlap(running, first, mode, data) -> None:
    first_run = GRID[first]
    staging = data.draw(tags(first_revision=10, earliest=min(first, len(GRID) - 2)))
    try:
        plan = plan_running_update(running, staging, first_run, mode)
    except UpdateRefused:
        assume(False)
    after = applied(running, plan)
    for name in {item.name for item in after}:
        IoVSet([item.iov for item in after if item.name == name])  # refuses overlaps
        for run in GRID:
            if run < first_run:
                assert seen(after, run, name) == seen(running, run, name)
    for operation in plan.operations:
        if operation.kind == "create":
            assert operation.iov.start >= first_run.edge
        else:
            assert operation.iov.stop >= first_run.edge
    for item in staging:
        assert all(seen(after, run, item.name) == item.revision for run in GRID if item.iov.contains(run))


A = [link("p1", 2, 1, 0, 1, 10), link("p1", 3, 1, 20, 1, 22), link("p2", 1, 1, 0, 1, -1)]
B = [link("p1", 1, 1, 1, 1, 30), link("p2", 2, 0, 1, 1, 20)]


def test_the_golden_example_of_a_merge() -> None:
    rows = [(item.name, item.revision, str(item.iov)) for item in merge_tags([A, B])]
    assert rows == [
        ("p1", 2, "1,0,1,10"),
        ("p1", 1, "1,11,1,19"),
        ("p1", 3, "1,20,1,22"),
        ("p1", 1, "1,23,1,30"),
        ("p2", 2, "0,1,0,-1"),
        ("p2", 1, "1,0,1,-1"),
    ]
    rows = [(item.name, item.revision, str(item.iov)) for item in merge_tags([A, B], IoV(1, 0, 1, 21))]
    assert rows == [
        ("p1", 2, "1,0,1,10"),
        ("p1", 1, "1,11,1,19"),
        ("p1", 3, "1,20,1,21"),
        ("p2", 1, "1,0,1,21"),
    ]


ANY_LINKS = st.lists(
    st.builds(
        lambda name, revision, start, length: TagIov(
            name,
            revision,
            IoV.of_edges(GRID[start].edge, GRID[start + length].edge if start + length < len(GRID) else (2**62, 0)),
        ),
        st.sampled_from(["p1", "p2"]),
        st.integers(1, 4),
        st.integers(0, len(GRID) - 1),
        st.integers(1, 20),
    ),
    max_size=6,
)


@given(st.lists(ANY_LINKS, max_size=3))
def test_a_merged_tag_answers_like_the_chain(chain) -> None:
    merged = merge_tags(chain)
    for name in ("p1", "p2"):
        IoVSet([item.iov for item in merged if item.name == name])
        for run in GRID:
            answers = (seen(tag, run, name) for tag in chain)
            assert seen(merged, run, name) == next((answer for answer in answers if answer is not None), None)


def test_closing_touches_only_the_link_meant() -> None:
    plan = UpdatePlan((Operation("close", "p2", 1, IoV(0, 1, 1, 4)),))
    changed = set(applied(RUNNING, plan)) - set(RUNNING)
    assert changed == {link("p2", 1, 0, 1, 1, 4)}
