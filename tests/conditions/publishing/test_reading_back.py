"""Whether a published plan is what readers get: told truthfully, whatever is in between."""

from dataclasses import replace

import pytest
from published_tags import FIRST, RELEASE, VALIDATED, actions, in_the_manner_of

from b2cal_core.errors import IntegrityError
from b2cal_core.payloads import TagState
from b2cal_core.ports import Capabilities
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher


@pytest.mark.usefixtures("prompt")
def test_a_plan_is_judged_by_what_it_did_itself_when_the_tag_was_updated_again(conditions, publisher, make) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    assert "never applied" in publisher.verify(document).discrepancies[0]
    publisher.apply(document, RELEASE)
    make("next", [("p1", "later", "2,0,-1,-1")], *VALIDATED)
    publisher.apply(publisher.plan_update("prompt", "next", first_run=ExpRun(2, 0)), RELEASE)
    found = publisher.verify(document)
    assert (found.discrepancies, found.latest) == ((), False)

    class Forgetting(EmbeddedConditionsDB):
        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, time_machine=False, cache_delay_seconds=30.0)

    forgetting = in_the_manner_of(Forgetting, conditions)
    found = Publisher(forgetting).verify(document)
    assert (found.discrepancies, found.latest) == ((), False)
    assert "may see the state before for up to 30 s" in found.visibility


class _Lying(EmbeddedConditionsDB):
    """Look-ups do not see a new payload for some time, as behind a cache."""

    stale = 0

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, cache_delay_seconds=60.0)

    def resolve(self, chain, run, names=None, *, as_of=None):
        found = super().resolve(chain, run, names, as_of=as_of)
        if self.stale > 0 and run >= FIRST:
            type(self).stale -= 1
            return {name: answer for name, answer in found.items() if name != "p1"}
        return found


@pytest.mark.usefixtures("prompt")
def test_success_is_not_reported_before_readers_of_a_cache_see_it(conditions) -> None:
    lying = in_the_manner_of(_Lying, conditions)
    waits: list[float] = []
    publisher = Publisher(lying, sleep=waits.append)
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    _Lying.stale = 3
    publisher.apply(document, RELEASE)
    assert waits
    assert sum(waits) < 60


@pytest.mark.usefixtures("prompt")
def test_a_loss_that_stays_is_no_success_and_the_lease_is_given_back(conditions) -> None:
    lying = in_the_manner_of(_Lying, conditions)
    waits: list[float] = []
    publisher = Publisher(lying, sleep=waits.append)
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    _Lying.stale = 10_000
    with pytest.raises(IntegrityError, match="p1 in exp 1 run 10 is looked up as nothing, listed as revision 2"):
        publisher.apply(document, RELEASE)
    assert 60 <= sum(waits) < 130
    conditions.lease("prompt", holder="the next", seconds=1)
    assert "verify" not in actions(conditions, "prompt")


@pytest.mark.usefixtures("prompt")
def test_a_damaged_payload_file_is_found_when_a_plan_is_read_back(conditions, publisher) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    file = conditions.payload_file(conditions.payload("p1", 2))
    file.chmod(0o644)
    file.write_text("eerht")
    (complaint,) = publisher.verify(document).discrepancies
    assert "p1 revision 2" in complaint
    with pytest.raises(IntegrityError, match="p1 revision 2"):
        publisher.apply(document, RELEASE)


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize(
    ("revision", "listed", "complaint"),
    [
        (2, IoV(1, 10, 2, -1), "p1 revision 2 is valid in 1,10,2,-1, not in 1,10,-1,-1"),
        (2, IoV(1, 11, -1, -1), "p1 revision 2 is valid in no run, not in 1,10,-1,-1"),
        (1, IoV(0, 0, 1, 20), "p1 revision 1 is valid in 0,0,1,20, not in 0,0,1,9"),
        (1, IoV(0, 0, 1, 20), "p1 has revisions 1 and 2 in 1,10,1,20"),
    ],
)
def test_a_write_that_was_lost_or_done_otherwise_is_told(conditions, publisher, revision, listed, complaint) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)

    class Careless(EmbeddedConditionsDB):
        def list_iovs(self, tag, within=None, *, as_of=None):
            found = super().list_iovs(tag, within, as_of=as_of)
            return tuple(replace(i, iov=listed) if (i.name, i.revision) == ("p1", revision) else i for i in found)

    assert complaint in Publisher(in_the_manner_of(Careless, conditions)).verify(document).discrepancies


@pytest.mark.usefixtures("prompt")
def test_a_tag_that_changed_without_a_line_in_the_log_is_told(conditions, publisher) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)

    class Tampered(EmbeddedConditionsDB):
        def fingerprint(self, tag):
            return f"{0:064x}-RUNNING"

    (complaint,) = Publisher(in_the_manner_of(Tampered, conditions)).verify(document).discrepancies
    assert "the log tells of no change since" in complaint


def test_a_link_that_should_be_gone_is_told(conditions, publisher, make) -> None:
    make("open", [("p", "one", "1,3,1,5")])
    document = publisher.plan_open_last("open")
    before = conditions.list_iovs("open")
    publisher.apply(document, RELEASE)

    class Undying(EmbeddedConditionsDB):
        def list_iovs(self, tag, within=None, *, as_of=None):
            return before

    found = Publisher(in_the_manner_of(Undying, conditions)).verify(document).discrepancies
    assert found == (
        "p revision 1 is still valid in 1,3,1,5",
        "p revision 1 is valid in 1,3,1,5, not in 1,3,-1,-1",
    )


@pytest.mark.usefixtures("prompt")
def test_payloads_or_files_that_are_not_those_of_the_plan_are_told(conditions, publisher, tmp_path) -> None:
    document = publisher.plan_update("prompt", "staging", first_run=FIRST)
    publisher.apply(document, RELEASE)
    other = tmp_path / "other"
    other.write_text("other")

    class Mixed(EmbeddedConditionsDB):
        def payload_file(self, payload):
            return other

    class Renumbered(EmbeddedConditionsDB):
        def payloads_of(self, wanted):
            return {}

    (complaint,) = Publisher(in_the_manner_of(Mixed, conditions)).verify(document).discrepancies
    assert "the file of p1 revision 2 has MD5" in complaint
    (complaint,) = Publisher(in_the_manner_of(Renumbered, conditions)).verify(document).discrepancies
    assert complaint.startswith("p1 revision 2 has MD5 unknown, not ")


def test_a_plan_from_the_very_first_run_on_is_read_back(conditions, publisher, make) -> None:
    make("prompt", [], TagState.RUNNING)
    make("staging", [("p", "one", "0,0,-1,-1")], *VALIDATED)
    document = publisher.plan_update("prompt", "staging", first_run=ExpRun(0, 0))
    publisher.apply(document, RELEASE)
    assert publisher.verify(document).discrepancies == ()
