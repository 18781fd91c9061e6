"""A waiver lets a failed verdict through the gates while it lasts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from asset_fakes import BUCKET_1, FakeValidation, Laboratory
from test_bucket_cells import cells
from test_redos import go_on, ledger
from test_sensors import tick

from b2cal_assets.asset_keys import Part, calibration_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.sign_offs import report_sign_off
from b2cal_core.verdicts import Decision, SignOff
from sensors.gates import gates_sensor

MakeLaboratory = Callable[..., Laboratory]
DAY = timedelta(days=1)


def failed(laboratory: MakeLaboratory) -> Laboratory:
    """A bucket that stands still because the validation of BeamSpot failed."""
    lab = laboratory(runs=4, validation=FakeValidation({"val_beam": 9.0}))
    lab.book(BUCKET_1)
    assert "the validation of BeamSpot failed" in go_on(lab).blocked["prompt/ecms/payloads"][0]
    return lab


def waive(lab: Laboratory, days: float, **more: Any) -> SignOff:
    made = ledger(lab).payloads("BeamSpot")
    assert made is not None
    now = datetime.now(UTC)
    subject = ("prompt", BUCKET_1.key, "BeamSpot")
    waiver = SignOff(*subject, Decision.waived, "mia", "known shift", made.content, now, until=now + days * DAY, **more)
    lab.sign_offs.record(waiver)
    report_sign_off(lab.instance, waiver)
    return waiver


def test_while_it_lasts_the_bucket_goes_on_to_its_publishing(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waive(lab, 1)
    assert tick(lab, gates_sensor).run_requests
    outcome = go_on(lab)
    assert outcome.blocked == {}
    assert len(lab.target_content()) == 5
    key = calibration_key("prompt", "BeamSpot", Part.sign_off)
    shown = lab.instance.fetch_materializations(key, limit=1).records[0].asset_materialization
    assert shown is not None
    assert shown.metadata["decision"].value == "waived"
    assert "until" in shown.metadata


def test_the_record_of_what_is_published_says_that_it_was_waived(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waiver = waive(lab, 1)
    go_on(lab)
    target = lab.conditions.list_iovs(lab.plan.campaign.target_tag)
    links = {(link.name, link.revision) for link in target if link.name == "BeamSpot"}
    payloads = lab.conditions.payloads_of(links)
    (record,) = lab.conditions.provenance((p.name, p.md5) for p in payloads.values()).values()
    assert record.validation is not None
    assert (record.validation["verdict"], record.validation["decision"]) == ("fail", "waived")
    assert record.validation["until"] == f"{waiver.until:%Y-%m-%d %H:%M} UTC"


def test_one_that_has_ended_shuts_the_gates_again(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waiver = waive(lab, -1)
    outcome = go_on(lab)
    assert lab.target_content() == []
    assert "the validation of BeamSpot failed" in outcome.blocked["prompt/ecms/payloads"][0]
    (reason,) = cells(lab)["prompt/beamspot/sign_off"].reasons
    assert f"waits for its expert (the waiver of mia ended on {waiver.until:%Y-%m-%d})" in reason


def test_it_ends_in_the_middle_of_the_work_and_what_has_not_gone_on_stays(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waiver = waive(lab, 1)
    assert waiver.until is not None
    for moment, is_shut in ((waiver.until - DAY / 100, False), (waiver.until, True)):
        found = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs, now=moment)
        reasons = [r for r in found.reasons_against_publishing([BUCKET_1]) if "BeamSpot" in r]
        assert bool(reasons) == is_shut
        assert found.is_made(calibration_key("prompt", "BeamSpot", Part.sign_off)) == (not is_shut)


def test_a_waiver_of_another_figure_lets_nothing_through(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waive(lab, 1, figure="width")
    assert "prompt/ecms/payloads" in go_on(lab).blocked
    waive(lab, 1, figure="pull")
    assert go_on(lab).blocked == {}


def test_a_rejection_is_not_waived(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waiver = waive(lab, 1)
    rejection = SignOff(*waiver.subject, Decision.rejected, "ada", "no", waiver.evidence, datetime.now(UTC))
    lab.sign_offs.record(rejection)
    assert "was rejected by ada" in cells(lab)["prompt/ecms/payloads"].reasons[0]


def test_the_page_of_the_sign_off_is_not_stale_when_a_waiver_becomes_an_acceptance(laboratory: MakeLaboratory) -> None:
    lab = failed(laboratory)
    waiver = waive(lab, 1)
    accepted = SignOff(*waiver.subject, Decision.accepted, "ada", "fine", waiver.evidence, datetime.now(UTC))
    report_sign_off(lab.instance, accepted)
    key = calibration_key("prompt", "BeamSpot", Part.sign_off)
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[BUCKET_1.key])
    records = lab.instance.fetch_materializations(wanted, limit=2).records
    versions = {r.asset_materialization.tags["dagster/data_version"] for r in records if r.asset_materialization}
    assert len(versions) == 1
