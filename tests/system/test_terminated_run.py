"""A Dagster run that is terminated in the UI takes its batch jobs with it, and the next one goes on from there."""

import shutil
from pathlib import Path

import pytest
from servers.htcondor import HTCondorPool
from service_home import SCRIPTS, Service, prepare_home, running_service

from b2cal_caf.job_book import Stage
from b2cal_caf.operations import CafDesk
from resources.home import Home

BUCKET = "e0012r00001-e0012r00002"
WAITING = """

import dataclasses as _dataclasses
import time as _time
from pathlib import Path as _Path

_calibrations = get_calibrations
_PLACE = _Path({place!r})


@_dataclasses.dataclass(frozen=True)
class WaitingCollector(SvdTimeCollector):
    def collect(self, file, run, conditions):
        (_PLACE / "started").open("a").write(f"{{run}}\\n")
        while not (_PLACE / "go").exists():
            _time.sleep(0.01)
        return super().collect(file, run, conditions)


def get_calibrations(input_data, **kwargs):
    made = _calibrations(input_data, **kwargs)
    made[0].collections["default"].collector = WaitingCollector()
    return made
"""


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.parametrize("batch", ["local", "htcondor"])
def test_a_terminated_dagster_run_leaves_no_job_and_is_resumed(
    batch: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pool: HTCondorPool | None = request.getfixturevalue("htcondor") if batch == "htcondor" else None
    home = waiting_home(tmp_path, batch)
    with running_service(home) as service:
        service.wait_until("jobs run", lambda: len(started(tmp_path)) == 2, seconds=240)
        (first,) = service.runs()
        service.terminate(first["runId"])
        service.wait_until("the run has ended", lambda: status(service, 0) == "CANCELED", seconds=120)
        assert running_jobs(home) == []
        if pool is not None:
            assert pool.run("condor_q", "-af", "ClusterId").split() == []
        (tmp_path / "go").touch()
        answer = service.ask(RESUME, id=first["runId"])["launchRunReexecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        service.wait_until("all is published", lambda: service.materialized("prompt/published") == 1, seconds=240)
    jobs = CafDesk(home.work("prompt", BUCKET) / "caf_svd_time").jobs()
    assert [(job.stage, job.attempt) for job in jobs] == [(Stage.completed, 1)] * 2


RESUME = """mutation($id: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $id, strategy: FROM_FAILURE}) {
    __typename ... on PythonError {message}
  }
}"""


def waiting_home(directory: Path, batch: str) -> Home:
    """A home whose only bucket has a calibration that collects, in two jobs, until it is told to go on."""
    scripts = directory / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    script = scripts / "caf_svd_time.py"
    script.write_text(script.read_text() + WAITING.format(place=str(directory)))
    site = {"batch": batch, "max_processes": 2}
    return prepare_home(directory / "home", runs=2, bucket_runs=2, scripts=scripts, site=site)


def running_jobs(home: Home) -> list[str]:
    """The sub-jobs that the batch system has, of all requests."""
    databases = home.path.rglob("caf_state.db")
    stages = [stage for stage in Stage if stage.is_at_batch]
    return [row.name for file in databases for row in CafDesk(file.parent.parent).jobs(stages=stages)]


def started(directory: Path) -> list[str]:
    file = directory / "started"
    return file.read_text().splitlines() if file.exists() else []


def status(service: Service, number: int) -> str:
    runs: list[dict[str, str]] = service.runs()
    return runs[number]["status"]
