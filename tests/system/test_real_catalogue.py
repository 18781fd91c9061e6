"""Belle II's 27 prompt calibrations in one campaign, though they do nothing: all of it is worked in the right order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from real_catalogue import (
    CAMPAIGN,
    RELEASE,
    SETTINGS,
    TARGET,
    b2cal,
    payloads_of,
    prepare_bucket,
    prepare_campaign,
)

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, published_key
from b2cal_assets.bucket_runs import quiet_instance
from resources.conditions.deployed import open_conditions
from resources.home import Home

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
NAMES = [settings["name"] for settings in SETTINGS.values()]
PRODUCTION = f"{CAMPAIGN}/cdst"


@dataclass(frozen=True)
class WorkedBucket:
    """A home whose one bucket was worked by ``b2cal bucket run``, what that answered, and Dagster's record of it."""

    home: Home
    key: str
    answer: Mapping[str, Any]
    instance: dg.DagsterInstance

    def made(self, key: dg.AssetKey) -> dg.EventLogRecord:
        """When and how the asset was made."""
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[self.key])
        (record,) = self.instance.fetch_materializations(wanted, limit=2).records
        return record

    def metadata(self, calibration: str, part: Part) -> Mapping[str, dg.MetadataValue[Any]]:
        """What is told of one part of a calibration."""
        materialization = self.made(calibration_key(CAMPAIGN, calibration, part)).asset_materialization
        assert materialization is not None
        return materialization.metadata


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkedBucket]:
    home = Home(tmp_path_factory.mktemp("catalogue") / "home").create()
    prepare_campaign(home)
    key = prepare_bucket(home)
    (answer,) = b2cal(home, "bucket", "run", CAMPAIGN, key)
    with quiet_instance(home.dagster_home) as instance:
        yield WorkedBucket(home, key, answer, instance)


def test_the_release_holds_the_settings_of_all_scripts(worked: WorkedBucket) -> None:
    kept = b2cal(worked.home, "catalogue", "show", RELEASE)
    assert len(kept) == len(SETTINGS) == 27
    for script, fields in kept.items():
        recorded = SETTINGS.get(script) or SETTINGS[script.removeprefix("caf_")]
        for key, value in recorded.items():
            unordered = key in {"input_data_names", "input_data_formats"}
            assert (sorted(fields[key]) if unordered else fields[key]) == (sorted(value) if unordered else value)


def test_one_pass_makes_everything_and_leaves_nothing_waiting(worked: WorkedBucket) -> None:
    expected = {calibration_key(CAMPAIGN, name, part).to_user_string() for name in NAMES for part in Part}
    assert set(worked.answer["done"]) == expected | {PRODUCTION, published_key(CAMPAIGN).to_user_string()}
    assert not any(worked.answer[what] for what in ("failed", "blocked", "later", "found"))


def test_every_input_of_every_script_gets_files(worked: WorkedBucket) -> None:
    for settings in SETTINGS.values():
        table = worked.metadata(settings["name"], Part.collector_output)["input"]
        assert isinstance(table, dg.TableMetadataValue)
        files = {str(row.data["name"]): row.data["files"] for row in table.records}
        assert set(files) == set(settings["input_data_names"])
        assert all(files.values()), (settings["name"], files)


def test_all_payloads_are_published_and_valid_over_the_whole_bucket(worked: WorkedBucket) -> None:
    expected = {name for settings in SETTINGS.values() for name in payloads_of(settings)}
    links = open_conditions(worked.home).list_iovs(TARGET)
    assert {link.name for link in links} == expected
    assert len(links) == len(expected)
    assert {tuple(link.iov) for link in links} == {(12, 1, -1, -1)}


def test_the_order_of_the_work_respects_dependencies_and_stages(worked: WorkedBucket) -> None:
    begun = {name: worked.made(calibration_key(CAMPAIGN, name, Part.collector_output)).storage_id for name in NAMES}
    ended = {name: worked.made(calibration_key(CAMPAIGN, name, Part.validation)).storage_id for name in NAMES}
    production = worked.made(cdst_key(CAMPAIGN)).storage_id
    for settings in SETTINGS.values():
        name = settings["name"]
        assert all(ended[needed] < begun[name] for needed in settings["depends_on"]), name
        if "raw" in settings["input_data_formats"]:
            assert ended[name] < production, name
        if "cdst" in settings["input_data_formats"]:
            assert production < begun[name], name
