"""What a validation reads of a finished CAF request: its payloads, its collector output, and the former constants."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from b2cal_caf.collected import OUTPUT_FILE, CollectorFiles
from b2cal_caf.layout import RequestLayout, iteration_layout
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import read_payload
from b2cal_core.errors import DataError
from b2cal_core.ranges import ExpRun, IoV

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class ValidPayload:
    """One payload with its IoV."""

    iov: IoV
    columns: Columns


class FinishedJob:
    """A CAF request that is done.

    Args:
        job_path: the directory of the request.
    """

    def __init__(self, job_path: Path) -> None:
        self._layout = RequestLayout(job_path)

    def payloads(self, calibration: str, name: str) -> list[ValidPayload]:
        """The payloads that a calibration made, in order of their IoVs; ``DataError`` when there is none."""
        database = LocalDatabase(self._layout.outputdb(calibration))
        found = [ValidPayload(e.iov, read_payload(e.file, name)) for e in database.entries() if e.name == name]
        if not found:
            msg = f"calibration {calibration} left no {name} in {database.directory}; run it again before validating"
            raise DataError(msg)
        return sorted(found, key=lambda payload: payload.iov.start)

    def collected(self, calibration: str, iteration: int = -1) -> CollectorFiles:
        """What the default collection of an iteration collected; by default of the last one."""
        number = range(self.iterations(calibration))[iteration]
        outputs = iteration_layout(self._layout, calibration, number).directory / "collector_output" / "default"
        return CollectorFiles({"default": sorted(outputs.glob(f"*/{OUTPUT_FILE}"), key=lambda p: int(p.parent.name))})

    def iterations(self, calibration: str) -> int:
        """How many passes the calibration took; ``DataError`` when it took none."""
        numbers = [int(p.name) for p in self._layout.calibration(calibration).glob("[0-9]*") if p.name.isdigit()]
        if not numbers:
            msg = f"calibration {calibration} has no iteration in {self._layout.results}; run it before validating"
            raise DataError(msg)
        return max(numbers) + 1

    def before(self, name: str, run: ExpRun) -> Columns | None:
        """The constants that the request started from, as far as they lie in its directory or its chain."""
        chain = json.loads(self._layout.config.read_bytes())["database_chain"] if self._layout.config.exists() else []
        for directory in (*(Path(entry) for entry in reversed(chain)), self._layout.constants):
            columns = valid_columns(LocalDatabase(directory), name, run)
            if columns is not None:
                return columns
        return None


def valid_columns(database: LocalDatabase | None, name: str, run: ExpRun) -> Columns | None:
    """The columns of the payload valid in a run, if there is one."""
    found = None if database is None else database.find(name, run)
    return None if found is None else read_payload(found.file, name)


def payload_of(payloads: list[ValidPayload], run: ExpRun) -> ValidPayload:
    """The payload that is valid in the run; ``DataError`` when none is."""
    for payload in payloads:
        if payload.iov.contains(run):
            return payload
    msg = f"no payload is valid in {run}; the calibration left {', '.join(str(p.iov) for p in payloads)}"
    raise DataError(msg)


def previous_payload(previous: LocalDatabase | None, name: str, requested_iov: IoV) -> Columns | None:
    """What was valid before the bucket, with errors beside the values, or nothing to compare with."""
    if previous is None:
        return None
    run, exp = requested_iov.run_low, requested_iov.exp_low
    last = [entry for entry in previous.entries() if entry.name == name and entry.iov.start < (exp, run)]
    if not last:
        return None
    columns = read_payload(max(last, key=lambda entry: entry.iov.start).file, name)
    return columns if any(column.endswith("_err") for column in columns) else None


def change_in_sigma(now: Columns, before: Columns, column: str) -> np.ndarray:
    """Difference of a column in units of both errors; only where both errors are finite."""
    error = np.hypot(now[f"{column}_err"], before[f"{column}_err"])
    known = np.isfinite(error) & (error > 0)
    change: np.ndarray = (now[column] - before[column])[known] / error[known]
    return change


def root_mean_square(values: np.ndarray) -> float:
    """Root of the mean of the squares; not a number when there is no value."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else float("nan")
