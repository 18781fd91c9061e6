"""A bucket from collection to publishing, in one process, with a fake CAF and everything else real."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, TARGET, FakeCaf, FakeValidation, Laboratory, payload_names

from b2cal_assets.asset_keys import Part, calibration_key, published_key
from b2cal_assets.bucket_runs import PROCESS_TAG, BucketRunner, cancel_dead_runs, work_bucket
from b2cal_assets.sign_offs import report_sign_off
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.verdicts import Decision, SignOff

MakeLaboratory = Callable[..., Laboratory]


def materialization(lab: Laboratory, key: dg.AssetKey, bucket: str = BUCKET_1.key) -> dg.AssetMaterialization:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[bucket])
    record = lab.instance.fetch_materializations(wanted, limit=1).records[0]
    assert record.asset_materialization is not None
    return record.asset_materialization


def decide(lab: Laboratory, calibration: str, decision: Decision) -> SignOff:
    content = materialization(lab, calibration_key("prompt", calibration, Part.payloads)).metadata["content"].value
    sign_off = SignOff(
        "prompt", BUCKET_1.key, calibration, decision, "ada", "looked at it", str(content), datetime.now(UTC)
    )
    lab.sign_offs.record(sign_off)
    return sign_off


def test_a_bucket_is_calibrated_validated_signed_off_and_published(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert outcome.failed == {}
    assert outcome.blocked == {}
    assert len(outcome.done) == 5 * 4 + 2
    assert sorted(lab.target_content()) == sorted((n, BUCKET_1.iov) for ns in payload_names().values() for n in ns)
    target = lab.conditions.get_tag(TARGET)
    assert target is not None
    assert target.state is TagState.RUNNING


def test_calibrations_run_in_order_and_see_only_what_they_depend_on(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    scripts = lab.caf.scripts
    assert scripts.index("caf_cdc") < scripts.index("caf_svd") < scripts.index("caf_top")
    chains = {request.script.stem: request.database_chain for request in lab.caf.requests}
    seen = {
        script: sorted({link.name for link in lab.conditions.list_iovs(chain[-1])}) if len(chain) > 1 else []
        for script, chain in chains.items()
    }
    assert seen == {
        "caf_cdc": [],
        "caf_svd": ["CDCTimeZeros"],
        "caf_top": ["CDCTimeZeros", "SVDTimes"],
        "caf_beam": ["CDCTimeZeros", "SVDTimes"],
        "caf_ecms": ["BeamSpot", "CDCTimeZeros", "SVDTimes"],
    }
    assert lab.cdst.requests[0].database_chain == chains["caf_top"]


def test_working_a_finished_bucket_again_does_nothing(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    first = runner.work(BUCKET_1)
    requests, tag = len(lab.caf.requests), lab.conditions.fingerprint(TARGET)
    again = runner.work(BUCKET_1)
    assert again.done == ()
    assert set(again.found) == set(first.done)
    assert len(lab.caf.requests) == requests
    assert lab.conditions.fingerprint(TARGET) == tag


def test_making_everything_again_with_the_same_result_changes_no_tag_and_no_version(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1)
    keys, tag = lab.plan.asset_keys(), lab.conditions.fingerprint(TARGET)
    before = [materialization(lab, key).tags["dagster/data_version"] for key in keys]
    again = runner.work(BUCKET_1, only_missing=False)
    assert again.ok
    assert len(again.done) == len(keys)
    assert [materialization(lab, key).tags["dagster/data_version"] for key in keys] == before
    assert lab.conditions.fingerprint(TARGET) == tag
    assert materialization(lab, published_key("prompt")).metadata["applied now"].value is False


def test_one_broken_calibration_leaves_the_others_going_and_nothing_published(laboratory: MakeLaboratory) -> None:
    caf = FakeCaf(payload_names(), broken={"caf_beam": "BeamSpot: not enough data in any run; add runs to the bucket"})
    lab = laboratory(caf=caf)
    lab.book(BUCKET_1)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert list(outcome.failed) == ["prompt__beamspot__calibrate"]
    assert "not enough data in any run; add runs to the bucket" in outcome.failed["prompt__beamspot__calibrate"]
    assert "prompt/beamspot/collector_output" in outcome.done
    assert "prompt/top_t0/sign_off" in outcome.done
    assert "caf_ecms" not in caf.scripts
    assert {"prompt/ecms/payloads", "prompt/published"} <= set(outcome.later)
    assert outcome.blocked == {}
    assert lab.target_content() == []


def test_after_the_cause_is_mended_only_what_was_missing_is_made(laboratory: MakeLaboratory) -> None:
    lab = laboratory(caf=FakeCaf(payload_names(), broken={"caf_beam": "BeamSpot: no"}))
    lab.book(BUCKET_1)
    work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    lab.caf = FakeCaf(payload_names())
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert outcome.ok
    assert lab.caf.scripts == ["caf_beam", "caf_ecms"]
    assert "prompt/cdc_tracking/payloads" in outcome.found
    assert len(lab.target_content()) == 5


def test_a_batch_system_that_is_down_fails_with_its_own_sentence(laboratory: MakeLaboratory) -> None:
    lab = laboratory(caf=FakeCaf(payload_names(), unreachable=["caf_cdc"]))
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    (sentence,) = outcome.failed.values()
    assert sentence == (
        "CDC Tracking, bucket e0012r00001-e0012r00004: the batch system does not answer; ask its administrator"
    )


def test_a_failed_verdict_stops_what_depends_on_it_in_words_and_without_a_failure(laboratory: MakeLaboratory) -> None:
    lab = laboratory(validation=FakeValidation({"val_beam": 9.0}))
    lab.book(BUCKET_1)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert outcome.failed == {}
    assert "caf_ecms" not in lab.caf.scripts
    assert any("the validation of BeamSpot failed" in reason for reason in outcome.blocked["prompt/ecms/payloads"])
    assert lab.target_content() == []
    key = calibration_key("prompt", "eCMS", Part.payloads)
    observation = lab.instance.fetch_observations(key, limit=1).records[0].asset_observation
    assert observation is not None
    assert "the validation of BeamSpot failed" in str(observation.metadata["waits for"].value)


def test_a_warning_waits_for_a_person_whose_decision_opens_the_gate(laboratory: MakeLaboratory) -> None:
    lab = laboratory(validation=FakeValidation({"val_svd": 3.0}))
    lab.book(BUCKET_1)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert outcome.ok
    assert "has the verdict warn and waits for its expert" in outcome.blocked["prompt/svd_time/sign_off"][0]
    assert list(outcome.blocked) == ["prompt/svd_time/sign_off"]
    assert "prompt/cdst" in outcome.later
    decide(lab, "SVD time", Decision.accepted)
    after = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert after.blocked == {}
    assert len(lab.target_content()) == 5
    assert materialization(lab, calibration_key("prompt", "SVD time", Part.sign_off)).metadata["by"].value == "ada"


@pytest.mark.parametrize(("figure", "verdict"), [("pul", "warn"), ("pull", "pass"), ("drift", "pass")])
def test_thresholds_of_figures_that_the_validation_does_not_give_wait_for_a_person(
    laboratory: MakeLaboratory, figure: str, verdict: str
) -> None:
    lab = laboratory(runs=4, campaign={"thresholds": {"SVD time": {figure: {"high_fail": 50}}}})
    lab.book(BUCKET_1)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    told = materialization(lab, calibration_key("prompt", "SVD time", Part.validation)).metadata
    assert told["verdict"].value == verdict
    if verdict == "pass":
        assert not outcome.blocked
        assert "remark" not in told
    else:
        assert list(outcome.blocked) == ["prompt/svd_time/sign_off"]
        assert "thresholds for pul, which the validation does not give: it gives pull" in str(told["remark"].value)


def test_a_rejection_shuts_the_gate_and_a_changed_redo_asks_anew(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1, only=["caf_cdc", "SVD time"])
    report_sign_off(lab.instance, decide(lab, "SVD time", Decision.rejected))
    blocked = runner.work(BUCKET_1)
    assert any("SVD time was rejected by ada" in reason for reason in blocked.blocked["prompt/cdst"])
    lab.caf = FakeCaf(payload_names(), values={"SVDTimes": 2.0})
    directory = lab.home.request("prompt", BUCKET_1, calibration="SVD time")
    (directory / "caf_outputdb_results" / "caf_svd" / "database.txt").unlink()
    assert runner.work(BUCKET_1, only_missing=False, only=["svd_time"]).ok
    assert runner.work(BUCKET_1).blocked == {}
    assert len(lab.target_content()) == 5


def test_buckets_are_published_in_order(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    later = runner.work(BUCKET_2)
    assert list(later.blocked) == ["prompt/published"]
    (reason,) = later.blocked["prompt/published"]
    assert reason.startswith(f"bucket {BUCKET_1.key} is earlier and not published yet; publish it first: b2cal bucket")
    assert runner.work(BUCKET_1).blocked == {}
    assert runner.work(BUCKET_2).done == ("prompt/published",)
    assert len(lab.target_content()) == 10


def test_redoing_a_bucket_behind_a_published_one_with_the_same_result_is_harmless(laboratory: MakeLaboratory) -> None:
    lab = laboratory(caf=FakeCaf(payload_names(), open_ended=True))
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1)
    lab.caf = FakeCaf(payload_names(), open_ended=True, values=dict.fromkeys(["CDCTimeZeros", "BeamSpot"], 2.0))
    runner.work(BUCKET_2)
    content = lab.conditions.fingerprint(TARGET)
    assert runner.work(BUCKET_1, only_missing=False).ok
    assert lab.conditions.fingerprint(TARGET) == content


def test_other_constants_for_published_runs_are_refused_with_the_way_out(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1)
    content = lab.conditions.fingerprint(TARGET)
    lab.caf = FakeCaf(payload_names(), values={"BeamSpot": 7.0})
    directory = lab.home.request("prompt", BUCKET_1, calibration="BeamSpot")
    (directory / "caf_outputdb_results" / "caf_beam" / "database.txt").unlink()
    outcome = runner.work(BUCKET_1, only_missing=False)
    assert "a running tag is never changed backwards" in outcome.failed["prompt__published"]
    assert lab.conditions.fingerprint(TARGET) == content


def test_a_publication_whose_record_was_lost_is_recognised(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    content = lab.conditions.fingerprint(TARGET)
    lab.instance.wipe_assets([published_key("prompt")])
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert outcome.done == ("prompt/published",)
    assert lab.conditions.fingerprint(TARGET) == content


def test_a_staging_tag_changed_by_hand_is_not_published(laboratory: MakeLaboratory) -> None:
    lab = laboratory(campaign={"gates": {"publish": "sign_off", "auto_sign_off": "all_pass"}})
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    everything_else = [*lab.plan.calibrations, "cdst"]
    runner.work(BUCKET_1, only=everything_else)
    lab.conditions.replace_iovs(lab.plan.staging_tag(BUCKET_1), ["BeamSpot"], [])
    outcome = runner.work(BUCKET_1)
    assert "does not hold what BeamSpot made" in outcome.failed["prompt__published"]
    assert lab.target_content() == []


def test_an_unknown_calibration_is_named(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    with pytest.raises(ConfigurationError, match="no calibration is called 'nonsense'"):
        BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, only=["nonsense"])


def test_no_file_that_passes_the_filters_is_said_with_the_filters(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=0)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    assert "passes its filters {'hadron_calib': ['hadron_calib', 'physics', 'Good']}" in str(outcome.failed)


@dg.job
def some_job() -> None:
    """Stands for any job."""


def test_a_run_whose_process_is_gone_is_marked_as_failed(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = os.uname().nodename
    dead = lab.instance.create_run_for_job(
        some_job, status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: f"{host}:{gone.pid}:17"}
    )
    elsewhere = lab.instance.create_run_for_job(
        some_job, status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: "other-machine:1:17"}
    )
    assert cancel_dead_runs(lab.instance) == (dead.run_id,)
    run = lab.instance.get_run_by_id(dead.run_id)
    other = lab.instance.get_run_by_id(elsewhere.run_id)
    assert run is not None
    assert other is not None
    assert (run.status, other.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED)
