"""Publishing into a RUNNING tag: plan, approve, apply, and what stops it."""

from dataclasses import replace

import pytest
from published_tags import COMPLETE, FIRST, RELEASE, VALIDATED, Processed, actions, in_the_manner_of

from b2cal_core.errors import BackendError, ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.provenance import Provenance
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher
from resources.conditions.snapshotting import take_snapshot


@pytest.mark.usefixtures("prompt")
def test_a_plan_is_approved_applied_verified_and_finished_and_the_log_tells(conditions, publisher) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    assert document.sources == (("staging", conditions.fingerprint("staging")),)
    assert (document.safe_run.run, document.first_run) == (ExpRun(0, 1), FIRST)
    assert PlanDocument.from_json(document.to_json()) == document
    publisher.approve(document, RELEASE)
    links = publisher.apply(document, RELEASE)
    assert {(link.name, link.revision, str(link.iov)) for link in links} == {
        ("p1", 1, "0,0,1,9"),
        ("p1", 2, "1,10,-1,-1"),
    }
    assert conditions.fingerprint("prompt") == document.predicted
    found = publisher.verify(document)
    assert found.discrepancies == ()
    assert found.latest
    publisher.finalize(document, RELEASE)
    (record,) = publisher.history("prompt")
    assert record.state == "final"
    assert [entry.action for entry in record.lines] == ["approve", "apply", "verify", "finalize"]
    assert record.document == document


@pytest.mark.usefixtures("prompt")
def test_making_a_plan_changes_nothing(conditions, publisher) -> None:
    before = conditions.audit()
    publisher.plan_update("prompt", "staging", first_run=FIRST)
    assert conditions.audit() == before


@pytest.mark.usefixtures("prompt")
def test_only_what_may_change_is_read_of_the_running_tag(conditions, make) -> None:
    asked: list[IoV | None] = []

    class Watched(EmbeddedConditionsDB):
        def list_iovs(self, tag, within=None, *, as_of=None):
            asked.extend([within] if tag == "prompt" else [])
            return super().list_iovs(tag, within, as_of=as_of)

    watched = in_the_manner_of(Watched, conditions)
    Publisher(watched).plan_update("prompt", "staging", first_run=FIRST)
    assert asked == [IoV(1, 10, -1, -1)]


@pytest.mark.usefixtures("prompt")
def test_a_run_before_the_first_safe_run_is_refused_with_the_reason(conditions, make) -> None:
    publisher = Publisher(conditions, [Processed(), Processed(ExpRun(1, 3)), Processed(ExpRun(1, 12))])
    with pytest.raises(ConflictError, match=r"exp 1 run 12 was processed \(the test says so\).*is exp 1 run 13") as bad:
        publisher.plan_update("prompt", "staging", first_run=FIRST)
    assert "Nothing was changed" in str(bad.value)
    make("late", [("p1", "four", "2,0,-1,-1")], TagState.RUNNING)
    with pytest.raises(ConflictError, match="p1 revision 3 begins in exp 2 run 0"):
        Publisher(conditions).plan_update("late", "staging", first_run=FIRST)
    assert publisher.first_safe_run("prompt").run == ExpRun(1, 13)


@pytest.mark.usefixtures("prompt")
def test_tags_in_the_wrong_state_or_without_content_are_refused(conditions, publisher, make) -> None:
    with pytest.raises(ConflictError, match="staging is VALIDATED, and a running update takes a tag that is RUNNING"):
        publisher.plan_update("staging", "staging", first_run=FIRST)
    with pytest.raises(ConflictError, match="prompt is RUNNING, and publishing takes a tag that is VALIDATED"):
        publisher.plan_update("prompt", "prompt", first_run=FIRST)
    with pytest.raises(ConfigurationError, match="nobody"):
        publisher.plan_update("prompt", "nobody", first_run=FIRST)
    make("empty", [], *VALIDATED)
    with pytest.raises(DataError, match="empty holds nothing to publish"):
        publisher.plan_update("prompt", "empty", first_run=FIRST)


