"""A rejection says what to do otherwise, and what was made from other payloads than there are is stale."""

import shutil
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from asset_fakes import BUCKET_1, BUCKET_2, TARGET, FakeCaf, Laboratory, payload_names
from test_bucket_cells import cells, work
from test_sensors import accept, start, tick

from b2cal_assets.asset_keys import Part, calibration_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketOutcome, BucketRunner
from b2cal_core.payloads import LocalPayload, Release
from b2cal_core.ports import CafObserver, CafRequest, CafResult
from b2cal_core.ranges import ExpRun
from b2cal_core.redo import Redo
from b2cal_core.verdicts import Decision, SignOff
from resources.conditions.publisher import Publisher
from sensors.gates import gates_sensor

MakeLaboratory = Callable[..., Laboratory]
OTHERWISE = Redo(expert_config={"minimum": 7}, excluded_runs=((12, 2),))
ALWAYS = {"redo": "always", "redo_downstream": "always"}


class HonestCaf(FakeCaf):
    """Constants follow from configuration, runs and constants read, so that a redo gives others."""

    def __init__(self) -> None:
        super().__init__(payload_names())

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        shutil.rmtree(request.directory / "caf_outputdb_results", ignore_errors=True)
        return super().run(request, observer)

    def _payload(self, request: CafRequest, name: str) -> LocalPayload:
        runs = sorted({run for _, run in request.input_data["hadron_calib"]})
        seen = repr((request.expert_config, runs, request.database_chain))
        self._values[name] = zlib.crc32(seen.encode()) / 1000
        return super()._payload(request, name)


def begun(laboratory: MakeLaboratory, **gates: Any) -> Laboratory:
    """A bucket of which everything but the publishing is made."""
    lab = laboratory(runs=4, caf=HonestCaf(), campaign={"gates": {"redo_downstream": "ask"} | gates})
    lab.book(BUCKET_1)
    work(lab, only=[*lab.plan.calibrations, "cdst"])
    return lab


def ledger(lab: Laboratory) -> BucketLedger:
    return BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)


def reject(lab: Laboratory, calibration: str, redo: Redo | None = OTHERWISE) -> None:
    made = ledger(lab).payloads(calibration)
    assert made is not None
    subject = ("prompt", BUCKET_1.key, calibration)
    lab.sign_offs.record(
        SignOff(*subject, Decision.rejected, "ada", "hot wires", made.content, datetime.now(UTC), redo=redo)
    )


def go_on(lab: Laboratory) -> BucketOutcome:
    return BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1)


