"""The entry point of a collector sub-job: ``python -m b2cal_caf.collect_job DIRECTORY``.

The directory holds ``collector.json``: the collector, the files with their runs and events, and the databases of its
chain. The output lies beside it when the job is done. A file that cannot be read is named in ``unreadable.json``: that
is no fault of the collector.
"""

import sys
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import DISK_FULL_ERRORS, read_json, write_json
from b2cal_caf.collected import OUTPUT_FILE, CollectedHeap
from b2cal_caf.collector_identity import revive
from b2cal_caf.conditions import ChainReader
from b2cal_caf.root_files import root_damage
from b2cal_core.errors import ConfigurationError
from b2cal_core.jobs import EXIT_DISK_FULL, EXIT_NO_INPUT
from b2cal_core.ranges import ExpRun

DESCRIPTION = "collector.json"
UNREADABLE = "unreadable.json"


class _UnreadableError(Exception):
    """An input file cannot be read."""


def main(args: list[str]) -> int:
    """Run the sub-job described in the directory; returns the exit code."""
    if len(args) != 1:
        sys.stderr.write("usage: python -m b2cal_caf.collect_job DIRECTORY\n")
        return 2
    directory = Path(args[0])
    try:
        collect(directory)
    except _UnreadableError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NO_INPUT
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
            if (damage := _damage(Path(file["path"]))) is not None:
                write_json(directory / UNREADABLE, {"path": file["path"], "reason": damage})
                raise _UnreadableError(f"{file['path']} cannot be read: {damage}") from error
            error.add_note(f"while {name} read {file['path']} of {run}")
            raise
        print(f"{file['path']}: {run}, {file['events']} events", flush=True)  # noqa: T201 (the job's own log)
    heap.write(directory / OUTPUT_FILE)


def _damage(path: Path) -> str | None:
    """What is wrong with an input file, when it is the file."""
    try:
        return root_damage(path)
    except OSError as error:
        return error.strerror or str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
