import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError, ConflictError, in_short
from b2cal_core.payloads import TagState
from b2cal_core.plans import LATE_RUN, PlanDocument, PlanKind, SafeRun, after, fingerprint_of, in_state, moved
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan
from b2cal_core.ranges import ExpRun, IoV

DOCUMENT = PlanDocument(
    kind=PlanKind.running_update,
    target="online",
    sources=(("staging_1", "d" * 64),),
    fingerprint="f" * 64,
    predicted="e" * 64,
    plan=UpdatePlan(
        (
            Operation("close", "p", 1, IoV(0, 0, 1, 1), id=7),
            Operation("create", "p", 2, IoV(1, 2, -1, -1)),
        )
    ),
    purpose="bucket 12",
    first_run=ExpRun(1, 2),
    mode=UpdateMode.strict,
    safe_run=SafeRun(ExpRun(1, 1), "exp 1 run 0 was processed (prompt)"),
    checksums=(("p", 2, "c" * 32),),
)
EDIT = PlanDocument(
    kind=PlanKind.edit,
    target="staging_1",
    sources=(),
    fingerprint="f" * 64,
    predicted="e" * 64,
    plan=UpdatePlan(
        (
            Operation("drop", "q", 1, IoV(0, 3, 0, 5), id=8),
            Operation("create", "p", 2, IoV(0, 1, 0, -1)),
        )
    ),
)
NOTHING = replace(EDIT, plan=UpdatePlan(()))

links = st.builds(
    TagIov,
    st.sampled_from("pq"),
    st.integers(1, 3),
    st.sampled_from([IoV(0, 0, 0, 5), IoV(0, 6, 0, -1), IoV(1, 0, -1, -1)]),
)
contents = st.sets(links, max_size=6)


@pytest.mark.parametrize("document", [DOCUMENT, EDIT, NOTHING, replace(EDIT, kind=PlanKind.rollback, undoes="9" * 64)])
def test_a_plan_survives_being_written_and_read(document: PlanDocument) -> None:
    assert PlanDocument.from_json(document.to_json()) == document
    assert PlanDocument.from_json(document.to_json()).hash == document.hash


def test_equal_plans_have_equal_text_and_hash() -> None:
    assert DOCUMENT.to_json() == replace(DOCUMENT).to_json()
    assert DOCUMENT.hash == replace(DOCUMENT).hash


def test_the_hash_depends_on_everything_in_the_plan() -> None:
    changes = {
        "kind": PlanKind.rollback,
        "target": "other",
        "sources": (("staging_1", "0" * 64),),
        "fingerprint": "0" * 64,
        "predicted": "0" * 64,
        "plan": UpdatePlan(DOCUMENT.plan.operations[:1]),
        "purpose": "bucket 13",
        "first_run": ExpRun(1, 3),
        "mode": UpdateMode.simple,
        "safe_run": SafeRun(ExpRun(1, 1), "nothing was processed"),
        "checksums": (("p", 2, "0" * 32),),
        "undoes": "0" * 64,
    }
    others = [replace(DOCUMENT, **{field: value}) for field, value in changes.items()]
    assert set(changes) == set(PlanDocument.__dataclass_fields__)
    assert len({document.hash for document in (DOCUMENT, *others)}) == 1 + len(changes)


def test_a_plan_that_somebody_edited_is_refused() -> None:
    edited = json.loads(DOCUMENT.to_json())
    edited["operations"][1][3] = [1, 1, -1, -1]
    with pytest.raises(ConfigurationError, match="online was changed after it was made"):
        PlanDocument.from_json(json.dumps(edited))


