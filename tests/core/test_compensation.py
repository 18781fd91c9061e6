"""The ways back from a publish: to the letter while it is not final, for later runs afterwards."""

from dataclasses import replace

import pytest
from core.tag_grid import GRID, disjoint, link, seen, tags
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from b2cal_core.compensation import compensating_links, inverse_plan
from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, PlanKind, fingerprint_of
from b2cal_core.publishing import (
    TagIov,
    UpdateMode,
    UpdatePlan,
    UpdateRefused,
    applied,
    next_possible_run,
    plan_running_update,
)
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_edits import copy_clipped, open_last


def document_of(before, plan: UpdatePlan, kind: PlanKind = PlanKind.running_update) -> PlanDocument:
    state = TagState.OPEN if kind is PlanKind.edit else TagState.RUNNING
    marks = [fingerprint_of(state, content) for content in (before, applied(before, plan))]
    return PlanDocument(kind, "target", (), fingerprint=marks[0], predicted=marks[1], plan=plan)


def bare(tag) -> set[TagIov]:
    return {replace(item, id=None) for item in tag}


@st.composite
def updates(draw) -> tuple[list[TagIov], PlanDocument, ExpRun]:
    """A running tag, an update of it, and the first run it is for."""
    first = draw(st.integers(0, len(GRID) - 2))
    mode = draw(st.sampled_from(list(UpdateMode)))
    before, staging = draw(tags()), draw(tags(first_revision=draw(st.sampled_from([1, 10])), earliest=first))
    try:
        plan = plan_running_update(before, staging, GRID[first], mode)
    except UpdateRefused:
        assume(False)
    return before, document_of(before, plan), GRID[first]


@given(updates())
def test_taking_an_update_back_gives_the_content_of_before_to_the_letter(update) -> None:
    before, document, _ = update
    after = applied(before, document.plan)
    restored = applied(after, inverse_plan(document, after))
    assert bare(restored) == bare(before)


@given(tags(), tags(first_revision=4))
def test_taking_an_edit_back_gives_the_content_of_before(target, source) -> None:
    for plan in (copy_clipped(target, source, within=IoV(1, 0, 2, 2)), open_last(target)):
        document = document_of(target, plan, PlanKind.edit)
        after = applied(target, plan)
        assert bare(applied(after, inverse_plan(document, after))) == bare(target)


def test_an_update_that_was_built_upon_is_not_taken_back() -> None:
    before = [link("p", 1, 0, 0, -1, -1)]
    plan = plan_running_update(before, [link("p", 2, 1, 0, -1, -1)], ExpRun(1, 0), UpdateMode.strict)
    later = [link("p", 1, 0, 0, 0, -1), link("p", 2, 1, 0, 1, 4), link("p", 3, 1, 5, -1, -1)]
    with pytest.raises(ConflictError, match="p is not as the plan left it; take back the later change first"):
        inverse_plan(document_of(before, plan), later)


@settings(max_examples=200)
@given(updates(), st.sampled_from([0, 1, 4]))
def test_a_compensation_gives_later_runs_what_they_had_before_and_leaves_the_rest(update, wait) -> None:
    before, document, _ = update
    after = applied(before, document.plan)
    next_run = next_possible_run(after)
    first_run = ExpRun(next_run.exp, next_run.run + wait)
    now = [item for item in after if item.iov.overlaps(IoV(*first_run, -1, -1))]
    made = compensating_links(document, now, first_run=first_run)
    assert made.names == document.names
    assert made.superseded == frozenset()
    final = applied(after, made.plan(now))
    assert disjoint(final)
    later = [first_run, ExpRun(first_run.exp, first_run.run + 3), ExpRun(first_run.exp + 2, 1)]
    for name in ("p1", "p2", "p3"):
        for run in [*GRID, *later]:
            wanted = before if run >= first_run and name in document.names else after
            assert seen(final, run, name) == seen(wanted, run, name)


def test_a_name_that_another_publish_changed_since_is_left() -> None:
    before = [link("p", 1, 0, 0, -1, -1), link("q", 1, 0, 0, -1, -1)]
    staging = [link("p", 2, 1, 0, -1, -1), link("q", 2, 1, 0, -1, -1)]
    document = document_of(before, plan_running_update(before, staging, ExpRun(1, 0), UpdateMode.strict))
    now = [link("p", 3, 1, 5, -1, -1), link("q", 2, 1, 0, -1, -1)]
    made = compensating_links(document, now, first_run=ExpRun(1, 7))
    assert made.staging == (link("q", 1, 1, 7, -1, -1),)
    assert (made.names, made.superseded) == ({"q"}, {"p"})
    assert [(op.kind, op.name, op.revision, str(op.iov)) for op in made.plan(now).operations] == [
        ("close", "q", 2, "1,0,1,6"),
        ("create", "q", 1, "1,7,-1,-1"),
    ]


def test_only_a_running_update_is_made_up_for() -> None:
    document = document_of([], UpdatePlan(()), PlanKind.edit)
    with pytest.raises(ConfigurationError, match="only a running update"):
        compensating_links(document, [], first_run=ExpRun(1, 0))
