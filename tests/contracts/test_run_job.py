"""The program that batch systems start: it runs a job to a good end once, also when it is started again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from b2cal_core.jobs import JobSpec
from resources.batch.job_directories import EXIT_CODE, write_record

JOB = """
def main(args):
    with open("runs", "a") as runs:
        runs.write("x")
    return int(args[0])
"""


def started(directory: Path) -> int:
    command = [sys.executable, "-m", "resources.batch.run_job", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def a_job(tmp_path: Path, code: int, key: str = "k") -> Path:
    (tmp_path / "counts_its_runs.py").write_text(JOB)
    path = ("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    spec = JobSpec(key, tmp_path / "job", "counts_its_runs", (str(code),), environment=(path,))
    write_record(spec)
    return spec.directory


@pytest.mark.parametrize(("code", "runs"), [(0, 1), (3, 2)])
def test_a_job_that_is_started_again_is_run_again_only_if_it_did_not_end_well(
    tmp_path: Path, code: int, runs: int
) -> None:
    directory = a_job(tmp_path, code)
    assert [started(directory), started(directory)] == [code, code]
    assert (directory / EXIT_CODE).read_text().strip() == str(code)
    assert len((directory / "runs").read_text()) == runs


def test_another_job_in_the_directory_of_one_that_ended_well_is_run(tmp_path: Path) -> None:
    assert started(a_job(tmp_path, 0)) == 0
    assert started(a_job(tmp_path, 0, key="another")) == 0
    assert len((tmp_path / "job" / "runs").read_text()) == 2


def test_a_directory_without_a_job_is_wrong_usage(tmp_path: Path) -> None:
    assert started(tmp_path) == 2
