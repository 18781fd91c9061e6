"""Run records as JSON: the form in which feeds hand them over and registries keep them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from b2cal_core.errors import DataError
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from resources.sql_database import utc_text

_FILE_FIELDS = tuple(field.name for field in fields(DataFile))


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """The record as a mapping of JSON values; times in UTC."""
    return {
        "exp": record.run.exp,
        "run": record.run.run,
        "run_type": record.run_type,
        "beam_energy": record.beam_energy,
        "magnet": record.magnet,
        "quality": sorted(record.quality),
        "started": utc_text(record.started, f"{record.run}"),
        "ended": utc_text(record.ended, f"{record.run}"),
        "files": [{name: getattr(file, name) for name in _FILE_FIELDS} for file in record.files],
    }


def record_from_json(content: Mapping[str, Any], source: str = "run record") -> RunRecord:
    """The record written as a mapping; ``DataError`` naming ``source`` and the field when it is not one."""
    try:
        return RunRecord(
            ExpRun(int(content["exp"]), int(content["run"])),
            str(content["run_type"]),
            str(content["beam_energy"]),
            str(content["magnet"]),
            frozenset(content["quality"]),
            datetime.fromisoformat(content["started"]),
            datetime.fromisoformat(content["ended"]),
            tuple(DataFile(**file) for file in content["files"]),
        )
    except KeyError as error:
        raise DataError(f"{source} has no field {error}; every field of a run record is needed") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{source} is not a run record: {error}; correct it at the feed") from error


def read_records(file: Path) -> Iterator[RunRecord]:
    """The records of a file with one JSON object per line; blank lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is no record; the message names file and line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the feed {file} cannot be read: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _parse(line, f"{file}, line {number},")


def write_records(file: Path, records: Iterable[RunRecord]) -> None:
    """Write the form that ``read_records`` reads."""
    file.write_text("".join(json.dumps(record_to_json(record)) + "\n" for record in records), encoding="utf-8")


def _parse(line: str, source: str) -> RunRecord:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{source} is not JSON: {error}; correct it at the feed") from error
    if not isinstance(content, dict):
        raise DataError(f"{source} is {type(content).__name__} where an object with the fields of a run is expected")
    return record_from_json(content, source)
