"""What people see of a publish, where its payloads come from, and the check that reads it back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, TARGET, FakeCaf, Laboratory, payload_names
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckStatus

from b2cal_assets.asset_keys import published_key
from b2cal_assets.assets.published import READ_BACK, SIMULATED
from b2cal_assets.bucket_runs import BucketRunner, work_bucket
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV

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


def simulating(make: MakeLaboratory, tmp_path: Path, *, gaps: tuple[str, ...] = (), ends: int = -1) -> Laboratory:
    """A laboratory of a campaign for simulation, whose base tag has a geometry up to a run."""
    lab = make(
        caf=FakeCaf(payload_names(), gaps=gaps), campaign={"kind": "run_dependent_mc", "base_tags": ["detector"]}
    )
    lab.conditions.create_tag("detector")
    file = tmp_path / "geometry.root"
    file.write_bytes(b"a geometry")
    made = lab.conditions.put_payload("Geometry", file)
    lab.conditions.add_iovs("detector", [TagIov("Geometry", made.revision, IoV(12, 0, 12 if ends >= 0 else -1, ends))])
    lab.book(BUCKET_1)
    return lab


def simulated_check(lab: Laboratory) -> Any:
    key = dg.AssetCheckKey(KEY, SIMULATED)
    (record, *_) = lab.instance.event_log_storage.get_asset_check_execution_history(key, limit=2)
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def test_a_bucket_of_which_every_run_can_be_simulated_is_published(laboratory: MakeLaboratory, tmp_path: Path) -> None:
    lab = simulating(laboratory, tmp_path)
    assert work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance).ok
    told = simulated_check(lab)
    assert told.passed
    assert told.metadata["runs without constants"].value == "none"
    assert lab.target_content()


@pytest.mark.parametrize(
    ("lacks", "runs", "name"),
    [
        ({"gaps": ("SVDTimes",)}, [1], "SVDTimes"),
        ({"ends": 2}, [3, 4], "Geometry"),
        ({"ends": 0}, [1, 2, 3, 4], "Geom"),
    ],
)
def test_a_bucket_with_runs_that_simulation_would_find_no_constants_for_is_not_published(
    laboratory: MakeLaboratory, tmp_path: Path, lacks: Any, runs: list[int], name: str
) -> None:
    lab = simulating(laboratory, tmp_path, **lacks)
    outcome = work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance)
    (failed,) = outcome.failed.values()
    assert f"{len(runs)} of 4 runs would be simulated without constants (exp 12 run {runs[0]}: {name}" in failed
    assert f"b2cal bucket run prompt {BUCKET_1.key}" in failed
    told = simulated_check(lab)
    assert not told.passed
    rows = rows_of(told.metadata["runs without constants"].value)
    assert [row["run"] for row in rows] == [f"exp 12 run {run}" for run in runs]
    assert all(row["constants that are missing"].startswith(name) for row in rows)
    assert lab.target_content() == []


def test_once_the_base_tag_has_the_constants_the_bucket_is_published(
    laboratory: MakeLaboratory, tmp_path: Path
) -> None:
    lab = simulating(laboratory, tmp_path, ends=2)
    assert not work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance).ok
    lab.conditions.add_iovs("detector", [TagIov("Geometry", 1, IoV(12, 3, -1, -1))])
    assert work_bucket(lab.plan, BUCKET_1, lab.workshop(), instance=lab.instance).ok
    assert simulated_check(lab).passed
