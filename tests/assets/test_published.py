"""What people see of a publish, where its payloads come from, and the check that reads it back."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, TARGET, FakeCaf, Laboratory, payload_names
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckStatus

from b2cal_assets.asset_keys import published_key
from b2cal_assets.assets.published import READ_BACK, SIMULATED
from b2cal_assets.bucket_runs import BucketRunner, work_bucket

MakeLaboratory = Callable[..., Laboratory]
KEY = published_key("prompt")


def metadata_of(lab: Laboratory, bucket: str) -> dict[str, Any]:
    wanted = dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[bucket])
    found = lab.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert found is not None
    return dict(found.metadata)


def rows_of(value: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in value.records]


def check_of(lab: Laboratory) -> CheckStatus:
    key = dg.AssetCheckKey(KEY, READ_BACK)
    return lab.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0].status


def test_plan_difference_and_coverage_of_a_publish_are_shown(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1)
    runner.work(BUCKET_2)
    shown = metadata_of(lab, BUCKET_2.key)
    assert shown["applied now"].value is True
    (applied,) = [e for e in lab.conditions.audit(TARGET) if e.plan_hash == shown["plan hash"].value][1:2]
    assert (applied.action, applied.approver) == ("apply", "rule:all_pass")
    assert {row["operation"] for row in rows_of(shown["plan"])} == {"create"}
    changes = rows_of(shown["what changes for readers"])
    assert len(changes) == shown["operations"].value == 5
    assert {row["IoV"] for row in changes} == {str(BUCKET_2.iov)}
    assert {row["registered runs"] for row in changes} == {len(lab.registry.runs(BUCKET_2.iov))}
    covered = rows_of(shown["coverage of the bucket"])
    assert {(row["gaps"], row["overlaps"]) for row in covered} == {("none", "none")}
    assert f"nothing in {TARGET} reaches {BUCKET_2.first}" in shown["runs that could not change"].value


def test_the_check_passes_when_readers_see_the_plan_and_fails_when_a_file_is_damaged(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    runner.work(BUCKET_1)
    assert check_of(lab) is CheckStatus.SUCCEEDED
    (link, *_) = lab.conditions.list_iovs(TARGET)
    payload = lab.conditions.payload(link.name, link.revision)
    assert payload is not None
    file = lab.conditions.payload_file(payload)
    file.chmod(0o644)
    file.write_bytes(b"rubbish")
    lab.instance.wipe_assets([KEY])
    runner.work(BUCKET_1)
    assert check_of(lab) is CheckStatus.FAILED


def test_every_published_payload_says_where_it_comes_from_and_who_judged_it(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.book(BUCKET_1)
    work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    links = lab.conditions.list_iovs(TARGET)
    known = lab.conditions.payloads_of({(link.name, link.revision) for link in links})
    records = lab.conditions.provenance({(p.name, p.md5) for p in known.values()})
    assert len(records) == len(links) == 5
    for record in records.values():
        assert record.missing == ()
        assert record.validation is not None
        assert record.validation["verdict"] == "pass"
        assert record.validation["by"] == "rule:all_pass"
        assert all("sha256:" in line for line in record.inputs or ())
        assert set(record.runs or ()) <= {run.run.edge for run in lab.registry.runs(BUCKET_1.iov)}
    upstream = {name: {up for up, _ in record.upstream or ()} for (name, _), record in records.items()}
    assert upstream["CDCTimeZeros"] == set()
    assert "CDCTimeZeros" in upstream["BeamSpot"]


@pytest.mark.parametrize("gaps", [(), ("SVDTimes",)])
def test_a_campaign_for_simulation_tells_which_runs_lack_which_constants(
    laboratory: MakeLaboratory, gaps: tuple[str, ...]
) -> None:
    campaign = {"kind": "run_dependent_mc", "base_tags": ["nothing"]}
    lab = laboratory(caf=FakeCaf(payload_names(), gaps=gaps), campaign=campaign)
    lab.conditions.create_tag("nothing")
    lab.book(BUCKET_1)
    assert work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance).ok
    key = dg.AssetCheckKey(KEY, SIMULATED)
    (record,) = lab.instance.event_log_storage.get_asset_check_execution_history(key, limit=2)
    assert record.event is not None
    assert record.event.dagster_event is not None
    told = record.event.dagster_event.asset_check_evaluation_data
    assert told.passed is not bool(gaps)
    said = told.metadata["runs without constants"].value
    missing = [{"run": "exp 12 run 1", "constants that are missing": "SVDTimes"}]
    assert (rows_of(said) == missing) if gaps else (said == "none")
