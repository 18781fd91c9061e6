"""Local calibrations: imported from subsystems' tags, clipped, checked, seen by calibrations, and published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, CATALOGUE, EXP, TARGET, FakeCaf, Laboratory, payload_names, run_record
from lab_commands import CommandLine
from servers.rest_world import new_world
from test_bucket_cells import cells, work
from test_late_runs import stale
from test_redos import HonestCaf
from test_sensors import add_run, tick

from b2cal_assets.asset_keys import (
    Part,
    calibration_key,
    cdst_key,
    import_key,
    offer_key,
    published_key,
    source_tag_key,
)
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketOutcome, BucketRunner, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_job
from b2cal_assets.definitions import build_definitions
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_assets.latencies import CampaignLatencies
from b2cal_caf.payload_files import read_payload, write_payload
from b2cal_cli.what_if_branching import make_branch
from b2cal_core.buckets import Bucket
from b2cal_core.cells import CellState
from b2cal_core.errors import ConfigurationError
from b2cal_core.latency import WaitsFor
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.ports import CafObserver, CafRequest, CollectedSummary
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from b2cal_core.settings import Catalogue
from b2cal_core.what_if import WhatIf
from resources.home import Home
from resources.impact.opened import open_search
from sensors.gates import gates_sensor

MakeLaboratory = Callable[..., Laboratory]
SVD, TOP = "local_staging_svd", "local_staging_top"
LOCAL = {
    "svd": {"tag": SVD, "payloads": ["SVDNoise", "SVDMask"], "responsible": "sara@example.org"},
    "top": {"tag": TOP, "payloads": ["TOPTimeBase"]},
}
FOR_EVER = IoV(EXP, 0, -1, -1)
CAMPAIGN = {"local_calibrations": LOCAL}
LACKS_MASK = (
    f"source tag {SVD} has no SVDMask in 12,3,12,4 of bucket {BUCKET_1.key}; sara@example.org (svd) mends that, and the"
    f" import starts by itself; what it has: b2cal cdb iovs {SVD}"
)


def fill(lab: Laboratory, tag: str, name: str, *parts: tuple[float, IoV]) -> None:
    """What the subsystem does: its tag has these values for these runs, in place of what it had of the name."""
    if lab.conditions.get_tag(tag) is None:
        lab.conditions.create_tag(tag)
    payloads = []
    for value, iov in parts:
        file = lab.home.path / f"{name}_{value}.root"
        write_payload(file, name, {"value": np.array([value]), "value_err": np.array([0.1])})
        payloads.append(LocalPayload(name, file, iov))
    lab.conditions.replace_iovs(tag, [name], payloads)


def fill_all(lab: Laboratory) -> Laboratory:
    fill(lab, SVD, "SVDNoise", (1.0, IoV(EXP, 0, EXP, 2)), (2.0, IoV(EXP, 3, -1, -1)))
    fill(lab, SVD, "SVDMask", (5.0, FOR_EVER))
    fill(lab, SVD, "SVDUnused", (5.0, FOR_EVER))
    fill(lab, TOP, "TOPTimeBase", (7.0, FOR_EVER))
    return lab


class AwaitingCaf(FakeCaf):
    """Remembers which payloads it was told to wait for."""

    awaited: frozenset[str] = frozenset()

    def collect_ahead(self, request: CafRequest, observer: CafObserver, awaited: frozenset[str]) -> CollectedSummary:
        self.awaited = awaited
        return super().collect_ahead(request, observer, awaited)


@pytest.fixture
def begun(laboratory: MakeLaboratory) -> Callable[..., Laboratory]:
    """Makes the laboratory of a campaign that imports, its first bucket booked; the source tags are filled."""

    def make(**choices: Any) -> Laboratory:
        lab = fill_all(laboratory(**{"campaign": CAMPAIGN, "runs": 4} | choices))
        lab.book(BUCKET_1)
        return lab

    return make


def run(lab: Laboratory, bucket: Bucket = BUCKET_1, *only: str, again: bool = False) -> BucketOutcome:
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    return runner.work(bucket, only=only, only_missing=not again)


def ledger(lab: Laboratory, bucket: Bucket = BUCKET_1) -> BucketLedger:
    return BucketLedger(lab.plan, bucket, instance=lab.instance, sign_offs=lab.sign_offs)


def staged(lab: Laboratory, name: str, bucket: Bucket = BUCKET_1) -> list[tuple[float, IoV]]:
    return [(value(lab, link), link.iov) for link in content(lab, lab.plan.staging_tag(bucket), name)]


def content(lab: Laboratory, tag: str, name: str) -> list[TagIov]:
    return [link for link in lab.conditions.list_iovs(tag) if link.name == name]


def value(lab: Laboratory, link: TagIov) -> float:
    payload = lab.conditions.payload(link.name, link.revision)
    assert payload is not None
    return float(read_payload(lab.conditions.payload_file(payload), link.name)["value"][0])


def check(lab: Laboratory, name: str, check_name: str) -> Any:
    """The result of a check on an import in the first bucket."""
    key = dg.AssetCheckKey(import_key("prompt", name), check_name)
    (record,) = lab.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return record.event.dagster_event.asset_check_evaluation_data


def test_a_bucket_takes_what_source_tags_have_for_its_runs_and_publishes_it(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    outcome = run(lab)
    assert outcome.failed == {}
    assert outcome.blocked == {}
    assert outcome.done[:2] == ("prompt/local_svd", "prompt/local_top")
    assert "prompt/published" in outcome.done
    assert staged(lab, "SVDNoise") == [(1.0, IoV(12, 1, 12, 2)), (2.0, IoV(12, 3, 12, 4))]
    assert staged(lab, "SVDMask") == [(5.0, BUCKET_1.iov)]
    assert staged(lab, "SVDUnused") == []
    published = [(value(lab, link), link.iov) for link in content(lab, TARGET, "SVDNoise")]
    assert published == [(1.0, IoV(12, 1, 12, 2)), (2.0, IoV(12, 3, 12, 4))]
    assert run(lab).dagster_run is None


def test_every_calibration_and_the_cdst_production_see_what_was_imported(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    run(lab)
    for request in (*lab.caf.requests, *lab.cdst.requests):
        given = {link.name for link in lab.conditions.list_iovs(request.database_chain[-1])}
        assert {"SVDNoise", "SVDMask", "TOPTimeBase"} <= given
    first = lab.caf.requests[0]
    assert {link.name for link in lab.conditions.list_iovs(first.database_chain[-1])} == {
        "SVDNoise",
        "SVDMask",
        "TOPTimeBase",
    }


def test_what_is_imported_is_told_with_its_source_and_every_check_has_its_say(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    run(lab)
    made = ledger(lab).metadata(import_key("prompt", "local_svd"))
    assert made is not None
    assert made["payload names"].value == ["SVDMask", "SVDNoise"]
    assert made["number of IoVs"].value == 3
    assert made["taken from"].records[0].data == {"tag": SVD, "payloads": "SVDNoise, SVDMask"}
    for name in ("declared_payloads", "bucket_covered", "no_overlap", "drift"):
        assert check(lab, "local_svd", name).passed, name
    reported = lab.instance.get_latest_materialization_event(source_tag_key(SVD))
    assert reported is not None
    assert reported.asset_materialization is not None
    assert reported.asset_materialization.metadata["state"].value == "OPEN"


def test_payloads_made_outside_are_published_with_a_record_that_says_so(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    own = Provenance(code="svd repository 1a2b", config={"threshold": 5})
    lab.conditions.record_provenance({_key(lab, SVD, "SVDMask"): own}, author="sara")
    whole = own.model_copy(
        update={"inputs": ("x",), "runs": ((12, 1),), "tags": (), "upstream": (), "validation": {"verdict": "pass"}}
    )
    lab.conditions.record_provenance({_key(lab, TOP, "TOPTimeBase"): whole}, author="tom")
    run(lab)
    noise = lab.conditions.provenance([_key(lab, TARGET, "SVDNoise")]).popitem()[1]
    assert noise.outside == "made outside by svd, sara@example.org"
    assert noise.inputs is not None
    assert noise.inputs[0].startswith(f"global tag {SVD}, content ")
    assert (noise.runs, noise.code, noise.missing) == (None, None, ())
    assert noise.validation is not None
    assert noise.validation["verdict"] == "made outside, not validated here"
    mask = lab.conditions.provenance([_key(lab, TARGET, "SVDMask")]).popitem()[1]
    assert (mask.code, mask.config, mask.missing) == ("svd repository 1a2b", {"threshold": 5}, ())
    assert mask.outside is not None
    assert lab.conditions.provenance([_key(lab, TARGET, "TOPTimeBase")]).popitem()[1] == whole
    times = lab.conditions.provenance([_key(lab, TARGET, "CDCTimeZeros")]).popitem()[1]
    assert {name for name, _ in times.upstream or ()} == {"SVDNoise", "SVDMask", "TOPTimeBase"}


def _key(lab: Laboratory, tag: str, name: str) -> tuple[str, str]:
    link = content(lab, tag, name)[0]
    payload = lab.conditions.payload(link.name, link.revision)
    assert payload is not None
    return payload.name, payload.md5


def test_a_source_tag_that_lacks_runs_of_the_bucket_blocks_the_import_and_what_waits_for_it(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun()
    fill(lab, SVD, "SVDMask", (5.0, IoV(EXP, 0, EXP, 2)))
    outcome = run(lab)
    assert outcome.failed == {}
    assert outcome.done == ("prompt/local_top",)
    assert outcome.blocked == {"prompt/local_svd": (LACKS_MASK,)}
    assert lab.caf.requests == []
    assert staged(lab, "SVDNoise") == []
    found = cells(lab)
    assert (found["prompt/local_svd"].state, found["prompt/local_svd"].reasons) == (CellState.blocked, (LACKS_MASK,))
    assert found["prompt/local_svd"].command == f"b2cal cdb iovs {SVD}"
    assert found["prompt/svd_time/payloads"].reasons == ("waits for prompt/local_svd, which is blocked",)
    covered = check(lab, "local_svd", "bucket_covered")
    assert not covered.passed
    (gap,) = covered.metadata["gaps"].records
    assert gap.data == {"payload": "SVDMask", "gap": "12,3,12,4", "registered runs in it": 2}
    assert ledger(lab).reasons_against_calibrating("CDC Tracking") == (LACKS_MASK,)


def test_a_source_tag_that_is_not_there_or_invalid_blocks_the_import_too(laboratory: MakeLaboratory) -> None:
    lab = laboratory(campaign=CAMPAIGN, runs=4)
    lab.book(BUCKET_1)
    fill(lab, TOP, "TOPTimeBase", (7.0, FOR_EVER))
    for before, after in (
        ("OPEN", "TESTING"),
        ("TESTING", "VALIDATED"),
        ("VALIDATED", "PUBLISHED"),
        ("PUBLISHED", "INVALID"),
    ):
        lab.conditions.set_state(TOP, expected=TagState(before), new=TagState(after))
    blocked = run(lab).blocked
    assert blocked["prompt/local_svd"][0].startswith(
        f"there is no source tag {SVD}, which should have SVDNoise, SVDMask"
    )
    (invalid,) = blocked["prompt/local_top"]
    assert invalid.startswith(f"source tag {TOP} is INVALID")
    assert "the person responsible for top mends that" in invalid


def test_once_the_source_tag_is_mended_the_service_imports_and_goes_on_by_itself(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun()
    fill(lab, SVD, "SVDMask", (5.0, IoV(EXP, 0, EXP, 2)))
    run(lab)
    add_run(lab, BUCKET_1.key, dg.DagsterRunStatus.SUCCESS, {})
    assert tick(lab, gates_sensor).run_requests == []
    fill(lab, SVD, "SVDMask", (5.0, FOR_EVER))
    (request,) = tick(lab, gates_sensor).run_requests
    selected = request.asset_selection
    assert selected[0] == import_key("prompt", "local_svd")
    assert import_key("prompt", "local_top") not in selected
    assert published_key("prompt") in selected
    assert "prompt/published" in run(lab).done


def test_an_import_that_failed_is_tried_again_when_its_source_tag_changes(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    link = content(lab, SVD, "SVDMask")[0]
    payload = lab.conditions.payload(link.name, link.revision)
    assert payload is not None
    damaged = lab.conditions.payload_file(payload)
    damaged.chmod(0o644)
    damaged.write_bytes(b"no longer what it was")
    outcome = run(lab)
    assert "SVDMask" in outcome.failed["prompt__local_svd"]
    assert tick(lab, gates_sensor).run_requests == []
    fill(lab, SVD, "SVDMask", (6.0, FOR_EVER))
    (request,) = tick(lab, gates_sensor).run_requests
    assert request.asset_selection[0] == import_key("prompt", "local_svd")


def unpublished(begun: Callable[..., Laboratory], **gates: str) -> Laboratory:
    """A bucket of which everything but the publishing is made, whose source tag changed since."""
    lab = begun(caf=HonestCaf(), campaign=CAMPAIGN | {"gates": gates})
    work(lab, only=[*lab.plan.imports, *lab.plan.calibrations, "cdst"])
    assert stale(lab, BUCKET_1) == set()
    fill(lab, SVD, "SVDMask", (9.0, FOR_EVER))
    return lab


def test_what_changed_in_a_source_tag_since_is_stale_and_not_published_before_a_person_acts(
    begun: Callable[..., Laboratory],
) -> None:
    lab = unpublished(begun, redo_downstream="ask")
    assert tick(lab, gates_sensor).run_requests == []
    assert stale(lab, BUCKET_1) == {import_key("prompt", "local_svd")}
    cell = cells(lab)["prompt/local_svd"]
    changed = f"what {SVD} has for the bucket changed since local_svd was made"
    assert (cell.state, cell.reasons) == (CellState.stale, (changed,))
    assert cell.command == f"b2cal bucket run prompt {BUCKET_1.key} --only local_svd"
    (against,) = ledger(lab).reasons_against_publishing([BUCKET_1])
    assert against == f"{changed}; import it: {cell.command}"
    assert ledger(lab).reasons_against_cdst() == (against,)
    assert ledger(lab).reasons_against_calibrating("CDC Tracking") == ()
    run(lab, BUCKET_1, "local_svd", again=True)
    assert staged(lab, "SVDMask") == [(9.0, BUCKET_1.iov)]
    assert calibration_key("prompt", "CDC Tracking", Part.collector_output) in stale(lab, BUCKET_1)
    remade = "CDC Tracking was made from payloads of local_svd that were made anew since"
    assert cells(lab)["prompt/cdc_tracking/payloads"].reasons == (remade,)
    assert tick(lab, gates_sensor).run_requests == []


def test_by_policy_an_import_and_all_that_saw_it_are_redone_when_the_source_tag_changes(
    begun: Callable[..., Laboratory],
) -> None:
    lab = unpublished(begun, redo_downstream="always")
    (request,) = tick(lab, gates_sensor).run_requests
    keys = set(request.asset_selection)
    assert {import_key("prompt", "local_svd"), cdst_key("prompt"), published_key("prompt")} <= keys
    assert import_key("prompt", "local_top") not in keys
    lab.caf.requests.clear()
    outcome = run(lab)
    assert outcome.failed == {}
    assert len(lab.caf.requests) == len(lab.plan.calibrations)
    assert "prompt/published" in outcome.done
    (mask,) = content(lab, TARGET, "SVDMask")
    assert value(lab, mask) == 9.0


def test_a_payload_that_a_source_tag_lost_since_is_told_where_it_is_stale(begun: Callable[..., Laboratory]) -> None:
    lab = unpublished(begun, redo_downstream="always")
    fill(lab, SVD, "SVDMask", (5.0, IoV(EXP, 0, EXP, 2)))
    assert tick(lab, gates_sensor).run_requests == []
    assert LACKS_MASK in cells(lab)["prompt/local_svd"].reasons
    assert run(lab).blocked == {"prompt/local_svd": (LACKS_MASK,)}
    assert staged(lab, "SVDMask") == [(5.0, BUCKET_1.iov)]


def test_changes_outside_the_bucket_or_of_other_payloads_make_nothing_stale(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    work(lab, only=[*lab.plan.imports, *lab.plan.calibrations, "cdst"])
    fill(lab, SVD, "SVDNoise", (1.0, IoV(EXP, 0, EXP, 2)), (2.0, IoV(EXP, 3, EXP, 4)), (3.0, IoV(EXP, 5, -1, -1)))
    fill(lab, SVD, "SVDUnused", (6.0, FOR_EVER))
    tick(lab, gates_sensor)
    assert stale(lab, BUCKET_1) == set()
    assert cells(lab)["prompt/local_svd"].state is CellState.made
    assert ledger(lab).reasons_against_publishing([BUCKET_1]) == ()


def test_a_published_bucket_stays_as_it_is_whatever_source_tags_have_later(begun: Callable[..., Laboratory]) -> None:
    lab = begun(campaign=CAMPAIGN | {"gates": {"redo_downstream": "always"}})
    run(lab)
    fill(lab, SVD, "SVDMask", (9.0, FOR_EVER))
    assert run(lab).dagster_run is None
    assert {cell.state for cell in cells(lab).values()} == {CellState.made}
    again = run(lab, again=True)  # as a backfill does
    assert (again.failed, again.blocked) == ({}, {})
    assert staged(lab, "SVDMask") == [(5.0, BUCKET_1.iov)]
    assert [value(lab, link) for link in content(lab, TARGET, "SVDMask")] == [5.0]


def test_a_bucket_that_was_published_before_its_campaign_imported_anything_stays_finished(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=4)
    lab.book(BUCKET_1)
    run(lab)
    lab.plan = CampaignPlan(
        lab.plan.campaign.from_mapping(lab.plan.campaign.model_dump(mode="json") | CAMPAIGN),
        lab.plan.catalogue,
        lab.plan.scripts,
    ).checked()
    assert run(lab).dagster_run is None
    assert tick(lab, gates_sensor).run_requests == []
    assert run(lab, BUCKET_1, "local_svd", again=True).done == ()
    assert staged(lab, "SVDMask") == []


def test_the_next_bucket_has_its_own_part_and_its_change_against_the_one_before_is_judged(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun(runs=8)
    lab.book(BUCKET_2)
    run(lab)
    fill(lab, SVD, "SVDMask", (5.0, BUCKET_1.iov), (50.0, BUCKET_2.iov))
    outcome = run(lab, BUCKET_2)
    assert "prompt/published" in outcome.done
    assert staged(lab, "SVDMask", BUCKET_2) == [(50.0, BUCKET_2.iov)]
    drift = check(lab, "local_svd", "drift")
    assert not drift.passed
    largest = {row.data["payload"]: row.data["median change / error"] for row in drift.metadata["drifts"].records}
    assert largest["SVDNoise"] == 0.0
    assert largest["SVDMask"] > 100
    masks = [(value(lab, link), link.iov) for link in content(lab, TARGET, "SVDMask")]
    assert masks == [(5.0, BUCKET_1.iov), (50.0, BUCKET_2.iov)]


def test_payloads_that_are_no_tables_of_numbers_are_imported_without_being_compared(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun(runs=8)
    strange = lab.home.path / "strange.root"
    strange.write_bytes(b"of another program")
    lab.conditions.replace_iovs(SVD, ["SVDMask"], [LocalPayload("SVDMask", strange, FOR_EVER)])
    lab.book(BUCKET_2)
    assert run(lab).failed == {}
    assert run(lab, BUCKET_2).failed == {}
    drift = check(lab, "local_svd", "drift")
    assert drift.passed
    assert drift.metadata["not tables of numbers"].value == "SVDMask"


def test_of_two_answers_for_a_run_the_higher_revision_is_imported_and_told(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    links = [TagIov("SVDMask", content(lab, SVD, "SVDMask")[0].revision, IoV(EXP, 0, EXP, 9))]
    fill(lab, SVD, "SVDMask", (8.0, IoV(EXP, 2, EXP, 3)))
    lab.conditions.add_iovs(SVD, links, allow_overlaps=True)
    fill(lab, TOP, "TOPTimeBase", (7.0, FOR_EVER))
    outcome = run(lab, BUCKET_1, "local_svd")
    assert outcome.done == ("prompt/local_svd",)
    assert [found for found, _ in staged(lab, "SVDMask")] == [5.0, 8.0, 5.0]
    assert not check(lab, "local_svd", "no_overlap").passed


def test_a_script_that_makes_what_is_imported_without_declaring_it_fails_with_what_to_do(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun(caf=FakeCaf(payload_names() | {"caf_cdc": ["CDCTimeZeros", "SVDMask"]}))
    outcome = run(lab)
    assert "CDC Tracking makes SVDMask, which is imported" in outcome.failed["prompt__cdc_tracking__calibrate"]
    assert staged(lab, "SVDMask") == [(5.0, BUCKET_1.iov)]


def test_a_subsystem_may_have_several_source_tags(laboratory: MakeLaboratory) -> None:
    sources = [{"tag": SVD, "payloads": ["SVDNoise", "SVDMask"]}, {"tag": TOP, "payloads": ["TOPTimeBase"]}]
    lab = fill_all(laboratory(campaign={"local_calibrations": {"all": sources}}, runs=4))
    lab.book(BUCKET_1)
    assert run(lab, BUCKET_1, "local_all").done == ("prompt/local_all",)
    made = ledger(lab).payloads("local_all")
    assert made is not None
    assert made.names == ("SVDMask", "SVDNoise", "TOPTimeBase")


def test_a_campaign_without_the_key_has_not_one_asset_more(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    assert lab.plan.imports == ()
    graph = build_definitions(lab.home, workshop=lab.workshop()).resolve_asset_graph()
    assert not [key for key in graph.get_all_asset_keys() if "local" in key.to_user_string()]


def test_lineage_shows_source_tags_what_they_have_and_what_was_imported_with_their_people(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun()
    graph = build_definitions(lab.home, workshop=lab.workshop()).resolve_asset_graph()
    source = graph.get(source_tag_key(SVD))
    assert (source.owners, source.group_name, source.is_materializable) == (["sara@example.org"], "local", False)
    assert "SVDNoise, SVDMask" in (source.description or "")
    assert graph.get(offer_key("prompt", "local_svd")).parent_keys == {source_tag_key(SVD)}
    brought = graph.get(import_key("prompt", "local_svd"))
    assert brought.parent_keys == {offer_key("prompt", "local_svd")}
    assert brought.group_name == "prompt_local_svd"
    assert graph.get(import_key("prompt", "local_top")).owners == ["manager@example.org"]
    first = graph.get(calibration_key("prompt", "CDC Tracking", Part.collector_output))
    assert import_key("prompt", "local_svd") in first.parent_keys


def test_an_import_may_not_be_called_like_a_calibration(begun: Callable[..., Laboratory]) -> None:
    plan = begun().plan
    same = CATALOGUE["caf_svd"] | {"name": "local_svd", "produced_payloads": ["Other"]}
    other = CampaignPlan(plan.campaign, Catalogue.from_json(CATALOGUE | {"caf_local": same}), plan.scripts)
    with pytest.raises(ConfigurationError, match="the import local_svd is called like a calibration"):
        other.checked()


def test_what_is_collected_ahead_waits_for_payloads_that_are_still_to_be_imported(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun(campaign=CAMPAIGN | {"collect_ahead": True}, caf=AwaitingCaf(payload_names()))
    lab.registry.add([run_record(9)])
    job = ahead_job(lab.plan, dg.in_process_executor, lab.workshop())
    assert job.execute_in_process(instance=lab.instance).success
    assert {"SVDNoise", "SVDMask", "TOPTimeBase"} <= lab.caf.awaited


def test_while_a_source_tag_lacks_something_the_bucket_waits_for_people(begun: Callable[..., Laboratory]) -> None:
    lab = begun()
    fill(lab, SVD, "SVDMask", (5.0, IoV(EXP, 0, EXP, 2)))
    run(lab)
    found = CampaignLatencies(lab.plan, lab.workshop(), instance=lab.instance).of(BUCKET_1)
    assert found is not None
    assert found.pieces[-1].what is WaitsFor.people


def test_people_are_told_by_the_command_line_what_is_imported_and_what_it_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home").create()
    with quiet_instance(prepare_dagster_home(home.dagster_home)) as instance:
        lab = fill_all(Laboratory(tmp_path, instance, campaign=CAMPAIGN, runs=4))
        lab.book(BUCKET_1)
        fill(lab, SVD, "SVDMask", (5.0, IoV(EXP, 0, EXP, 2)))
        run(lab)
        b2cal = CommandLine(lab, capsys)
        status = b2cal("bucket", "status", "prompt", BUCKET_1.key)
        assert "local_svd: SVDNoise, SVDMask not imported" in status
        assert "local_top: TOPTimeBase imported" in status
        assert LACKS_MASK in " ".join(status.split())
        told = json.loads(b2cal("bucket", "why", "prompt", BUCKET_1.key, "local_svd", "--json"))
        assert [(cell["asset"], cell["state"], cell["reasons"]) for cell in told["cells"]] == [
            ("prompt/local_svd", "blocked", [LACKS_MASK])
        ]


def test_a_branch_of_a_bucket_takes_what_the_bucket_took_not_what_source_tags_have_by_now(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with quiet_instance(prepare_dagster_home(home.dagster_home)) as instance:
        lab = fill_all(Laboratory(tmp_path, instance, campaign=CAMPAIGN, runs=4))
        lab.book(BUCKET_1)
        run(lab)
        fill(lab, SVD, "SVDMask", (9.0, FOR_EVER))
        make_branch(lab.home, WhatIf(campaign="prompt", bucket=BUCKET_1.key, name="loose"), author="mia")
        plan = CampaignPlan.read(lab.store, "prompt_loose")
        outcome = BucketRunner(plan, lab.workshop(), instance=instance).work(
            BUCKET_1, only=[*plan.imports, *plan.calibrations, "cdst"]
        )
        assert (outcome.failed, outcome.blocked) == ({}, {})
        (mask,) = content(lab, plan.staging_tag(BUCKET_1), "SVDMask")
        assert value(lab, mask) == 5.0


def test_a_changed_payload_from_outside_affects_what_calibrations_made_with_it(
    begun: Callable[..., Laboratory],
) -> None:
    lab = begun()
    run(lab)
    found = open_search(lab.home, lab.store, lab.conditions, left_out=pytest.fail).ask("SVDMask", BUCKET_1.iov)
    names = {line.name: line.through for line in found.payloads}
    assert names["SVDMask"] == ()
    assert "local_svd" in names["CDCTimeZeros"]


def test_all_of_it_works_on_a_server_with_the_rest_interface(laboratory: MakeLaboratory, tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        lab = laboratory(campaign=CAMPAIGN, runs=4, caf=HonestCaf())
        lab.conditions = world.client
        lab._fill_base(tmp_path)
        fill_all(lab)
        lab.book(BUCKET_1)
        fill(lab, SVD, "SVDMask", (5.0, IoV(EXP, 0, EXP, 2)))
        assert run(lab).blocked == {"prompt/local_svd": (LACKS_MASK,)}
        fill(lab, SVD, "SVDMask", (5.0, FOR_EVER))
        run(lab, BUCKET_1, "local_svd")
        fill(lab, SVD, "SVDMask", (9.0, FOR_EVER))
        assert run(lab, BUCKET_1, "local_svd", again=True).done == ("prompt/local_svd",)
        outcome = run(lab)
        assert (outcome.failed, outcome.blocked) == ({}, {})
        assert [(value(lab, link), link.iov) for link in content(lab, TARGET, "SVDMask")] == [(9.0, BUCKET_1.iov)]
