"""Belle II's 27 prompt calibrations in one campaign, doing nothing: all is worked, and shown, in the right order."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright
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
from service_home import running_service

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, published_key
from b2cal_assets.bucket_runs import quiet_instance
from resources.conditions.deployed import open_conditions
from resources.home import Home

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
NAMES = [settings["name"] for settings in SETTINGS.values()]
PRODUCTION = f"{CAMPAIGN}/cdst"
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "loading.py"
ASSETS = "{assetNodes {assetKey {path}}}"
WHOLE_CAMPAIGN = f'key:"{CAMPAIGN}/*"'
PATIENCE = 60.0


def group_of(script: str) -> str:
    """How the calibration of a script is called in pictures."""
    return f"{CAMPAIGN}_{script.removeprefix('caf_')}"


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


def test_loading_is_measured_with_all_of_it_beside_a_bare_import(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARK), "--repeats", "1", "--out", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(figures.read_text())
    assert [line["jobs"] for line in report["lines"]] == [0, 27 * len(Part) + len(("runs", "cdst", "published")) + 2]
    (aim,) = report["aims"]
    assert f"{aim['reached']:,.1f}" in done.stdout


@pytest.fixture(scope="module")
def page(worked: WorkedBucket) -> Iterator[Page]:
    """The lineage of the campaign in a browser, over ``b2cal up``."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with running_service(worked.home) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        opened = browser.new_context(viewport={"width": 1800, "height": 1200}).new_page()
        opened.set_default_timeout(PATIENCE * 1000)
        service.wait_until("the assets", lambda: len(service.ask(ASSETS)["assetNodes"]) > len(NAMES), seconds=PATIENCE)
        opened.goto(f"{service.address}/asset-groups~{quote(WHOLE_CAMPAIGN, safe='')}")
        yield opened
        browser.close()


def box(page: Page, group: str) -> Locator:
    """A group in the picture, not in the list beside it."""
    return page.locator("foreignObject").get_by_text(group, exact=True).first


def test_the_lineage_names_every_calibration_by_its_script(page: Page, tmp_path: Path) -> None:
    for script in SETTINGS:
        expect(page.get_by_text(group_of(script), exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "lineage.png")


def test_the_picture_leads_from_runs_over_both_stages_to_what_is_published(page: Page) -> None:
    way = ("runs", "cdc", "svd_time", "cdst", "top", "beamspot", "ecms", "published")
    found = [box(page, f"{CAMPAIGN}_{step}").bounding_box() for step in way]
    places = [place["x"] for place in found if place is not None]
    assert len(places) == len(way)
    assert all(before < after for before, after in pairwise(places))


def test_a_calibration_opens_into_its_four_assets(page: Page, tmp_path: Path) -> None:
    box(page, group_of("caf_beamspot")).click()
    for part in Part:
        expect(page.get_by_text(part.value, exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "opened.png")
