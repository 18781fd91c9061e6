"""The batch job that reconstructs one raw file.

Its argument is a directory with ``cdst_job.json``: ``input`` and ``output`` files, ``exp``, ``run``, ``tag``, and
``databases``, a list of testing payload storages of which the first that has a payload wins.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json
from b2cal_caf.conditions import ChainReader
from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from b2cal_detector.reconstruction import READS, reconstruct

__all__ = ["MEMORY", "READS", "main"]

MEMORY = 1000
"""MB that a job needs at most."""

_KEYS = ("input", "output", "exp", "run", "tag", "databases")


def main(args: Sequence[str]) -> int:
    """Reconstruct what the job directory asks for; the exit code is 0."""
    directory = Path(args[0])
    job = _read(directory / "cdst_job.json")
    conditions = ChainReader([Path(database) for database in job["databases"]], ("reconstruction", frozenset(READS)))
    reconstruct(Path(job["input"]), Path(job["output"]), ExpRun(job["exp"], job["run"]), conditions)
    return 0


def _read(path: Path) -> dict[str, Any]:
    job = read_json(path)
    if not isinstance(job, dict) or set(job) != set(_KEYS):
        found = sorted(job) if isinstance(job, dict) else "nothing readable"
        msg = f"{path} must be a JSON object with {', '.join(_KEYS)}; it has {found}"
        raise ConfigurationError(msg)
    return job


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
