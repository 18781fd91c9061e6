import json
from dataclasses import replace

import pytest

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, fingerprint_of
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan
from b2cal_core.ranges import ExpRun, IoV

DOCUMENT = PlanDocument(
    target="online",
    staging="staging_1",
    first_run=ExpRun(1, 2),
    mode=UpdateMode.strict,
    fingerprint="f" * 64,
    predicted="e" * 64,
    plan=UpdatePlan(
        (
            Operation("close", "p", 1, IoV(0, 0, 1, 1), id=7),
            Operation("create", "p", 2, IoV(1, 2, -1, -1)),
        )
    ),
)


def test_a_plan_survives_being_written_and_read() -> None:
    assert PlanDocument.from_json(DOCUMENT.to_json()) == DOCUMENT


def test_equal_plans_have_equal_text_and_hash() -> None:
    assert DOCUMENT.to_json() == replace(DOCUMENT).to_json()
    assert DOCUMENT.hash == replace(DOCUMENT).hash


def test_the_hash_depends_on_everything_that_decides_the_outcome() -> None:
    others = [
        replace(DOCUMENT, target="other"),
        replace(DOCUMENT, fingerprint="0" * 64),
        replace(DOCUMENT, plan=UpdatePlan(DOCUMENT.plan.operations[:1])),
    ]
    assert len({document.hash for document in (DOCUMENT, *others)}) == 4


def test_a_plan_that_somebody_edited_is_refused() -> None:
    edited = json.loads(DOCUMENT.to_json())
    edited["operations"][1][3] = [1, 1, -1, -1]
    with pytest.raises(ConfigurationError, match="online was changed after it was made"):
        PlanDocument.from_json(json.dumps(edited))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "target": "a"}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no plan file"):
        PlanDocument.from_json(text)


def test_a_fingerprint_knows_state_and_content_but_neither_order_nor_ids() -> None:
    links = [TagIov("p", 1, IoV(0, 0, 0, 5), id=1), TagIov("q", 1, IoV(0, 0, 0, 5), id=2)]
    same = fingerprint_of(TagState.OPEN, links)
    assert fingerprint_of(TagState.OPEN, [replace(link, id=None) for link in reversed(links)]) == same
    assert fingerprint_of(TagState.TESTING, links) != same
    assert fingerprint_of(TagState.OPEN, links[:1]) != same
    assert fingerprint_of(TagState.OPEN, [links[0], replace(links[1], revision=2)]) != same
