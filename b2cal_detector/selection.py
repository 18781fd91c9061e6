"""Which of the offered files a calibration script reads, and the IoV its payloads get."""

from collections.abc import Mapping
from pathlib import Path

import uproot

from b2cal_caf.calibration import InputData
from b2cal_core.errors import DataError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_detector.configuration import ExpertConfig
from b2cal_detector.event_files import EVENTS


def open_ended(requested_iov: IoV) -> IoV:
    """From the first run of the bucket on, for ever: until the next bucket closes it."""
    return IoV(*requested_iov.start, -1, -1)


def chosen_files(input_data: InputData, names: tuple[str, ...], config: ExpertConfig) -> dict[Path, ExpRun]:
    """The files of these inputs within the limits of the configuration, in order.

    Raises:
        DataError: an input has no file at all.
    """
    chosen: dict[Path, ExpRun] = {}
    for name in names:
        offered = input_data.get(name) or {}
        if not offered:
            msg = f"input {name} has no files; no run of the bucket passes its filters or its data have not arrived"
            raise DataError(msg)
        for run, files in _by_run(offered).items():
            chosen |= dict.fromkeys(_limited(files, config), run)
    return chosen


def _by_run(offered: Mapping[str, IoV]) -> dict[ExpRun, list[Path]]:
    runs: dict[ExpRun, list[Path]] = {}
    for path, iov in offered.items():
        runs.setdefault(ExpRun(iov.exp_low, iov.run_low), []).append(Path(path))
    return runs


def _limited(files: list[Path], config: ExpertConfig) -> list[Path]:
    if config.max_files_per_run >= 0:
        files = files[: config.max_files_per_run]
    if config.max_events_per_run < 0:
        return files
    taken, events = [], 0
    for file in files:
        if events >= config.max_events_per_run:
            break
        taken.append(file)
        events += _events(file)
    return taken


def _events(file: Path) -> int:
    try:
        with uproot.open(file) as root:
            return int(root[EVENTS].num_entries)
    except (OSError, KeyError, ValueError, uproot.DeserializationError):
        return 0  # damaged files are reported by name when the collections are checked
