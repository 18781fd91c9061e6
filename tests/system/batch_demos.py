"""Demos whose jobs run on a real batch system: how they are stopped in the middle of it, and what they leave there."""

import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from demo_process import start_demo

from b2cal_caf.job_book import JobRow
from b2cal_caf.operations import CafDesk
from b2cal_cli.demo_setup import prepare_campaign
from b2cal_core.errors import CalibrationError
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

ONE_BUCKET = ("--seed", "5", "--runs", "3", "--bucket-runs", "3", "--scale", "4")
"""One bucket with just enough events for every calibration."""
PATIENCE = 120.0
_LOOK_SECONDS = 0.02
_JOB = "resources.batch.run_job"


def until(look: Callable[[], object], what: str) -> None:
    """Return once it is so."""
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(_LOOK_SECONDS)


def ask_for(home: Path, calibration: str, batch: str) -> None:
    """Make the demo's campaign one of a single calibration in this home."""
    store = FileCampaignStore(Home(home).create())
    name = prepare_campaign(store, bucket_runs=3, batch=batch).name
    store.save_campaign(f"{store.campaign_text(name)}\ncalibrations: [{calibration}]\n")


def request_of(home: Path, calibration: str) -> Path:
    """The request directory of a calibration in the only bucket."""
    return next((home / "work" / "prompt").glob(f"e*/{calibration}"), home)


def subjobs(home: Path, calibration: str) -> list[JobRow]:
    """The sub-jobs of the calibration's request, as far as there are any."""
    with suppress(CalibrationError):
        return CafDesk(request_of(home, calibration)).jobs()
    return []


def is_worked_on_by(demo: "subprocess.Popen[str]", home: Path, calibration: str) -> bool:
    """Whether this demo has the request in hand."""
    assert demo.poll() is None, "it has ended"
    return f"process {demo.pid} " in (CafDesk(request_of(home, calibration)).attended_by or "")


def job_processes(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those among the processes of a batch system that are jobs of ours."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if _JOB in process.cmdline():
                found.append(process)
    return found


def start_with_running_jobs(
    home: Path, batch: str, processes: Callable[[], Iterable[psutil.Process]]
) -> "tuple[subprocess.Popen[str], list[psutil.Process]]":
    """A demo that waits for jobs, and these: they run, but get nowhere until they are resumed."""
    demo = start_demo(home, (*ONE_BUCKET, "--batch", batch))
    stopped: list[psutil.Process] = []

    def stop() -> bool:
        for job in job_processes(processes()):
            if job not in stopped:
                with suppress(psutil.NoSuchProcess):
                    job.suspend()
                    stopped.append(job)
        assert demo.poll() is None, "it has ended"
        return bool(stopped)

    until(stop, "a job runs")
    return demo, stopped