def spoiled(**changes: object) -> str:
    return json.dumps(json.loads(DOCUMENT.to_json()) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": 2}',
        spoiled(format=1),
        spoiled(format=3),
        spoiled(kind="anything"),
        spoiled(operations=[["erase", "p", 1, [0, 0, 1, 1], 7]]),
        spoiled(operations=[["close", "p", 1, [5, 0, 1, 1], 7]]),
        spoiled(operations=[["close", "p"]]),
        spoiled(mode="lenient"),
        spoiled(safe_run=[1]),
        spoiled(sources=["staging_1"]),
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no plan file .*b2cal cdb plan"):
        PlanDocument.from_json(text)


def test_a_plan_says_what_it_brings_in_and_from_where() -> None:
    assert DOCUMENT.created == (TagIov("p", 2, IoV(1, 2, -1, -1)),)
    assert (DOCUMENT.staging, EDIT.staging) == ("staging_1", "")
    assert EDIT.names == {"p", "q"}


def test_a_plan_touches_the_runs_from_the_first_that_changes() -> None:
    assert DOCUMENT.touched == IoV(1, 2, -1, -1)  # what the closed IoV keeps does not change
    assert EDIT.touched == IoV(0, 1, -1, -1)
    closing = replace(DOCUMENT, plan=UpdatePlan(DOCUMENT.plan.operations[:1]))
    assert closing.touched == IoV(1, 2, -1, -1)
    assert NOTHING.touched is None


@pytest.mark.parametrize(
    ("start", "affected"),
    [
        ((1, 2), IoV(1, 1, -1, -1)),
        ((1, 0), IoV(0, LATE_RUN, -1, -1)),  # the last run of the experiment before, whichever it was
        ((0, 0), IoV(0, 0, -1, -1)),
    ],
)
def test_a_plan_affects_the_run_before_those_it_touches_too(start: tuple[int, int], affected: IoV) -> None:
    opening = replace(DOCUMENT, plan=UpdatePlan((Operation("create", "p", 2, IoV(*start, -1, -1)),)))
    assert opening.affected == affected
    assert NOTHING.affected is None


def test_a_plan_is_refused_for_any_other_content_than_it_was_made_for() -> None:
    DOCUMENT.require_made_for("f" * 64)
    with pytest.raises(ConflictError, match=r"online was changed .*fingerprint 0{12}, .*for f{12}.* Make a new plan"):
        DOCUMENT.require_made_for("0" * 64)


@pytest.mark.parametrize(("count", "end"), [(1, "1"), (10, "; 10"), (11, "; 10; …")])
def test_a_long_list_of_sentences_is_cut(count: int, end: str) -> None:
    assert in_short([str(number) for number in range(1, count + 1)]).endswith(end)


def test_a_fingerprint_knows_state_and_content_but_neither_order_nor_ids() -> None:
    pair = [TagIov("p", 1, IoV(0, 0, 0, 5), id=1), TagIov("q", 1, IoV(0, 0, 0, 5), id=2)]
    same = fingerprint_of(TagState.OPEN, pair)
    assert fingerprint_of(TagState.OPEN, [replace(link, id=None) for link in reversed(pair)]) == same
    assert fingerprint_of(TagState.TESTING, pair) != same
    assert fingerprint_of(TagState.OPEN, pair[:1]) != same
    assert fingerprint_of(TagState.OPEN, [pair[0], replace(pair[1], revision=2)]) != same


@given(before=contents, now=contents, state=st.sampled_from(TagState))
def test_a_fingerprint_that_was_moved_is_that_of_the_new_content(
    before: set[TagIov], now: set[TagIov], state: TagState
) -> None:
    old, new = fingerprint_of(state, before), fingerprint_of(state, now)
    assert moved(old, added=now - before, dropped=before - now) == new
    assert (old == new) is (before == now)
    assert after(old, [replace(link, id=1) for link in before], now) == new
    assert moved(old) == old
    assert moved(moved(old, added=now), dropped=now) == old


@given(content=contents, before=st.sampled_from(TagState), after=st.sampled_from(TagState))
def test_a_fingerprint_in_another_state_is_that_of_the_tag_in_that_state(
    content: set[TagIov], before: TagState, after: TagState
) -> None:
    assert in_state(fingerprint_of(before, content), after) == fingerprint_of(after, content)
