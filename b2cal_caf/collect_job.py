"""The entry point of a collector sub-job: ``python -m b2cal_caf.collect_job DIRECTORY``.

The directory holds ``collector.json``: the collector, the files with their runs and events, and the databases of its
chain. The output lies beside it when the job is done.
"""

import sys
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import DISK_FULL_ERRORS, read_json
from b2cal_caf.collected import OUTPUT_FILE, CollectedHeap
from b2cal_caf.collector_identity import revive
from b2cal_caf.conditions import ChainReader
from b2cal_core.errors import ConfigurationError
from b2cal_core.jobs import EXIT_DISK_FULL
from b2cal_core.ranges import ExpRun

DESCRIPTION = "collector.json"


def main(args: list[str]) -> int:
    """Run the sub-job described in the directory; returns the exit code."""
    if len(args) != 1:
        sys.stderr.write("usage: python -m b2cal_caf.collect_job DIRECTORY\n")
        return 2
    directory = Path(args[0])
    try:
        collect(directory)
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS:
            raise
        sys.stderr.write(f"OSError: no room left on the disk of {directory}; make room and run again\n")
        return EXIT_DISK_FULL
    return 0


def collect(directory: Path) -> None:
    """Collect what the description in the directory asks for."""
    described = read_json(directory / DESCRIPTION)
    if described is None:
        msg = f"{directory} holds no readable {DESCRIPTION}; it is no directory of a collector sub-job"
        raise ConfigurationError(msg)
    collector = revive(described["collector"])
    name = f"collector {type(collector).__name__}"
    conditions = ChainReader(map(Path, described["databases"]), allowed=(name, frozenset(collector.reads)))
    heap = CollectedHeap(collector.granularity)
    for file in described["files"]:
        run = ExpRun(file["exp"], file["run"])
        try:
            collected: Any = collector.collect(Path(file["path"]), run, conditions)
            heap.add(run, file["events"], collected)
        except Exception as error:
            error.add_note(f"while {name} read {file['path']} of {run}")
            raise
        print(f"{file['path']}: {run}, {file['events']} events", flush=True)  # noqa: T201 (the job's own log)
    heap.write(directory / OUTPUT_FILE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
