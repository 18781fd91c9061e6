"""An HTCondor pool of the benchmark's own, and what one cluster of jobs takes there that nobody looks after."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TESTS = Path(__file__).parent.parent / "tests"


@contextmanager
def condor_pool() -> Iterator[int]:
    """Start a pool that this process and its children find; gives the number of its slots."""
    sys.path.insert(0, str(_TESTS))
    from servers.htcondor import SLOTS, HTCondorPool  # noqa: PLC0415 (needs the packages of the tests)

    pool = HTCondorPool()
    before = dict(os.environ)
    os.environ.update(pool.environment)
    try:
        yield SLOTS
    finally:
        os.environ.clear()
        os.environ.update(before)
        pool.close()


def cluster(directory: str, jobs: int) -> None:
    """Submit one cluster of interpreters that do nothing, and wait for its last job (called in its own process)."""
    root = Path(directory)
    (root / "log").touch()
    description = f"""
        universe = vanilla
        executable = {sys.executable}
        arguments = "-c pass"
        transfer_executable = False
        should_transfer_files = NO
        initialdir = {root}
        log = {root / "log"}
        queue {jobs}
    """
    (root / "description").write_text(description)
    for command in (["condor_submit", "-terse", str(root / "description")], ["condor_wait", str(root / "log")]):
        program = shutil.which(command[0])
        assert program
        subprocess.run([program, *command[1:]], check=True, capture_output=True)