@pytest.mark.usefixtures("prompt")
def test_a_tag_that_changes_while_it_is_read_gives_no_plan(conditions, publisher, make) -> None:
    make("other", [("p2", "six", "1,10,-1,-1")], *VALIDATED)
    document = publisher.plan_update("prompt", "other", first_run=FIRST)

    class Restless(EmbeddedConditionsDB):
        def list_iovs(self, tag, within=None, *, as_of=None):
            found = super().list_iovs(tag, within, as_of=as_of)
            if tag == "prompt":
                self.apply(document, RELEASE)
            return found

    restless = in_the_manner_of(Restless, conditions)
    with pytest.raises(ConflictError, match="prompt was changed while it was read"):
        Publisher(restless).plan_update("prompt", "staging", first_run=FIRST)


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("lost", sorted(Provenance().missing))
def test_without_complete_provenance_nothing_is_published_and_no_lease_is_taken(conditions, publisher, make, lost):
    make("bare", [("p1", "bare", "1,10,-1,-1")], *VALIDATED, recorded=False)
    payload = conditions.payload("p1", 3)
    conditions.record_provenance({("p1", payload.md5): COMPLETE.model_copy(update={lost: None})}, author="alice")
    document = publisher.plan_update("prompt", "bare", first_run=FIRST)
    before = conditions.fingerprint("prompt")
    held = conditions.lease("prompt", holder="somebody", seconds=60)  # a publisher that asked would be refused
    with pytest.raises(DataError, match=rf"the record of p1 .* lacks {lost}"):
        publisher.apply(document, RELEASE)
    conditions.end_lease(held)
    assert conditions.fingerprint("prompt") == before
    assert "apply" not in actions(conditions, "prompt")


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("field", ["author", "approver", "reason"])
def test_a_publish_says_who_who_agreed_and_why(publisher, field) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    for step in (publisher.apply, publisher.approve):
        with pytest.raises(ConfigurationError, match=rf"{field} is missing"):
            step(document, replace(RELEASE, **{field: " "}))


@pytest.mark.usefixtures("prompt")
def test_four_eyes_are_two_people_and_the_second_has_approved_just_this_plan(conditions) -> None:
    publisher = Publisher(conditions, four_eyes=True)
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    with pytest.raises(ConfigurationError, match="alice cannot approve an own plan"):
        publisher.apply(document, replace(RELEASE, approver="Alice "))
    with pytest.raises(ConfigurationError, match=r"bob has not approved plan .* \(approved by: nobody\)"):
        publisher.apply(document, RELEASE)
    publisher.approve(replace(document, purpose="another"), RELEASE)
    with pytest.raises(ConfigurationError, match="bob has not approved"):
        publisher.apply(document, RELEASE)
    publisher.approve(document, RELEASE)
    assert publisher.apply(document, RELEASE)


@pytest.mark.usefixtures("prompt")
def test_data_processed_between_plan_and_publish_stop_it_under_the_lease(conditions) -> None:
    processed = Processed(ExpRun(1, 9))
    publisher = Publisher(conditions, [processed])
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    before = conditions.fingerprint("prompt")
    processed.run = FIRST
    with pytest.raises(ConflictError, match="exp 1 run 10 was processed"):
        publisher.apply(document, RELEASE)
    assert conditions.fingerprint("prompt") == before
    conditions.lease("prompt", holder="the next", seconds=1)  # the publisher's own was given back


@pytest.mark.usefixtures("prompt")
def test_a_plan_for_other_content_or_a_tag_that_is_leased_is_refused(conditions, publisher, make) -> None:
    make("other", [("p2", "six", "1,10,-1,-1")], *VALIDATED)
    document, other = (publisher.plan_update("prompt", tag, first_run=FIRST) for tag in ("staging", "other"))
    held = conditions.lease("prompt", holder="somebody", seconds=60)
    with pytest.raises(ConflictError, match="somebody"):
        publisher.apply(document, RELEASE)
    conditions.end_lease(held)
    publisher.apply(document, RELEASE)
    before = conditions.fingerprint("prompt")
    with pytest.raises(ConflictError):
        publisher.apply(other, RELEASE)
    assert conditions.fingerprint("prompt") == before


