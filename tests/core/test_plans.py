"""Plan documents: what is approved is what is applied."""

import json

import pytest

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, fingerprint_of
from b2cal_core.publishing import TagIov, UpdateMode, applied, plan_running_update
from b2cal_core.ranges import ExpRun, IoV

RUNNING = (TagIov("p1", 1, IoV(0, 1, -1, -1), 7), TagIov("p2", 1, IoV(0, 1, -1, -1), 8))
STAGING = (TagIov("p1", 2, IoV(1, 0, -1, -1)),)


def document() -> PlanDocument:
    plan = plan_running_update(RUNNING, STAGING, ExpRun(1, 0), UpdateMode.strict)
    return PlanDocument(
        target="running",
        staging="staging",
        first_run=ExpRun(1, 0),
        mode=UpdateMode.strict,
        fingerprint=fingerprint_of(TagState.RUNNING, RUNNING),
        predicted=fingerprint_of(TagState.RUNNING, applied(RUNNING, plan)),
        plan=plan,
    )


def test_a_plan_survives_the_way_through_a_file() -> None:
    assert PlanDocument.from_json(document().to_json()) == document()


def test_a_plan_that_was_changed_is_refused() -> None:
    fields = json.loads(document().to_json())
    fields["operations"][0][2] = 99
    with pytest.raises(ConfigurationError, match="was changed after it was made"):
        PlanDocument.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99, "hash": ""}'])
def test_what_is_no_plan_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(ConfigurationError, match="make one with `b2cal cdb plan`"):
        PlanDocument.from_json(text)


def test_a_fingerprint_is_of_state_and_content_and_nothing_else() -> None:
    same = [TagIov(link.name, link.revision, link.iov, None) for link in reversed(RUNNING)]
    assert fingerprint_of(TagState.RUNNING, same) == fingerprint_of(TagState.RUNNING, RUNNING)
    assert fingerprint_of(TagState.OPEN, RUNNING) != fingerprint_of(TagState.RUNNING, RUNNING)
    assert fingerprint_of(TagState.RUNNING, STAGING) != fingerprint_of(TagState.RUNNING, RUNNING)
