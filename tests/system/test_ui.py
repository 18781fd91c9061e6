"""The page in a real browser, over a real daemon: what the sensors started is seen, and a backfill is started."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from service_home import Service, prepare_home, running_service

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
GROUP = "/locations/b2cal/asset-groups/prompt_top/lineage"
JOB = "/locations/b2cal/jobs/prompt_bucket"
BUCKETS = ("e0012r00001-e0012r00003", "e0012r00004-e0012r00006")
WORK_SECONDS = 400.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose sensors have found six runs, formed two buckets of them and published both."""
    home = prepare_home(tmp_path_factory.mktemp("ui") / "home", runs=6, bucket_runs=3)
    with running_service(home) as up:
        up.wait_until("both buckets published", lambda: up.materialized("prompt/published") == 2, seconds=WORK_SECONDS)
        yield up


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_context(viewport={"width": 1500, "height": 1000}).new_page()
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_the_sensors_worked_each_bucket_in_one_dagster_run(service: Service) -> None:
    service.wait_until("runs ended", lambda: all(run["status"] == "SUCCESS" for run in service.runs()), seconds=60)
    keys = [{tag["key"]: tag["value"] for tag in run["tags"]}["dagster/run_key"] for run in service.runs()]
    assert sorted(keys) == [f"prompt:{bucket}" for bucket in BUCKETS]


def test_lineage_of_a_calibration_shows_its_way_from_cdst_to_published(
    service: Service, browser_page: Page, tmp_path: Path
) -> None:
    browser_page.goto(service.address + GROUP)
    for name in ("collector_output", "payloads", "validation", "sign_off", "cdst", "published"):
        expect(browser_page.get_by_text(name, exact=True).first).to_be_visible(timeout=60_000)
    browser_page.screenshot(path=tmp_path / "lineage.png")


def test_each_bucket_is_a_partition_with_its_iovs_as_a_table(
    service: Service, browser_page: Page, tmp_path: Path
) -> None:
    browser_page.goto(f"{service.address}/assets/prompt/top_common_t0/payloads?view=partitions&partition={BUCKETS[0]}")
    for bucket in BUCKETS:
        expect(browser_page.get_by_text(bucket).first).to_be_visible(timeout=60_000)
    expect(browser_page.get_by_role("cell", name="TOPCalCommonT0").first).to_be_visible(timeout=60_000)
    expect(browser_page.get_by_role("columnheader", name="exp_high").first).to_be_visible()
    browser_page.screenshot(path=tmp_path / "partition.png")


def test_a_plot_of_the_validation_is_seen(service: Service, browser_page: Page, tmp_path: Path) -> None:
    browser_page.goto(f"{service.address}/assets/prompt/top_common_t0/validation?view=events")
    browser_page.get_by_text("[Show Markdown]").first.click()
    image = browser_page.locator("img[src^='data:image/png']").first
    expect(image).to_be_visible(timeout=60_000)
    browser_page.wait_for_function("() => document.querySelector(\"img[src^='data:image/png']\").naturalWidth > 100")
    browser_page.screenshot(path=tmp_path / "plot.png")


def test_checks_tell_of_each_bucket(service: Service, browser_page: Page, tmp_path: Path) -> None:
    browser_page.goto(f"{service.address}/assets/prompt/top_common_t0/payloads?view=checks")
    for name in ("declared_payloads", "bucket_covered", "no_overlap", "drift"):
        expect(browser_page.get_by_text(name, exact=True).first).to_be_visible(timeout=60_000)
    browser_page.screenshot(path=tmp_path / "checks.png")


def test_a_backfill_over_both_buckets_is_started_from_the_page_and_succeeds(
    service: Service, browser_page: Page, tmp_path: Path
) -> None:
    browser_page.goto(service.address + JOB)
    browser_page.get_by_role("button", name="Materialize all").click()
    browser_page.get_by_role("button", name="All", exact=True).click()
    expect(browser_page.get_by_text("2 partitions").first).to_be_visible(timeout=60_000)
    browser_page.screenshot(path=tmp_path / "dialog.png")
    browser_page.get_by_role("button", name="Launch backfill").click()
    service.wait_until("a backfill", lambda: bool(service.backfills()), seconds=60)
    service.wait_until(
        "the end of the backfill",
        lambda: service.backfills()[0]["status"].startswith(("COMPLETED", "FAILED", "CANCELED")),
        seconds=WORK_SECONDS,
    )
    (backfill,) = service.backfills()
    assert (backfill["status"], sorted(backfill["partitionNames"])) == ("COMPLETED_SUCCESS", list(BUCKETS))
    assert [run["status"] for run in service.runs()] == ["SUCCESS"] * 4
    browser_page.goto(f"{service.address}/runs")
    expect(browser_page.get_by_text("prompt_bucket").first).to_be_visible(timeout=60_000)
    browser_page.screenshot(path=tmp_path / "runs.png")