@pytest.mark.usefixtures("prompt")
def test_a_plan_applied_again_is_only_read_back(conditions, publisher) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    once = publisher.apply(document, RELEASE)
    log = conditions.audit()
    held = conditions.lease("prompt", holder="somebody", seconds=60)
    again = Publisher(conditions).apply(document, RELEASE)
    conditions.end_lease(held)
    assert set(again) <= set(once)
    assert {link.name for link in again} == {"p1"}
    assert conditions.audit() == log


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("step", ["open IoVs closed", "new IoVs created", "commit", "committed"])
def test_a_publish_that_was_broken_off_is_completed_by_asking_again(conditions, publisher, tmp_path, step) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)

    def stop(reached: str) -> None:
        if reached == step:
            raise BackendError(f"killed at {step}", transient=True)

    killed = Publisher(EmbeddedConditionsDB(tmp_path / "conditions", on_step=stop), holder="the test")
    with pytest.raises(BackendError, match="killed"):
        killed.apply(document, RELEASE)
    assert conditions.fingerprint("prompt") in {document.fingerprint, document.predicted}
    publisher.apply(document, RELEASE)
    assert conditions.fingerprint("prompt") == document.predicted
    assert actions(conditions, "prompt").count("apply") == 1


@pytest.mark.usefixtures("prompt")
def test_a_change_whose_line_in_the_log_was_lost_is_completed(conditions) -> None:
    """The reply of a remote database may be lost after it changed the tag; the links it made forbid nothing."""
    document = Publisher(conditions).plan_update("prompt", "staging", first_run=FIRST)

    class Forgetful(EmbeddedConditionsDB):
        lost = True

        def apply(self, document, release, *, lease=None):
            if self.lost:
                self.lost = False
                raise BackendError("the reply was lost", transient=True)
            return super().apply(document, release, lease=lease)

        def fingerprint(self, tag):
            return document.predicted if self.lost is False else super().fingerprint(tag)

        def list_iovs(self, tag, within=None, *, as_of=None):
            assert self.lost or within != IoV(1, 10, -1, -1), "the links of the plan itself are not judged"
            return super().list_iovs(tag, within, as_of=as_of)

    forgetful = in_the_manner_of(Forgetful, conditions)
    publisher = Publisher(forgetful)
    with pytest.raises(BackendError, match="lost"):
        publisher.apply(document, RELEASE)
    publisher.apply(document, RELEASE)
    assert conditions.fingerprint("prompt") == document.predicted


@pytest.mark.usefixtures("prompt")
def test_a_lease_that_cannot_be_given_back_does_not_hide_that_the_publish_succeeded(conditions, caplog) -> None:
    class Sticky(EmbeddedConditionsDB):
        def end_lease(self, lease):
            raise BackendError("the database is gone", transient=True)

    publisher = Publisher(in_the_manner_of(Sticky, conditions))
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    assert "the lease on prompt was not given back (the database is gone)" in caplog.text


@pytest.mark.usefixtures("prompt")
def test_a_plan_made_elsewhere_without_a_first_run_is_refused(conditions, publisher) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    with pytest.raises(ConfigurationError, match="does not say from which run on it is"):
        publisher.apply(replace(document, first_run=None), RELEASE)
    assert conditions.fingerprint("prompt") == document.fingerprint


@pytest.mark.usefixtures("prompt")
def test_a_payload_or_a_tag_that_vanished_is_named(conditions) -> None:
    class Lossy(EmbeddedConditionsDB):
        def payloads_of(self, wanted):
            return {}

    class Untagged(EmbeddedConditionsDB):
        def get_tag(self, name):
            return None

    with pytest.raises(DataError, match="no payload p1 revision 2; upload it"):
        Publisher(in_the_manner_of(Lossy, conditions)).plan_update("prompt", "staging", first_run=FIRST)
    with pytest.raises(DataError, match="links payloads the database does not have: p1 revision 1, p2 revision 1"):
        take_snapshot(in_the_manner_of(Lossy, conditions), ["prompt"])
    with pytest.raises(ConfigurationError, match="there is no global tag 'staging'"):
        Publisher(in_the_manner_of(Untagged, conditions)).plan_update("prompt", "staging", first_run=FIRST)
