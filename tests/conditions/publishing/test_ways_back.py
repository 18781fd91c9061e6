"""Taking a publish back while it is not final, and making up for it afterwards."""

from dataclasses import replace

import pytest
from published_tags import FIRST, NEWER, RELEASE, VALIDATED, Processed, in_the_manner_of, rows

from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.plans import PlanKind
from b2cal_core.ports import Capabilities
from b2cal_core.ranges import ExpRun
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher
from resources.conditions.safe_runs import NotedProcessed, note_processed


@pytest.mark.usefixtures("prompt")
def test_a_publish_is_taken_back_to_the_letter_and_may_be_published_once_more(conditions, publisher) -> None:
    before = rows(conditions, "prompt"), conditions.fingerprint("prompt")
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    publisher.rollback(document.hash[:10], RELEASE)
    assert (rows(conditions, "prompt"), conditions.fingerprint("prompt")) == before
    assert publisher.history("prompt")[0].state == "taken back"
    assert "was taken back" in publisher.verify(document).discrepancies[0]
    for again in (publisher.apply, publisher.rollback):
        with pytest.raises(ConflictError, match="was taken back from prompt already"):
            again(document, RELEASE)
    second = publisher.plan_update("prompt", "staging", first_run=FIRST)
    assert second.hash != document.hash
    publisher.apply(second, RELEASE)
    assert conditions.fingerprint("prompt") == document.predicted


@pytest.mark.usefixtures("prompt")
def test_what_is_final_is_not_taken_back(conditions, make) -> None:
    processed = Processed()
    publisher = Publisher(conditions, [processed, NotedProcessed(conditions)])
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    back = publisher.plan_rollback(document)
    assert publisher.final_reason(document) is None
    note_processed(conditions, "prompt", ExpRun(1, 9), release=RELEASE)
    assert publisher.final_reason(document) is None
    note_processed(conditions, "prompt", ExpRun(1, 11), release=RELEASE)
    with pytest.raises(ConflictError, match=r"is final: exp 1 run 11 was processed since \(noted by alice"):
        publisher.rollback(document, RELEASE)
    with pytest.raises(ConflictError, match="is final"):  # planned before, looked at again under the lease
        publisher.apply(back, RELEASE)
    other = Publisher(conditions)
    other.finalize(document, RELEASE)
    with pytest.raises(ConflictError, match="is final: alice declared it final"):
        other.rollback(document, RELEASE)


@pytest.mark.usefixtures("prompt")
def test_a_plan_that_others_built_on_is_not_taken_back_before_theirs(conditions, publisher, make) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    make("next", [("p1", "later", "2,0,-1,-1")], *VALIDATED)
    second = publisher.plan_update("prompt", "next", first_run=ExpRun(2, 0))
    publisher.apply(second, RELEASE)
    with pytest.raises(ConflictError, match="take back the later change first"):
        publisher.plan_rollback(document)
    publisher.rollback(second, RELEASE)
    publisher.rollback(document, RELEASE)
    assert rows(conditions, "prompt") == {("p1", 1, "0,0,-1,-1"), ("p2", 1, "0,0,-1,-1")}


@pytest.mark.usefixtures("prompt")
def test_a_final_publish_is_made_up_for_from_the_first_safe_run_on(conditions, make) -> None:
    publisher = Publisher(conditions, [processed := Processed()])
    make("more", [*NEWER, ("p9", "new", "1,10,-1,-1")], *VALIDATED)
    document = publisher.plan_update("prompt", "more", first_run=FIRST)
    publisher.apply(document, RELEASE)
    processed.run = ExpRun(1, 30)
    with pytest.raises(ConflictError, match="exp 1 run 30 was processed"):
        publisher.plan_compensation(document, first_run=ExpRun(1, 20))
    repair = publisher.plan_compensation(document)
    assert (repair.first_run, repair.kind) == (ExpRun(1, 31), PlanKind.running_update)
    publisher.apply(repair, RELEASE)
    assert rows(conditions, "prompt") == {
        ("p1", 1, "0,0,1,9"),
        ("p1", 2, "1,10,1,30"),
        ("p1", 1, "1,31,-1,-1"),
        ("p2", 1, "0,0,-1,-1"),
        ("p9", 1, "1,10,1,30"),
    }
    assert publisher.verify(document).discrepancies == ()
    processed.run = ExpRun(1, 40)
    with pytest.raises(ConflictError, match="has nothing left of plan"):
        publisher.plan_compensation(document)


@pytest.mark.usefixtures("prompt")
def test_a_database_that_cannot_take_back_says_what_to_do_instead(conditions) -> None:
    class Remote(EmbeddedConditionsDB):
        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, rollback=False)

    remote = in_the_manner_of(Remote, conditions)
    publisher = Publisher(remote)
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    with pytest.raises(ConfigurationError, match="was never applied"):
        publisher.plan_rollback(document)
    publisher.apply(document, RELEASE)
    with pytest.raises(ConfigurationError, match="make up for it from a later run on"):
        publisher.plan_rollback(document)


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("beginning", ["", "xyz"])
def test_a_hash_that_is_not_that_of_one_plan_is_refused(publisher, beginning) -> None:
    with pytest.raises(ConfigurationError, match="applied plans have a hash that begins with"):
        publisher.plan_rollback(beginning)


@pytest.mark.usefixtures("prompt")
def test_a_rollback_is_not_taken_back_itself(conditions, publisher) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    back = publisher.plan_rollback(document)
    publisher.apply(back, RELEASE)
    with pytest.raises(ConfigurationError, match="took another plan back"):
        publisher.plan_rollback(back)
    with pytest.raises(ConfigurationError, match="only a running update is made up for"):
        publisher.plan_compensation(back)


@pytest.mark.usefixtures("prompt")
def test_what_others_changed_since_is_left_when_a_plan_is_made_up_for(conditions, publisher, make) -> None:
    make("both", [("p1", "new", "1,10,-1,-1"), ("p2", "new", "1,10,-1,-1")], *VALIDATED)
    document = publisher.plan_update("prompt", "both", first_run=FIRST)
    publisher.apply(document, RELEASE)
    make("next", [("p1", "later", "2,0,-1,-1")], *VALIDATED)
    publisher.apply(publisher.plan_update("prompt", "next", first_run=ExpRun(2, 0)), RELEASE)
    repair = publisher.plan_compensation(document.hash)
    assert repair.purpose.endswith("from exp 2 run 1 on; changed again since, and left: p1")
    assert repair.names == {"p2"}


@pytest.mark.usefixtures("prompt")
def test_a_plan_that_the_log_does_not_hold_is_asked_for_as_a_file(conditions, publisher) -> None:
    conditions.note("prompt", action="apply", release=RELEASE, detail="[]", plan_hash="f" * 64)
    with pytest.raises(ConfigurationError, match="give the plan's file instead"):
        publisher.plan_rollback("fff")
