"""Why each asset of a bucket is not made: asked by the command, and shown on the page without running anything."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from asset_fakes import BUCKET_1, FakeCaf, FakeValidation, Laboratory, payload_names
from test_sensors import accept, add_run, start, tick, turn

from b2cal_assets.asset_keys import Part, calibration_key, published_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.closed_gates import CELLS, COMMAND, WAITING
from b2cal_core.campaign_states import CampaignState
from b2cal_core.cells import Cell
from b2cal_core.verdicts import Decision
from sensors.dagster_runs import runs_of_bucket
from sensors.gates import ATTEMPTS, OpenBucket, cells_with_rest, gates_sensor
from sensors.resting import rest_of

MakeLaboratory = Callable[..., Laboratory]
PLACE = f"prompt {BUCKET_1.key}"
SECOND = calibration_key("prompt", "SVD time", Part.payloads)


def cells(lab: Laboratory) -> dict[str, Cell]:
    ledger = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)
    runs = runs_of_bucket(lab.instance, lab.plan, BUCKET_1.key)
    seen = OpenBucket(ledger, lab.store.buckets("prompt"), runs, lab.instance)
    return {cell.name: cell for cell in cells_with_rest(seen, rest_of(lab.store, "prompt"))}


def observations(lab: Laboratory, key: dg.AssetKey) -> list[Any]:
    """The metadata of what was observed, oldest first."""
    records = lab.instance.fetch_observations(key, limit=100, ascending=True).records
    return [record.asset_observation.metadata for record in records if record.asset_observation is not None]


def work(lab: Laboratory, **choices: Any) -> None:
    BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, **choices)


def test_of_an_untouched_bucket_the_first_can_start_and_the_rest_waits_for_it(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    found = cells(lab)
    assert len(found) == 5 * 4 + 2
    first = found["prompt/cdc_tracking/payloads"]
    assert (first.state, first.command) == ("can start", f"b2cal bucket run {PLACE}")
    assert found["prompt/published"].state == "waits"
    assert "waits for prompt/cdc_tracking/payloads, which can start" in found["prompt/published"].reasons


def begun(laboratory: MakeLaboratory) -> Laboratory:
    """A bucket of which the first calibration is made, so that the second can start."""
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    work(lab, only=["caf_cdc"])
    assert cells(lab)[SECOND.to_user_string()].state == "can start"
    return lab


def test_what_could_start_in_a_paused_campaign_is_blocked_by_who_paused_it(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    turn(lab, CampaignState.paused)
    found = cells(lab)[SECOND.to_user_string()]
    resume = 'b2cal campaign resume prompt --reason "…"'
    assert (found.state, found.command) == ("blocked", resume)
    assert found.reasons == (f"campaign prompt is paused by ada (shutdown): {resume}",)
    tick(lab, gates_sensor)
    assert found.reasons[0] in str(observations(lab, SECOND)[-1][WAITING].value)
    turn(lab, CampaignState.active)
    assert cells(lab)[SECOND.to_user_string()].state == "can start"
    tick(lab, gates_sensor)
    assert observations(lab, SECOND)[-1][WAITING].value == "nothing"


def test_a_bucket_whose_last_dagster_run_a_person_ended_is_told_to_be_left_alone(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.CANCELED, {})
    found = cells(lab)[SECOND.to_user_string()]
    assert (found.state, found.command) == ("blocked", f"b2cal bucket run {PLACE}")
    assert found.reasons[0].startswith("a person ended the bucket's last Dagster run")


def test_what_the_service_has_given_up_is_told_until_something_else_may_be_made(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    for _ in range(ATTEMPTS):
        assert cells(lab)[SECOND.to_user_string()].state == "can start"
        (request,) = tick(lab, gates_sensor).run_requests
        start(lab, request, dg.DagsterRunStatus.FAILURE)
    found = cells(lab)[SECOND.to_user_string()]
    assert (found.state, found.command) == ("blocked", f"b2cal bucket run {PLACE}")
    assert found.reasons[0].startswith(f"the service has given up after {ATTEMPTS} attempts")
    work(lab, only=["caf_svd"])
    assert cells(lab)["prompt/cdst"].state == "can start"


def test_everything_made_has_nothing_to_say(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    work(lab)
    assert {(cell.state, cell.reasons, cell.command) for cell in cells(lab).values()} == {("made", (), "")}


def test_a_failure_is_told_in_its_own_words_until_it_is_mended(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, caf=FakeCaf(payload_names(), broken={"caf_beam": "BeamSpot: not enough data"}))
    lab.book(BUCKET_1)
    work(lab)
    found = cells(lab)
    failed = found["prompt/beamspot/payloads"]
    assert (failed.state, failed.command) == ("failed", f"b2cal bucket run {PLACE}")
    assert failed.reasons[0].endswith("BeamSpot: not enough data")
    assert found["prompt/ecms/payloads"].reasons == ("waits for prompt/beamspot/payloads, which failed",)
    lab.caf = FakeCaf(payload_names())
    work(lab, only=["caf_beam"])
    assert cells(lab)["prompt/beamspot/payloads"].state == "made"


def test_a_failure_is_not_told_any_more_when_the_step_was_tried_again_and_found_its_gate_shut(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=4, caf=FakeCaf(payload_names(), broken={"caf_svd": "the fit did not converge"}))
    lab.book(BUCKET_1)
    work(lab)
    accept(lab, "CDC Tracking", Decision.rejected)
    assert cells(lab)["prompt/svd_time/payloads"].state == "failed"
    lab.caf = FakeCaf(payload_names())
    work(lab)
    assert lab.caf.requests == []
    found = cells(lab)["prompt/svd_time/payloads"]
    assert (found.state, found.command) == ("blocked", f"b2cal bucket run {PLACE} --only cdc_tracking")
    assert found.reasons[0].startswith("CDC Tracking was rejected by ada (fine)")
    assert tick(lab, gates_sensor).run_requests == []
    accept(lab, "CDC Tracking")
    (request,) = tick(lab, gates_sensor).run_requests
    assert calibration_key("prompt", "SVD time", Part.payloads) in request.asset_selection


def test_who_waits_for_a_person_is_blocked_and_says_by_which_command(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    lab.book(BUCKET_1)
    work(lab)
    found = cells(lab)
    blocked = found["prompt/svd_time/sign_off"]
    assert blocked.state == "blocked"
    assert blocked.command == f'b2cal signoff accept|reject {PLACE} svd_time --reason "…"'
    assert found["prompt/cdst"].reasons == ("waits for prompt/svd_time/sign_off, which is blocked",)
    assert found["prompt/cdst"].command == blocked.command


def test_rejected_payloads_are_stale_and_shut_the_gate(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    work(lab, only=["caf_cdc", "caf_svd"])
    accept(lab, "SVD time", Decision.rejected)
    found = cells(lab)
    stale = found["prompt/svd_time/payloads"]
    assert (stale.state, stale.reasons) == ("stale", ("SVD time was rejected by ada (fine)",))
    assert stale.command == f"b2cal bucket run {PLACE} --only svd_time"
    assert (found["prompt/cdst"].state, found["prompt/cdst"].command) == ("blocked", stale.command)
    assert found["prompt/svd_time/validation"].state == "made"
    signed = found["prompt/svd_time/sign_off"]
    assert (signed.state, signed.command) == ("blocked", stale.command)
    assert signed.reasons == (f"SVD time was rejected by ada (fine); redo it: {stale.command}",)


def test_what_was_redone_in_vain_asks_for_another_decision_and_not_for_one_more_redo(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=4)  # whose CAF gives the same each time
    lab.book(BUCKET_1)
    work(lab, only=["caf_cdc", "caf_svd"])
    accept(lab, "SVD time", Decision.rejected)
    work(lab, only=["caf_svd"], only_missing=False)
    found = cells(lab)
    told = found["prompt/svd_time/payloads"]
    assert told.reasons == ("SVD time was rejected by ada (fine), and the redo gave the same",)
    assert told.command == f'b2cal signoff accept|reject {PLACE} svd_time --reason "…"'
    assert found["prompt/cdst"].command == found["prompt/svd_time/sign_off"].command == told.command
    accept(lab, "SVD time")
    assert cells(lab)["prompt/svd_time/payloads"].state == "made"


def test_a_shut_gate_is_shown_on_the_page_once_and_again_when_it_changed(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    work(lab, only=["caf_cdc", "caf_svd"])
    accept(lab, "SVD time", Decision.rejected)
    key = dg.AssetKey(["prompt", "cdst"])
    first = tick(lab, gates_sensor)
    assert first.run_requests == []
    (seen,) = observations(lab, key)
    assert "SVD time was rejected by ada (fine)" in str(seen[WAITING].value)
    assert seen[COMMAND].value == f"b2cal bucket run {PLACE} --only svd_time"
    tick(lab, gates_sensor)
    assert len(observations(lab, key)) == 1
    accept(lab, "SVD time")
    third = tick(lab, gates_sensor)
    assert len(third.run_requests) == 1
    assert observations(lab, key)[-1][WAITING].value == "nothing"
    assert len(observations(lab, key)) == 2
    tick(lab, gates_sensor)
    assert len(observations(lab, key)) == 2


def test_the_page_of_what_is_to_be_published_has_the_whole_picture(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    lab.book(BUCKET_1)
    work(lab)
    tick(lab, gates_sensor)
    (seen,) = observations(lab, published_key("prompt"))
    rows = {row.data["asset"]: row.data for row in seen[CELLS].records}
    assert rows["prompt/svd_time/sign_off"]["state"] == "blocked"
    assert rows["prompt/published"]["why"] == "waits for prompt/svd_time/sign_off, which is blocked"
    assert "prompt/cdc_tracking/payloads" not in rows


def test_what_is_shown_outlives_a_dagster_run_at_work(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, validation=FakeValidation({"val_svd": 3.0}))
    lab.book(BUCKET_1)
    work(lab)
    tick(lab, gates_sensor)
    run = add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.STARTED, {})
    tick(lab, gates_sensor)
    lab.instance.report_run_failed(run)
    tick(lab, gates_sensor)
    key = calibration_key("prompt", "SVD time", Part.sign_off)
    assert len(observations(lab, key)) == 2  # by the step that found its gate shut, and by the sensor