def test_a_redo_is_applied_by_hand_kept_with_the_payloads_and_not_repeated(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    reject(lab, "SVD time")
    stale = cells(lab)["prompt/svd_time/payloads"]
    assert stale.reasons == ("SVD time was rejected by ada (hot wires), to be redone: minimum=7; without exp 12 run 2",)
    lab.caf.requests.clear()
    outcome = go_on(lab)
    assert "prompt/svd_time/sign_off" in outcome.done
    (request,) = lab.caf.requests
    assert request.expert_config == {"minimum": 7}
    assert [run for _, run in request.input_data["hadron_calib"]] == [ExpRun(12, n) for n in (1, 3, 4)]
    assert lab.validation.requests[-1].expert_config == {"minimum": 7}
    records = lab.conditions.provenance(lab.conditions.find_payloads(_staged(lab, "SVDTimes")))
    (made,) = records.values()
    assert made.config == {"minimum": 7}
    assert made.runs == ((12, 1), (12, 3), (12, 4))
    assert not [key for key in go_on(lab).done if "svd" in key]


def _staged(lab: Laboratory, name: str) -> list[tuple[str, str]]:
    links = [link for link in lab.conditions.list_iovs(lab.plan.staging_tag(BUCKET_1)) if link.name == name]
    payloads = lab.conditions.payloads_of((link.name, link.revision) for link in links)
    return [(payload.name, payload.md5) for payload in payloads.values()]


def test_what_a_rejection_asked_for_stays_in_force_when_the_bucket_is_made_again(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    reject(lab, "SVD time")
    go_on(lab)
    lab.caf.requests.clear()
    work(lab, only=["svd_time"], only_missing=False)
    assert lab.caf.requests[0].expert_config == {"minimum": 7}


def test_a_rejection_that_asks_for_nothing_is_not_made_again_before_a_person_wants_it(
    laboratory: MakeLaboratory,
) -> None:
    lab = begun(laboratory, **ALWAYS)
    reject(lab, "SVD time", None)
    lab.caf.requests.clear()
    assert go_on(lab).done == ()
    assert tick(lab, gates_sensor).run_requests == []
    assert lab.caf.requests == []


def test_a_redo_that_gave_the_same_is_said_and_not_asked_for_twice(laboratory: MakeLaboratory) -> None:
    lab = laboratory(runs=4, campaign={"gates": ALWAYS})  # whose CAF gives the same whatever it is told
    lab.book(BUCKET_1)
    work(lab, only=["caf_cdc", "caf_svd"])
    reject(lab, "SVD time")
    assert "prompt/svd_time/payloads" in go_on(lab).done
    told = cells(lab)["prompt/svd_time/payloads"]
    assert told.reasons == ("SVD time was rejected by ada (hot wires), and the redo gave the same",)
    assert told.command.startswith("b2cal signoff accept|reject")
    assert go_on(lab).done == ()
    assert tick(lab, gates_sensor).run_requests == []


def test_what_was_made_from_other_payloads_is_stale_and_not_published_until_accepted(
    laboratory: MakeLaboratory,
) -> None:
    lab = begun(laboratory)
    reject(lab, "BeamSpot")
    outcome = go_on(lab)
    why = "eCMS was made from payloads of BeamSpot that were made anew since"
    assert cells(lab)["prompt/ecms/payloads"].reasons == (why,)
    assert cells(lab)["prompt/top_t0/payloads"].state == "made"
    (reason,) = outcome.blocked["prompt/published"]
    assert reason.startswith(f"{why}; redo it, or accept it as it is: b2cal bucket run prompt {BUCKET_1.key} --only")
    assert lab.target_content() == []
    accept(lab, "eCMS")
    assert go_on(lab).blocked == {}
    assert len(lab.target_content()) == 5


def test_new_raw_constants_make_the_cdst_files_stale(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    reject(lab, "CDC Tracking")
    go_on(lab)
    found = cells(lab)
    stale = {name for name, cell in found.items() if cell.state == "stale" and name.endswith(("payloads", "cdst"))}
    assert stale == {f"prompt/{name}/payloads" for name in ("svd_time", "top_t0", "beamspot", "ecms")} | {"prompt/cdst"}
    assert found["prompt/cdst"].command == f"b2cal bucket run prompt {BUCKET_1.key} --only cdst"


def test_where_the_campaign_wants_it_all_that_comes_after_is_redone_in_one_go(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory, **ALWAYS)
    reject(lab, "CDC Tracking")
    lab.caf.requests.clear()
    lab.cdst.requests.clear()
    outcome = go_on(lab)
    assert lab.caf.scripts[:2] == ["caf_cdc", "caf_svd"]
    assert sorted(lab.caf.scripts[2:]) == ["caf_beam", "caf_ecms", "caf_top"]
    assert len(lab.cdst.requests) == 1
    assert "prompt/published" in outcome.done
    assert {cell.state for cell in cells(lab).values()} == {"made"}
    assert go_on(lab).done == ()


def test_a_published_bucket_shows_that_its_constants_are_not_those_there_are(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory, **ALWAYS)
    go_on(lab)
    reject(lab, "BeamSpot")
    go_on(lab)
    (reason, *_) = cells(lab)["prompt/published"].reasons
    assert reason == "published was made from payloads of BeamSpot that were made anew since"


def test_the_service_redoes_only_what_the_campaign_lets_it(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory)
    reject(lab, "SVD time")
    assert tick(lab, gates_sensor).run_requests == []


def test_the_service_redoes_a_rejected_calibration_once(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory, **ALWAYS)
    reject(lab, "SVD time")
    (request,) = tick(lab, gates_sensor).run_requests
    assert {calibration_key("prompt", "SVD time", part) for part in Part} <= set(request.asset_selection)
    assert dg.AssetKey(["prompt", "cdst"]) in request.asset_selection
    assert not [key for key in request.asset_selection if "cdc" in key.path[1]]
    start(lab, request, dg.DagsterRunStatus.SUCCESS)
    go_on(lab)
    assert tick(lab, gates_sensor).run_requests == []


def test_a_redo_that_failed_is_left_to_people_until_they_say_something_else(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory, **ALWAYS)
    reject(lab, "SVD time")
    whole, lab.caf = lab.caf, FakeCaf(payload_names(), broken={"caf_svd": "SVD time: too few hits"})
    go_on(lab)
    assert cells(lab)["prompt/svd_time/payloads"].state == "failed"
    assert tick(lab, gates_sensor).run_requests == []
    lab.caf = whole
    reject(lab, "SVD time", Redo(expert_config={"minimum": 3}, anew=True))
    assert len(tick(lab, gates_sensor).run_requests) == 1
    assert go_on(lab).failed == {}
    assert {cell.state for cell in cells(lab).values()} == {"made"}


def test_the_service_does_not_redo_for_ever(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory, **ALWAYS, redo_limit=2)
    numbers = []
    for minimum in range(4):
        reject(lab, "SVD time", Redo(expert_config={"minimum": minimum}))
        requests = tick(lab, gates_sensor).run_requests
        numbers.append(len(requests))
        if requests:
            work(lab, only=["svd_time"], only_missing=False)
    assert numbers == [1, 1, 0, 0]
    told = cells(lab)["prompt/svd_time/payloads"]
    assert told.state == "stale"
    assert "made 3 times or more, so that only a person makes it again" in told.reasons[1]


def test_the_service_redoes_what_comes_after_a_redo_by_hand(laboratory: MakeLaboratory) -> None:
    lab = begun(laboratory, redo_downstream="always")
    reject(lab, "BeamSpot")
    assert tick(lab, gates_sensor).run_requests == []
    work(lab, only=["beamspot"], only_missing=False)
    (request,) = tick(lab, gates_sensor).run_requests
    redone = {key.path[1] for key in request.asset_selection}
    assert redone == {"ecms", "published"}


def test_what_was_published_and_rejected_since_says_how_readers_get_something_else(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(caf=HonestCaf())
    lab.book(BUCKET_1, BUCKET_2)
    work(lab)
    before = lab.target_content()
    reject(lab, "SVD time")
    assert tick(lab, gates_sensor).run_requests == []
    found = cells(lab)
    place = f"prompt {BUCKET_1.key}"
    kept = f"the bucket is published, and {TARGET} keeps what it has: b2cal bucket why {place} published"
    assert found["prompt/svd_time/payloads"].reasons[-1] == kept
    published = found["prompt/published"]
    assert (published.state, published.command) == ("stale", f"b2cal bucket run {place} --only svd_time")
    assert published.reasons[0].startswith("SVD time was rejected by ada (hot wires), to be redone: minimum=7")
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1, only=["svd_time"], only_missing=False)
    runner.work(BUCKET_1, only=["cdst", "top_t0", "beamspot", "ecms"], only_missing=False)
    publisher = Publisher(lab.conditions)
    (plan,) = publisher.history(TARGET)
    again = f"b2cal bucket run {place} --only published"
    back = f'b2cal cdb rollback {plan.plan_hash[:12]} --reason "…" --approver NAME && {again}'
    assert cells(lab)["prompt/published"].command == back
    publisher.rollback(plan.plan_hash[:12], Release("ada", "bob", "hot wires"))
    assert runner.work(BUCKET_1, only=["published"], only_missing=False).ok
    assert {cell.state for cell in cells(lab).values()} == {"made"}
    assert [name for name, _ in lab.target_content()] == [name for name, _ in before]


def test_what_was_published_before_later_buckets_is_replaced_by_a_campaign_only(laboratory: MakeLaboratory) -> None:
    lab = laboratory(caf=HonestCaf())
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    assert all(runner.work(bucket).ok for bucket in (BUCKET_1, BUCKET_2))
    assert cells(lab)["prompt/published"].state == "made"
    reject(lab, "SVD time")
    published = cells(lab)["prompt/published"]
    assert (published.state, published.command) == ("stale", "b2cal campaign create FILE")
    assert published.reasons[-1].startswith(f"later buckets are published in {TARGET}, which is never changed backward")
