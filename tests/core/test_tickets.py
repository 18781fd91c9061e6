from dataclasses import replace

import pytest
from bucket_pictures import (
    ACCEPTED,
    ASKING,
    BUCKET,
    FAILED,
    FAILURE,
    LACKING,
    NOW,
    PLACE,
    QUESTION,
    REJECTED,
    WAITING,
    WAIVED,
    bucket,
    other,
)

from b2cal_core.deputies import Deciders
from b2cal_core.notices import People, Person
from b2cal_core.situations import CalibrationSituation, WorkState, quoted
from b2cal_core.tickets import Ticket, TicketReference, bucket_ticket, calibration_ticket, nobody_has

PEOPLE = People([Person("ada", "ada@example.org", "ada.l"), Person("mia", "mia@example.org")])


def of(one: CalibrationSituation, **changes) -> Ticket:
    return calibration_ticket(bucket(one, **changes), one, PEOPLE, parent="1")


def test_the_ticket_of_a_calibration_shows_what_its_expert_has_to_look_at() -> None:
    ticket = of(ASKING)
    assert ticket.key == f"prompt/{BUCKET.key}/cdc_tracking"
    assert ticket.title == "CDC Tracking, bucket bucket40 of prompt"
    assert ticket.assignee == "ada.l"
    assert ticket.parent == "1"
    assert ticket.plots == ASKING.findings.plots
    for shown in (
        "**Verdict: warn**",
        "| pull&#124;mean | 3.25 | warn |",
        "| CDCTimeZeros | 3 |",
        "IoVs (1)",
        f"b2cal signoff accept|reject {PLACE} cdc&#95;tracking".replace("&#95;", "_"),
        ASKING.page,
    ):
        assert shown in ticket.text


@pytest.mark.parametrize(
    ("one", "published", "state", "done"),
    [
        (WAITING, False, WorkState.waiting, False),
        (replace(WAITING, at_work=True), False, WorkState.running, False),
        (FAILED, False, WorkState.failed, False),
        (ASKING, False, WorkState.needs_sign_off, False),
        (LACKING, False, WorkState.needs_choice, False),
        (REJECTED, False, WorkState.rejected, False),
        (WAIVED, False, WorkState.waived, False),
        (WAIVED, True, WorkState.published, True),
        (ACCEPTED, False, WorkState.accepted, True),
        (ACCEPTED, True, WorkState.published, True),
        (ASKING, True, WorkState.needs_sign_off, False),
    ],
)
def test_its_state_follows_the_work_and_it_is_closed_at_sign_off(one, published, state, done) -> None:
    ticket = of(one, published_at=NOW if published else None)
    assert (ticket.state, ticket.done) == (state, done)
    assert ("To decide:" in ticket.text) is (one.standing.has_payloads and not done)


def test_accounts_that_nobody_has_are_named() -> None:
    assert "nobody has the account 'adda', 'bem', so tickets are not assigned" in nobody_has(["adda", "bem"])


def test_the_ticket_of_the_bucket_is_closed_when_it_is_published() -> None:
    for situation, done in ((bucket(ACCEPTED), False), (bucket(ACCEPTED, published_at=NOW), True)):
        assert bucket_ticket(situation, PEOPLE, {}).done is done


def test_the_ticket_of_the_bucket_lists_its_calibrations_with_their_tickets() -> None:
    situation = bucket(ASKING, other(WAITING, expert=""))
    ticket = bucket_ticket(situation, PEOPLE, {"CDC Tracking": TicketReference("7", "https://gitlab/issues/7")})
    assert ticket.assignee == ""  # mia has no account
    assert "| CDC Tracking | needs sign-off | warn | ada |" in ticket.text
    assert "| SVD time | waiting | none yet | nobody |" in ticket.text
    assert "[CDC Tracking](https://gitlab/issues/7)" in ticket.text
    assert "[SVD time]" not in ticket.text


def test_a_step_of_no_calibration_that_failed_is_on_the_ticket_of_the_bucket() -> None:
    ticket = bucket_ticket(bucket(ACCEPTED, failures=(FAILURE,)), PEOPLE, {})
    assert ticket.remark is not None
    assert quoted(FAILURE.sentence) in ticket.text
    assert quoted(FAILURE.sentence) in ticket.remark.text


def test_what_is_new_is_remarked_once_for_each_happening() -> None:
    remarks = [of(one).remark for one in (ASKING, REJECTED, ACCEPTED, FAILED, LACKING)]
    remarks.append(of(ACCEPTED, published_at=NOW).remark)
    remarks.append(of(replace(ASKING, findings=replace(ASKING.findings, content="d" * 64))).remark)
    assert len({remark.key for remark in remarks if remark is not None}) == len(remarks)
    assert of(WAITING).remark is None
    assert of(replace(ASKING, page="elsewhere")).remark == of(ASKING).remark


def test_what_is_asked_about_too_few_data_is_on_the_ticket_and_remarked() -> None:
    ticket = of(LACKING)
    assert ticket.remark is not None
    assert quoted(QUESTION) in ticket.text
    assert quoted(QUESTION) in ticket.remark.text


def test_a_decision_is_shown_with_author_time_and_reason() -> None:
    text = of(REJECTED).text
    assert "Rejected by `ada` at 2026-03-01 12:00:00 UTC" in text
    assert quoted("a /close reason") in text
    assert "until 2026-03-09 12:00:00 UTC" in of(WAIVED).text


def test_without_an_expert_the_owner_has_the_ticket_and_it_is_said() -> None:
    people = People([Person("mia", gitlab="mia")])
    ticket = calibration_ticket(bucket(WAITING), replace(WAITING, deciders=Deciders("")), people, parent="")
    assert ticket.assignee == "mia"
    assert "names no expert" in ticket.text
    nobody = replace(bucket(WAITING), owner="")
    assert calibration_ticket(nobody, replace(WAITING, deciders=Deciders("")), people, parent="").assignee == ""


def test_tickets_differ_by_their_digest_exactly_when_something_is_to_be_changed() -> None:
    assert of(ASKING).digest == of(ASKING).digest
    assert of(ASKING).digest != of(ACCEPTED).digest
    assert of(ASKING).digest != replace(of(ASKING), assignee="ben").digest
