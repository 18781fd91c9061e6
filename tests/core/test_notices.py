from dataclasses import replace
from datetime import timedelta

import pytest
from bucket_pictures import (
    ACCEPTED,
    ASKING,
    BUCKET,
    FAILED,
    FAILURE,
    JUDGED,
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
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.deputies import Deciders
from b2cal_core.forecasts import Forecast
from b2cal_core.gates import CalibrationStanding
from b2cal_core.notices import Notice, NoticeKind, People, Person, notices_of, shortfall_notice, trial_notice
from b2cal_core.ranges import ExpRun
from b2cal_core.reminders import Reminders
from b2cal_core.situations import BucketSituation, WorkState, markdown_table, quoted, unescaped
from b2cal_core.verdicts import Verdict

DAY = timedelta(days=1)
CALIBRATIONS = st.sampled_from([WAITING, ASKING, ACCEPTED, REJECTED, FAILED, LACKING, replace(WAITING, at_work=True)])


def told(situation: BucketSituation) -> dict[NoticeKind, Notice]:
    """The notices by kind, without that of the bucket's closing, which is always there."""
    found = notices_of(situation, now=JUDGED, reminders=Reminders())
    assert found[0].kind is NoticeKind.bucket_closed
    return {notice.kind: notice for notice in found[1:]}


@given(st.lists(CALIBRATIONS, max_size=3), st.booleans())
def test_every_notice_has_a_key_of_its_own_that_stays_and_a_title_in_one_line(calibrations, published) -> None:
    named = [other(one, name=f"Calibration {number}") for number, one in enumerate(calibrations)]
    situation = bucket(*named, failures=(FAILURE,), published_at=NOW if published else None)
    first, again = (notices_of(situation, now=now, reminders=Reminders()) for now in (NOW, NOW + timedelta(hours=1)))
    assert [notice.key for notice in first] == [notice.key for notice in again]
    assert len({notice.key for notice in first}) == len(first)
    for notice in first:
        assert notice.key.startswith(f"prompt/{BUCKET.key}")
        assert len(notice.key) <= 200
        assert "\n" not in notice.title
        assert notice.to


def test_of_a_bucket_that_is_only_closed_its_owner_hears() -> None:
    (closed,) = notices_of(bucket(WAITING), now=NOW, reminders=Reminders())
    assert closed.to == ("mia",)
    assert closed.title == f"[{PLACE} (bucket40)] the bucket is closed"
    assert "CDC Tracking" in closed.text


def test_an_expert_is_asked_with_the_command_and_the_page() -> None:
    asked = told(bucket(ASKING))[NoticeKind.needs_sign_off]
    assert asked.to == ("ada",)
    assert f"b2cal signoff accept|reject {PLACE} cdc_tracking" in asked.text
    assert ASKING.page in asked.text
    assert "verdict is warn" in asked.title


def test_payloads_made_anew_are_asked_about_anew() -> None:
    anew = replace(ASKING, open_sign_off=replace(ASKING.open_sign_off, evidence="d" * 64))
    first, second = (told(bucket(one))[NoticeKind.needs_sign_off] for one in (ASKING, anew))
    assert first.key != second.key


def test_without_an_expert_the_owner_is_asked_and_without_an_owner_whoever_reads() -> None:
    nobody = replace(ASKING, deciders=Deciders(""))
    assert told(bucket(nobody))[NoticeKind.needs_sign_off].to == ("mia",)
    assert told(replace(bucket(nobody), owner=""))[NoticeKind.needs_sign_off].to == ()


@pytest.mark.parametrize(
    ("hours", "hearers"), [(23, []), (24, [("ada",)]), (119, [("ada",)]), (120, [("ada",), ("mia",)])]
)
def test_reminders_go_to_whom_the_policy_says_and_each_has_its_own_key(hours, hearers) -> None:
    found = notices_of(bucket(ASKING), now=JUDGED + timedelta(hours=hours), reminders=Reminders())
    reminders = [notice for notice in found if notice.kind is NoticeKind.reminder]
    assert [notice.to for notice in reminders] == hearers
    assert len({notice.key for notice in reminders}) == len(hearers)
    assert all("has waited for" in notice.text for notice in reminders)


def test_who_must_choose_what_is_done_about_too_few_data_is_asked_and_reminded_as_of_a_sign_off() -> None:
    found = told(bucket(LACKING, other(WAITING)))
    asked, blocked = found[NoticeKind.not_enough_data], found[NoticeKind.blocked]
    assert (asked.to, blocked.to) == (("ada",), ("mia", "ben"))
    assert quoted(QUESTION) in asked.text
    assert "SVD time, publishing" in blocked.text
    assert asked.kind.is_urgent
    later = notices_of(bucket(LACKING), now=JUDGED + 5 * DAY, reminders=Reminders())
    reminders = [notice for notice in later if notice.kind is NoticeKind.reminder]
    assert [notice.to for notice in reminders] == [("ada",), ("mia",)]
    assert all("still waits for a choice" in one.title and quoted(QUESTION) in one.text for one in reminders)


def test_who_must_choose_again_is_asked_again() -> None:
    again = replace(LACKING, open_question=replace(LACKING.open_question, evidence="20260302T120000"))
    first, second = (told(bucket(one))[NoticeKind.not_enough_data].key for one in (LACKING, again))
    assert first != second


def test_a_failure_is_told_to_the_expert_with_its_sentence_and_what_waits_to_the_others() -> None:
    found = told(bucket(FAILED, other(WAITING)))
    assert found[NoticeKind.failed].to == ("ada",)
    assert quoted(FAILURE.sentence) in found[NoticeKind.failed].text
    assert found[NoticeKind.blocked].to == ("mia", "ben")
    assert "SVD time, publishing" in found[NoticeKind.blocked].text
    assert {kind for kind in found if kind.is_urgent} == {NoticeKind.failed, NoticeKind.blocked}


def test_a_step_of_no_calibration_that_failed_is_told_to_the_owner() -> None:
    found = told(bucket(ACCEPTED, failures=(replace(FAILURE, step="prompt__published"),)))
    assert found[NoticeKind.failed].to == ("mia",)
    assert "prompt__published" in found[NoticeKind.failed].title


def test_failing_again_is_told_again() -> None:
    later = replace(FAILED, failure=replace(FAILURE, when=NOW + DAY))
    assert told(bucket(FAILED))[NoticeKind.failed].key != told(bucket(later))[NoticeKind.failed].key


def test_a_rejection_is_told_with_who_and_why() -> None:
    rejected = told(bucket(REJECTED))[NoticeKind.rejected]
    assert rejected.to == ("ada",)
    assert quoted("a /close reason") in rejected.text
    assert f"b2cal bucket run {PLACE} --only cdc_tracking" in rejected.text


def test_nothing_is_blocked_while_the_bucket_is_worked() -> None:
    assert NoticeKind.blocked not in told(bucket(FAILED, other(WAITING), at_work=True))


def test_what_blocks_is_told_again_when_it_is_another_result_that_does() -> None:
    anew = replace(REJECTED, findings=replace(REJECTED.findings, content="d" * 64))
    first, again, second = (told(bucket(one))[NoticeKind.blocked].key for one in (REJECTED, REJECTED, anew))
    assert first == again != second


def test_a_bad_verdict_blocks_until_a_person_accepts_it() -> None:
    bad = replace(ASKING, standing=CalibrationStanding("CDC Tracking", has_payloads=True, verdict=Verdict.fail))
    assert NoticeKind.blocked in told(bucket(bad))
    accepted = replace(bad, open_sign_off=None, standing=replace(bad.standing, sign_off=ACCEPTED.standing.sign_off))
    assert NoticeKind.blocked not in told(bucket(accepted))


def test_publishing_is_told_once_for_each_time() -> None:
    first, second = (told(bucket(ACCEPTED, published_at=when))[NoticeKind.published] for when in (NOW, NOW + DAY))
    assert "prompt_running" in first.title
    assert first.key != second.key


def test_a_calibration_at_work_has_nothing_to_tell() -> None:
    assert told(bucket(replace(FAILED, at_work=True), at_work=True)) == {}


@pytest.mark.parametrize(
    ("situation", "state"),
    [
        (bucket(WAITING), WorkState.waiting),
        (bucket(WAITING, at_work=True), WorkState.running),
        (bucket(replace(WAITING, at_work=True), other(WAITING)), WorkState.running),
        (bucket(ASKING, other(WAITING)), WorkState.needs_sign_off),
        (bucket(REJECTED, other(ASKING)), WorkState.rejected),
        (bucket(LACKING, other(ASKING)), WorkState.needs_choice),
        (bucket(FAILED, other(REJECTED)), WorkState.failed),
        (bucket(ACCEPTED, failures=(FAILURE,)), WorkState.failed),
        (bucket(ACCEPTED), WorkState.accepted),
        (bucket(ACCEPTED, other(WAIVED)), WorkState.accepted),
        (bucket(ACCEPTED, other(WAITING)), WorkState.waiting),
        (bucket(ACCEPTED, published_at=NOW), WorkState.published),
        (bucket(ACCEPTED, other(ASKING), published_at=NOW), WorkState.needs_sign_off),
    ],
)
def test_a_bucket_stands_where_it_most_needs_a_person(situation, state) -> None:
    assert situation.state() is state


def test_people_are_found_by_name_address_or_account() -> None:
    people = People([Person("cdc-expert", "cdc@example.org", "ada")])
    assert people.find("cdc-expert").gitlab == "ada"
    assert people.find("ben@example.org").email == "ben@example.org"
    assert people.find("ben").gitlab == "ben"
    assert people.emails(["cdc-expert", "ben", "cdc-expert", "x@example.org"]) == ("cdc@example.org", "x@example.org")


def test_free_text_cannot_leave_its_block_nor_break_a_table() -> None:
    assert quoted("a\n```\n/close").count("```") == 2
    table = markdown_table([{"a": "x|y\n@all", "b": 1.5}])
    assert table.splitlines() == ["| a | b |", "| --- | --- |", "| x&#124;y &#64;all | 1.5 |"]
    assert markdown_table([]) == ""


@given(text=st.text(alphabet="\\|`*_<@ a"))
def test_where_nothing_renders_markdown_the_cells_of_a_table_are_read_as_they_were(text: str) -> None:
    cell = unescaped(markdown_table([{"a": text}]).splitlines()[-1])
    assert cell == f"| {' '.join(text.split())} |"


def test_a_notice_to_several_is_split_into_one_for_each() -> None:
    blocked = told(bucket(FAILED, other(WAITING)))[NoticeKind.blocked]
    assert [(part.to, part.key) for part in blocked.to_each()] == [
        (("mia",), f"{blocked.key}@mia"),
        (("ben",), f"{blocked.key}@ben"),
    ]
    nobody = replace(blocked, to=())
    assert nobody.to_each() == (nobody,)


def test_who_owns_the_campaign_is_warned_of_too_few_events_once_for_each_bucket_and_calibration() -> None:
    forecast = Forecast("CDC Tracking", 200, 500, 10.0, None, 400)
    one, same, other_bucket = (
        shortfall_notice("prompt", "mia", ExpRun(12, run), replace(forecast, events=events))
        for run, events in ((21, 200), (21, 300), (41, 200))
    )
    assert one.key == same.key != other_bucket.key
    assert (one.to, one.kind.is_urgent) == (("mia",), False)
    assert "about 400 when it closes" in one.text
    assert "b2cal bucket forecast prompt" in one.text
    assert shortfall_notice("prompt", "", ExpRun(12, 21), forecast).to == ()


def test_a_trial_is_addressed_as_asked() -> None:
    assert trial_notice("test:1", ["ada"]).to == ("ada",)
