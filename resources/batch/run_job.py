"""What a batch system starts: ``python -m resources.batch.run_job DIRECTORY`` runs the job that ``job.json`` describes.

Its output goes where the batch system was told to put it; its exit code is written to ``exit_code`` as the last thing.
A batch system may start a job again by itself: what the time before left is removed first, but for a job that has
ended well, which is not run again. HTCondor starts one whose end it was just told when it is killed itself.
"""

import importlib
import os
import re
import resource
import socket
import sys
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_atomically
from b2cal_caf.forks import exit_code_of
from b2cal_core.jobs import JobStatus
from resources.batch.job_directories import EXIT_CODE, PEAK_MEMORY, RECORD, clear_end, ended_state

HOST = "host"
"""File that holds the name of the machine the job was started on."""


def main(args: list[str]) -> int:
    """Run the job of the directory; returns its exit code."""
    if len(args) != 1:
        sys.stderr.write("usage: python -m resources.batch.run_job DIRECTORY\n")
        return 2
    directory = Path(args[0])
    record = read_json(directory / RECORD)
    if not isinstance(record, dict):
        sys.stderr.write(f"{directory} holds no readable {RECORD}; it is no directory of a batch job\n")
        return 2
    if (ended := ended_state(directory)) is not None and ended.status is JobStatus.completed:
        return 0
    clear_end(directory)
    write_atomically(directory / HOST, socket.gethostname().encode())
    os.environ.update(dict(record["environment"]))
    sys.path[:0] = [place for place in dict(record["environment"]).get("PYTHONPATH", "").split(os.pathsep) if place]
    os.chdir(directory)
    code = exit_code_of(lambda: int(importlib.import_module(record["module"]).main(list(record["args"])) or 0))
    sys.stdout.flush()
    sys.stderr.flush()
    write_atomically(directory / PEAK_MEMORY, f"{_peak_memory()}\n".encode())
    write_atomically(directory / EXIT_CODE, f"{code}\n".encode())
    return code


def _peak_memory() -> int:
    """MB of this process, or of the largest that it started.

    The kernel's own count for this process (``ru_maxrss``) begins with what the one had that started it.
    """
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    most = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return -(-max(most, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
