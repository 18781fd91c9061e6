"""What is reported in bulk is what Dagster's own call makes of it, and what is read in bulk what its own calls read."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log import ConsolidatedSqliteEventLogStorage
from servers.mariadb import MariaDBServer

from b2cal_assets.bulk_events import report_all, report_with_tags
from b2cal_assets.bulk_records import latest_materializations, made_partitions, reported_since

ONE_FILE = {
    "module": ConsolidatedSqliteEventLogStorage.__module__,
    "class": ConsolidatedSqliteEventLogStorage.__name__,
}
VERSION = "dagster/data_version"
RAW, CDST = dg.AssetKey(["runs", "raw"]), dg.AssetKey(["runs", "cdst"])


@pytest.fixture(params=["in memory", "one file for all", "a file for each Dagster run", "MariaDB"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "in memory":
        made = dg.DagsterInstance.ephemeral()
    elif request.param == "MariaDB":
        server: MariaDBServer = request.getfixturevalue("mariadb")
        address = server.new_database().split("?")[0].replace("+pymysql", "+mysqlconnector")
        (tmp_path / "dagster.yaml").write_text(json.dumps({"storage": {"mysql": {"mysql_url": address}}}))
        made = dg.DagsterInstance.from_config(str(tmp_path))
    else:
        one_file = ONE_FILE | {"config": {"base_dir": str(tmp_path / "events")}}
        overrides = {"event_log_storage": one_file} if request.param == "one file for all" else {}
        made = dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides)
    with made:
        yield made


def made(key: dg.AssetKey, partition: str, quality: str = "Good") -> dg.AssetMaterialization:
    return dg.AssetMaterialization(key, partition=partition, metadata={"quality": quality})


def with_version(key: dg.AssetKey, partition: str, version: str) -> list[dg.AssetMaterialization | dg.AssetObservation]:
    tags = {VERSION: version}
    return [
        dg.AssetObservation(key, partition=partition, tags=tags),
        dg.AssetMaterialization(key, partition=partition, metadata={"runs": 3, "selected": {"a": version}}, tags=tags),
    ]


def told(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None) -> list[object]:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=100, ascending=True).records
    return [(r.partition_key, r.asset_materialization, r.run_id, r.event_log_entry.level) for r in records]


def test_what_is_reported_in_bulk_reads_like_what_is_reported_one_by_one(instance: dg.DagsterInstance) -> None:
    one_by_one, in_bulk = dg.AssetKey("one_by_one"), dg.AssetKey("in_bulk")
    qualities = {"a": "Good", "b": 'Bad, "é" and \\', "c": "\x000"}
    for partition, quality in qualities.items():
        instance.report_runless_asset_event(made(one_by_one, partition, quality))
    report_all(instance, [made(in_bulk, *both) for both in qualities.items()])
    as_if = [(p, m._replace(asset_key=in_bulk), run, level) for p, m, run, level in told(instance, one_by_one)]
    assert told(instance, in_bulk) == as_if
    assert instance.get_materialized_partitions(in_bulk) == {"a", "b", "c"}


def test_assets_are_told_apart_and_the_last_of_each_is_its_latest(instance: dg.DagsterInstance) -> None:
    report_all(instance, [made(RAW, "a"), made(CDST, "a"), made(RAW, "b"), made(RAW, "a", "Bad For Alignment")])
    assert instance.get_materialized_partitions(RAW) == {"a", "b"}
    assert instance.get_materialized_partitions(CDST) == {"a"}
    (record,) = instance.get_asset_records([RAW])
    assert record.asset_entry.last_materialization is not None
    assert record.asset_entry.last_materialization.asset_materialization == made(RAW, "a", "Bad For Alignment")
    assert [m.metadata["quality"].value for _, m, *_ in told(instance, RAW, "a")] == ["Good", "Bad For Alignment"]


def test_materialisations_of_one_asset_may_have_other_labels(instance: dg.DagsterInstance) -> None:
    several = [
        dg.AssetMaterialization(RAW, partition=p, metadata={label: "x"}) for p, label in zip("abc", "uvw", strict=True)
    ]
    report_all(instance, several)
    assert [m for _, m, *_ in told(instance, RAW)] == several


def test_events_with_tags_read_like_those_reported_one_by_one(instance: dg.DagsterInstance) -> None:
    several = [with_version(RAW, partition, version) for partition, version in (("a", "1"), ("b", "2"), ("a", "3"))]
    for event in (event for both in several for event in both):
        instance.report_runless_asset_event(event)
    report_with_tags(instance, [event for both in several for event in both])
    one_by_one, in_bulk = told(instance, RAW)[:3], told(instance, RAW)[3:]
    assert one_by_one == in_bulk
    observations = instance.fetch_observations(RAW, limit=100).records
    assert [record.event_log_entry.tags for record in observations] == 2 * [{VERSION: v} for v in ("3", "2", "1")]
    tagged = instance.event_log_storage.get_event_tags_for_asset(RAW, filter_tags={VERSION: "3"})
    assert len(tagged) == 4


def test_nothing_to_report_reports_nothing(instance: dg.DagsterInstance) -> None:
    report_all(instance, [])
    report_with_tags(instance, [])
    assert instance.get_asset_records() == []


def fill(instance: dg.DagsterInstance) -> None:
    """Several assets and partitions, some made twice, one only observed, one wiped and one wiped and made again."""
    for key, partition, version in (
        (RAW, "a", "1"),
        (RAW, "a", "2"),
        (RAW, "b", "3"),
        (CDST, "a", "4"),
        (CDST, "c", "5"),
    ):
        report_with_tags(instance, with_version(key, partition, version))
    instance.report_runless_asset_event(dg.AssetObservation(OBSERVED, partition="a"))
    for key in (WIPED, AGAIN):
        instance.report_runless_asset_event(made(key, "a"))
    instance.wipe_assets([WIPED, AGAIN])
    instance.report_runless_asset_event(made(AGAIN, "b"))


OBSERVED, WIPED, AGAIN, NEVER = (dg.AssetKey(name) for name in ("observed", "wiped", "again", "never"))
ALL = (RAW, CDST, OBSERVED, WIPED, AGAIN, NEVER)


def test_the_last_materialisations_are_read_together_as_dagster_reads_each(instance: dg.DagsterInstance) -> None:
    fill(instance)
    for partition in ("a", "b", "c"):
        wanted = {key: dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]) for key in ALL}
        one_by_one = {key: instance.fetch_materializations(one, limit=1).records for key, one in wanted.items()}
        expected = {key: records[0] for key, records in one_by_one.items() if records}
        assert latest_materializations(instance, ALL, partition) == expected
    assert set(latest_materializations(instance, ALL, "a")) == {RAW, CDST}


def test_the_partitions_of_several_assets_are_read_together_as_dagster_reads_each(instance: dg.DagsterInstance) -> None:
    fill(instance)
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    found = made_partitions(instance, ALL)
    assert {key: set(of) for key, of in found.items()} == {k: instance.get_materialized_partitions(k) for k in ALL}
    assert found[RAW] == instance.get_latest_storage_id_by_partition(RAW, event)


def test_what_was_reported_since_is_told_once_and_only_what_no_dagster_run_made(instance: dg.DagsterInstance) -> None:
    nothing, number = reported_since(instance, None)
    assert nothing == set()
    fill(instance)
    found, later = reported_since(instance, number)
    wiped = {(WIPED, "a"), (AGAIN, "a")}  # some storages remove them
    assert found - wiped == {(RAW, "a"), (RAW, "b"), (CDST, "a"), (CDST, "c"), (AGAIN, "b")}
    letters = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(partitions_def=letters)
    def worked() -> None:
        """Made by a Dagster run."""

    assert dg.materialize([worked], instance=instance, partition_key="a").success
    assert reported_since(instance, later)[0] == set()
