"""A code location for each campaign: runs make buckets of all of them; campaigns come and go while Dagster runs."""

import getpass
import os
import select
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from service_home import Service, prepare_home, running_service

from b2cal_assets.definitions import embedded_workshop
from b2cal_caf.scripts import read_catalogue
from b2cal_cli.code_servers import CodeServers
from b2cal_cli.demo_setup import SCRIPTS
from b2cal_cli.simulation import Simulation, simulate_runs
from b2cal_core.campaign_states import CampaignChange, CampaignState
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
SHARED, PROMPT, SECOND, THIRD = "b2cal", "b2cal-prompt", "b2cal-second", "b2cal-third"
WORK_SECONDS, FOLLOW_SECONDS = 400.0, 120.0
_LOCATIONS = """{workspaceOrError {... on Workspace {locationEntries {name locationOrLoadError {
  __typename ... on RepositoryLocation {repositories {sensors {name}}}}}}}}"""
_REPORTED = """query($key: AssetKeyInput!) {assetOrError(assetKey: $key) {
  ... on Asset {assetMaterializations(limit: 100) {partition}}}}"""


def other_release(home: Home, directory: Path) -> None:
    """A release that has fewer calibrations than the reference one."""
    scripts = directory / "scripts"
    scripts.mkdir()
    for name in ("caf_cdc", "val_cdc", "caf_svd_time", "val_svd_time"):
        shutil.copy(SCRIPTS / f"{name}.py", scripts)
    FileCampaignStore(home).save_catalogue("other", read_catalogue(scripts), scripts=scripts)


def create_campaign(home: Home, name: str) -> None:
    """A campaign over that release."""
    fields = yaml.safe_load((home.campaigns / "prompt.yaml").read_text())
    fields |= {"name": name, "catalogue": "other", "calibrations": ["caf_svd_time"], "target_tag": f"{name}_running"}
    FileCampaignStore(home).save_campaign(yaml.safe_dump(fields))


def archive(home: Home, campaign: str) -> None:
    change = CampaignChange(campaign, CampaignState.archived, getpass.getuser(), "over", datetime.now(UTC))
    FileCampaignStore(home).change_state(change)


def register_runs(home: Home, first: int, count: int) -> None:
    records = simulate_runs(Simulation(1, 12, first, count, scale=0.5), home.data).records
    embedded_workshop(home).runs.add(records)


def locations(service: Service) -> dict[str, set[str]]:
    """Location to its sensors; one that is not loaded is left out."""
    entries = service.ask(_LOCATIONS)["workspaceOrError"]["locationEntries"]
    loaded = {entry["name"]: entry["locationOrLoadError"] or {} for entry in entries}
    return {
        name: {sensor["name"] for repository in found["repositories"] for sensor in repository["sensors"]}
        for name, found in loaded.items()
        if "repositories" in found
    }


def reported_runs(service: Service) -> list[str]:
    """The partitions of every time that Dagster was told of a run, sorted."""
    found = service.ask(_REPORTED, key={"path": ["runs", "raw"]})["assetOrError"]
    return sorted(event["partition"] for event in found["assetMaterializations"])


def prepare_apart(directory: Path, *, runs: int) -> Home:
    """A home with a prompt campaign, and a second one over another release."""
    home = prepare_home(directory / "home", runs=runs, bucket_runs=3)
    (home.path / "deployment.yaml").write_text("code_locations: per_campaign\n")
    other_release(home, directory)
    create_campaign(home, "second")
    return home


def code_server(home: Home, location: str) -> int:
    """The process that ``b2cal up`` has started for a location of the home; 0 when there is none."""
    wanted = {f"B2CAL_LOCATION={location}".encode(), f"B2CAL_HOME={home.path}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted <= set(environment.split(b"\0")) and b"code-server" in command:
            return int(process.name)
    return 0


def test_campaigns_are_worked_apart_and_come_and_go_without_a_restart(tmp_path: Path) -> None:
    home = prepare_apart(tmp_path, runs=3)
    own, daemon = {"new_runs", "gates"}, home.path / "logs" / "daemon.log"
    with running_service(home) as service:

        def is_published(campaign: str, buckets: int) -> None:
            what = f"{campaign}/published"
            service.wait_until(what, lambda: service.materialized(what) == buckets, seconds=WORK_SECONDS)

        assert locations(service) == {SHARED: {"new_runs", "notices", "impact_tables"}, PROMPT: own, SECOND: own}
        is_published("prompt", 1)
        is_published("second", 1)
        register_runs(home, 4, 3)
        is_published("prompt", 2)
        is_published("second", 2)
        service.wait_until("all runs", lambda: len(set(reported_runs(service))) == 6, seconds=FOLLOW_SECONDS)
        assert reported_runs(service) == [f"e0012r{run:05d}" for run in range(1, 7)]
        create_campaign(home, "third")
        is_published("third", 2)
        assert locations(service)[THIRD] == own
        archive(home, "second")
        service.wait_until("the archive", lambda: SECOND not in locations(service), seconds=FOLLOW_SECONDS)
        assert set(locations(service)) == {SHARED, PROMPT, THIRD}
        assert "FAILURE" not in {run["status"] for run in service.runs()}
    assert "Traceback" not in daemon.read_text()
    assert "multiple code locations" not in (home.path / "logs" / "web_server.log").read_text()


def test_a_code_server_that_breaks_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    home = prepare_apart(tmp_path, runs=1)
    with running_service(home) as service:
        broken, other = code_server(home, SECOND), code_server(home, PROMPT)
        os.kill(broken, signal.SIGKILL)
        service.wait_until("a new one", lambda: code_server(home, SECOND) not in {0, broken}, seconds=FOLLOW_SECONDS)
        create_campaign(home, "second")  # which is loaded by the new one
        service.wait_until("its location", lambda: SECOND in locations(service), seconds=FOLLOW_SECONDS)
        assert code_server(home, PROMPT) == other
        told = (home.path / "up.log").read_text()
        assert "the code server of second ended by itself" in told
        assert "it is started again" in told


def test_the_code_server_of_a_location_that_is_not_wanted_any_more_ends_when_nobody_asks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2cal_cli.code_servers._LET_GO_SECONDS", 0.0)
    home, place = prepare_apart(tmp_path, runs=1), tmp_path / "place"
    place.mkdir()
    environment = os.environ | {"DAGSTER_HOME": str(home.dagster_home), "B2CAL_HOME": str(home.path)}
    with CodeServers(home, place, environment, apart=True) as servers:
        servers.want([SHARED, SECOND])
        servers.await_all()
        assert servers.update_workspace()
        assert not servers.update_workspace()
        assert set(servers.listed) == {SHARED, SECOND}
        leaving = os.pidfd_open(code_server(home, SECOND))
        servers.want([SHARED])
        assert servers.update_workspace()
        (entry,) = yaml.safe_load(servers.workspace.read_text())["load_from"]
        assert entry["grpc_server"]["location_name"] == SHARED
        assert not select.select([leaving], [], [], 0)[0]
        servers.look_after()
        assert select.select([leaving], [], [], FOLLOW_SECONDS)[0]
        os.close(leaving)
        assert code_server(home, SHARED)
    assert not code_server(home, SHARED)
