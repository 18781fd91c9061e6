"""Calibrations that have not enough data in their bucket."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asset_fakes import BUCKET_1, BUCKET_2, FakeCaf, Laboratory, payload_names

from b2cal_assets.asset_keys import Part, calibration_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketOutcome, BucketRunner
from b2cal_assets.data_shortages import clipped, open_questions
from b2cal_assets.staging import links_of
from b2cal_core.buckets import Bucket
from b2cal_core.data_shortage import SHORTAGE_RULE, ShortageChoice
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import IoV
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Verdict

MakeLaboratory = Callable[..., Laboratory]
MakeHungry = Callable[..., Laboratory]
CDC, PAYLOADS = "CDC Tracking", "prompt/cdc_tracking/payloads"


@pytest.fixture
def hungry(laboratory: MakeLaboratory) -> MakeHungry:
    """A laboratory whose CDC calibration needs five runs, while a bucket has four."""

    def make(policy: str, *buckets: Bucket, **more: Any) -> Laboratory:
        campaign = {"not_enough_data_of": {"caf_cdc": policy}, "gates": {"auto_sign_off": "none_fail"}, **more}
        lab = laboratory(caf=FakeCaf(payload_names(), hungry={"caf_cdc": 5}), campaign=campaign)
        lab.book(*buckets)
        return lab

    return make


def work(lab: Laboratory, bucket: Bucket, *only: str) -> BucketOutcome:
    return BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(bucket, only=only)


def staged(lab: Laboratory, bucket: Bucket) -> list[IoV]:
    return [link.iov for link in links_of(lab.conditions, lab.plan.staging_tag(bucket), ["CDCTimeZeros"])]


def choices(lab: Laboratory, bucket: Bucket) -> list[tuple[Remedy, str]]:
    return [(choice.remedy, choice.author) for choice in lab.sign_offs.choices("prompt", bucket.key)]


def choose(lab: Laboratory, bucket: Bucket, remedy: Remedy) -> None:
    lab.sign_offs.choose(ShortageChoice("prompt", bucket.key, CDC, remedy, "ada", "seen", datetime.now(UTC)))


def test_with_the_data_of_the_bucket_before_payloads_are_made_for_the_buckets_own_runs(hungry: MakeHungry) -> None:
    lab = hungry("merge", BUCKET_1, BUCKET_2)
    lab.caf.hungry.clear()
    assert work(lab, BUCKET_1, "caf_cdc").ok
    lab.caf.hungry["caf_cdc"] = 5
    assert work(lab, BUCKET_2, "caf_cdc").ok
    assert staged(lab, BUCKET_2) == [BUCKET_2.iov]
    assert choices(lab, BUCKET_2) == [(Remedy.merge, SHORTAGE_RULE)]
    alone, joined = lab.caf.requests[-2:]
    assert alone.requested_iov == BUCKET_2.iov
    assert joined.requested_iov == IoV(*BUCKET_1.first, *BUCKET_2.last)
    assert [run.run for _, run in joined.input_data["hadron_calib"]] == list(range(1, 9))
    before = len(lab.caf.requests)
    assert work(lab, BUCKET_2, "caf_cdc").done == ()
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_2, only=["caf_cdc"], only_missing=False)
    assert [request.requested_iov for request in lab.caf.requests[before:]] == [joined.requested_iov]


def test_it_waits_for_the_next_bucket_and_goes_on_when_that_is_closed(hungry: MakeHungry) -> None:
    lab = hungry("extend", BUCKET_1)
    outcome = work(lab, BUCKET_1)
    (reason,) = next(reasons for key, reasons in outcome.blocked.items() if key.endswith("payloads"))
    assert "goes on with those of the next bucket" in reason
    assert outcome.ok
    lab.book(BUCKET_2)
    assert work(lab, BUCKET_1, "caf_cdc").ok
    assert staged(lab, BUCKET_1) == [BUCKET_1.iov]


def test_where_the_campaigns_runs_end_in_the_bucket_a_person_is_asked_instead_of_waiting(hungry: MakeHungry) -> None:
    lab = hungry("extend", BUCKET_1, last_run=tuple(BUCKET_1.last))
    said = " ".join(reason for reasons in work(lab, BUCKET_1).blocked.values() for reason in reasons)
    assert "no bucket after it to take data from" in said
    ledger = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)
    (asked,) = open_questions(ledger, [BUCKET_1])
    assert (asked.calibration, asked.question) == (CDC, ledger.shortage_reasons(CDC, [BUCKET_1])[0])
    assert f"b2cal bucket data prompt {BUCKET_1.key} cdc_tracking merge|reuse" in asked.question
    choose(lab, BUCKET_1, Remedy.reuse)
    assert PAYLOADS in work(lab, BUCKET_1, "caf_cdc").done


def test_payloads_that_were_valid_before_are_taken_and_a_person_is_told(hungry: MakeHungry) -> None:
    lab = hungry("reuse", BUCKET_1)
    assert work(lab, BUCKET_1).ok
    assert staged(lab, BUCKET_1) == [BUCKET_1.iov]
    ledger = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)
    assert ledger.verdict(CDC) is Verdict.warn
    made = ledger.metadata(calibration_key("prompt", CDC, Part.payloads)) or {}
    assert made["not enough data"].value.startswith("reuse, chosen by rule:not_enough_data: caf_cdc has not enough")
    assert ("CDCTimeZeros", BUCKET_1.iov) in [(name, iov) for name, iov in lab.target_content()]


def test_a_person_is_asked_and_what_is_chosen_is_done(hungry: MakeHungry) -> None:
    lab = hungry("ask", BUCKET_1)
    outcome = work(lab, BUCKET_1)
    assert outcome.ok
    said = " ".join(reason for reasons in outcome.blocked.values() for reason in reasons)
    assert f"b2cal bucket data prompt {BUCKET_1.key} cdc_tracking merge|extend|reuse" in said
    asked = len(lab.caf.requests)
    assert work(lab, BUCKET_1, "caf_cdc").done == ()
    assert len(lab.caf.requests) == asked  # it is not tried again before a person has chosen
    choose(lab, BUCKET_1, Remedy.reuse)
    assert PAYLOADS in work(lab, BUCKET_1, "caf_cdc").done


def test_where_the_remedy_cannot_be_had_or_does_not_help_a_person_is_asked(hungry: MakeHungry) -> None:
    lab = hungry("merge", BUCKET_1, BUCKET_2)
    first = " ".join(r for reasons in work(lab, BUCKET_1).blocked.values() for r in reasons)
    assert "there is no bucket before to take data from" in first
    lab.caf.hungry["caf_cdc"] = 9
    second = " ".join(r for reasons in work(lab, BUCKET_2, "caf_cdc").blocked.values() for r in reasons)
    assert "caf_cdc has not enough data); choose what is done" in second
    assert [remedy for remedy, _ in choices(lab, BUCKET_2)] == [Remedy.merge, Remedy.ask]


def test_once_there_are_data_a_person_may_have_it_calibrated_alone(hungry: MakeHungry) -> None:
    lab = hungry("ask", BUCKET_1)
    work(lab, BUCKET_1, "caf_cdc")
    lab.caf.hungry.clear()
    choose(lab, BUCKET_1, Remedy.alone)
    assert PAYLOADS in work(lab, BUCKET_1, "caf_cdc").done


def test_payloads_made_with_data_of_two_buckets_are_cut_to_one_and_stay_open() -> None:
    def payload(*iov: int) -> LocalPayload:
        return LocalPayload("CDCTimeZeros", Path("file"), IoV(*iov))

    made = [payload(12, 1, 12, 2), payload(12, 3, 12, 5), payload(12, 6, 12, 9), payload(12, 10, -1, -1)]
    assert [p.iov.as_tuple() for p in clipped(made, BUCKET_2)] == [(12, 5, 12, 5), (12, 6, 12, 8)]
    assert [p.iov.as_tuple() for p in clipped([payload(12, 1, -1, -1)], BUCKET_2)] == [(12, 5, -1, -1)]
