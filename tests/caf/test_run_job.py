"""What a batch system starts, and may start again by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from b2cal_core.jobs import JobSpec
from resources.batch.job_directories import EXIT_CODE, ended_state, write_record

MODULE = """
def main(args):
    with open(args[0], "a") as diary:
        diary.write("run\\n")
    return int(args[1])
"""


@pytest.mark.parametrize(("code", "times"), [(0, 1), (3, 2)])
def test_a_job_that_ended_well_is_not_run_again_when_its_batch_system_starts_it_again(
    tmp_path: Path, code: int, times: int
) -> None:
    (tmp_path / "some_job.py").write_text(MODULE)
    args, found = (str(tmp_path / "diary"), str(code)), (("PYTHONPATH", str(tmp_path)),)
    spec = JobSpec("key", tmp_path / "job", "some_job", args, environment=found)
    write_record(spec, backend="any")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-m", "resources.batch.run_job", str(spec.directory)], check=False)
        assert done.returncode == code
        ended = ended_state(spec.directory)
        assert ended is not None
        assert 5 < (ended.peak_memory or 0) < 500
        assert (spec.directory / EXIT_CODE).read_text() == f"{code}\n"
    assert (tmp_path / "diary").read_text() == "run\n" * times
