"""A home with few simulated runs and a campaign of two quick calibrations, and the service over it."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from b2cal_assets.definitions import embedded_workshop
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_caf.scripts import read_catalogue
from b2cal_cli.demo_setup import CAMPAIGN_FILE, SCRIPTS, publish_nominal
from b2cal_cli.simulation import Simulation, simulate_runs
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

START_SECONDS = 120.0
POLL_SECONDS = 0.5


def prepare_home(
    directory: Path, *, runs: int, bucket_runs: int, scripts: Path = SCRIPTS, site: dict[str, Any] | None = None
) -> Home:
    """Simulated and registered runs, nominal constants, and a campaign; its buckets are left to the sensor."""
    home = Home(directory).create()
    prepare_dagster_home(home.dagster_home)
    workshop = embedded_workshop(home)
    workshop.runs.add(simulate_runs(Simulation(1, 12, 1, runs, scale=0.5), home.data).records)
    publish_nominal(workshop.conditions, home, "main")
    campaign: dict[str, Any] = yaml.safe_load(CAMPAIGN_FILE.read_text())
    campaign |= {"calibrations": ["caf_svd_time", "TOP common T0"], "buckets": {"runs": bucket_runs, "counted": []}}
    campaign["gates"]["auto_sign_off"] = "none_fail"  # few events may warn
    store = FileCampaignStore(home)
    campaign["site"] = site or campaign["site"]
    store.save_catalogue(campaign["catalogue"], read_catalogue(scripts), scripts=scripts)
    store.save_campaign(yaml.safe_dump(campaign))
    return home


class Service:
    """A running ``b2cal up``, asked over GraphQL."""

    def __init__(self, port: int, log: Path, process: "subprocess.Popen[bytes]") -> None:
        self.address, self._log, self._process = f"http://127.0.0.1:{port}", log, process

    def workers(self) -> list[psutil.Process]:
        """The processes that work Dagster runs, without those of single steps."""
        return [process for process in self._family() if "spawn_main" in _command(process)]

    def kill(self) -> None:
        """End at once all that it started, and it: what is left of a machine without power."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(60)

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer's data; an error in it fails the test."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310 (our own server)
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 (our own server)
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def wait_until(self, what: str, condition: Callable[[], bool], *, seconds: float) -> None:
        """Ask again and again; the service's log is in the message when it never comes true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {seconds:g} s\n{self._log.read_text()[-4000:]}")
            time.sleep(POLL_SECONDS)

    def materialized(self, asset: str) -> int:
        """For how many partitions the asset was made."""
        node = "{... on AssetNode {partitionStats {numMaterialized}}}"
        query = f"query($key: AssetKeyInput!) {{assetNodeOrError(assetKey: $key) {node}}}"
        found = self.ask(query, key={"path": asset.split("/")})["assetNodeOrError"]
        return int(found["partitionStats"]["numMaterialized"]) if found else 0  # nothing while the graph is loaded

    def backfills(self) -> list[dict[str, Any]]:
        """Backfills, newest first."""
        query = "{partitionBackfillsOrError {... on PartitionBackfills {results {id status partitionNames}}}}"
        return list(self.ask(query)["partitionBackfillsOrError"]["results"])

    def terminate(self, dagster_run: str) -> None:
        """End a Dagster run as its page does: kindly, so that it can take its jobs with it."""
        mutation = "mutation($id: String!) {terminateRun(runId: $id) {__typename ... on PythonError {message}}}"
        answer = self.ask(mutation, id=dagster_run)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def runs(self) -> list[dict[str, Any]]:
        """Dagster runs, newest first."""
        query = "{runsOrError {... on Runs {results {runId status tags {key value}}}}}"
        return list(self.ask(query)["runsOrError"]["results"])


@contextmanager
def running_service(home: Home) -> Iterator[Service]:
    """``b2cal up`` on a free port, ended with its children when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = home.path / "up.log"
    command = [sys.executable, "-m", "b2cal_cli", "--home", str(home.path), "up", "--port", str(port)]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:
        service = Service(port, log, process)
        try:
            service.wait_until(
                "the page", lambda: process.poll() is not None or _answers(service), seconds=START_SECONDS
            )
            assert process.poll() is None, log.read_text()
            yield service
        finally:
            process.terminate()
            process.wait(60)


def _answers(service: Service) -> bool:
    try:
        return bool(service.ask("{version}"))
    except OSError:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
