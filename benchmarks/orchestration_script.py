"""A calibration script that only waits: its sub-jobs and algorithms write down when they began and ended.

Input files are called ``<folder of the calibration>/<number>_<milliseconds>.root``; a sub-job sleeps as long as its
file's name says, times ``scale``. Constants are passed on, so that every pass and every link collects anew.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from b2cal_caf.calibration import (
    Algorithm,
    Calibration,
    Collectable,
    Collection,
    Collector,
    ConditionsReader,
    Execution,
    InputData,
    Step,
)
from b2cal_core.ranges import ExpRun
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import AlgResult

_PAYLOAD = "Turn"
_MEMORY = 500
"""MB, so that a slot of any pool has room for a sub-job."""
settings = CalibrationSettings(
    name="Orchestration benchmark",
    input_data_formats=["raw"],
    input_data_names=["waits"],
    produced_payloads=[_PAYLOAD],
    expert_config={"calibrations": [], "diary": "", "scale": 1.0},
)


@dataclass(frozen=True)
class Nothing(Collector):
    """Does nothing at all, and lets a file count as one event without opening it."""

    granularity = "all"

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:  # noqa: ARG002 (nothing is read)
        """Nothing."""
        return {}

    def count(self, file: Path) -> int:  # noqa: ARG002 (it is not opened)
        """One."""
        return 1


@dataclass(frozen=True)
class Sleeper(Nothing):
    """Sleeps, and writes down when; what it reads is made anew in every pass of its own and upstream calibrations."""

    calibration: str = ""
    diary: str = ""
    scale: float = 1.0

    reads = (_PAYLOAD,)

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:  # noqa: ARG002 (nothing is read)
        """Nothing, after a while."""
        begin = time.monotonic()
        time.sleep(_milliseconds(file) / 1000 * self.scale)
        _write_down(self.diary, "collect", self.calibration, begin)
        return {}

    def count(self, file: Path) -> int:
        """As many events as milliseconds: a platform may know how long a sub-job takes compared with others."""
        return _milliseconds(file) or 1


class Turn(Algorithm):
    """Says in which pass it is, and asks for another until it had those it was told."""

    def __init__(self, calibration: str, passes: int, diary: str) -> None:
        self._calibration, self._passes, self._diary = calibration, passes, diary

    def calibrate(self, execution: Execution) -> AlgResult:
        """Pass on the number of the pass."""
        begin = time.monotonic()
        execution.save(_PAYLOAD, {"turn": np.array([execution.iteration])})
        if self._diary:
            _write_down(self._diary, "calibrate", self._calibration, begin)
        return AlgResult.iterate if execution.iteration + 1 < self._passes else AlgResult.ok


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (as basf2 calls it)
    """The calibrations of ``expert_config``, each over the files in the folder of its name."""
    config = kwargs["expert_config"]
    files: dict[str, dict[Path, ExpRun]] = {}
    for name, iov in input_data["waits"].items():
        files.setdefault(Path(name).parent.name, {})[Path(name)] = ExpRun(iov.exp_low, iov.run_low)
    made: dict[str, Calibration] = {}
    for options in config["calibrations"]:
        name, passes = options["name"], options.get("passes", 1)
        collector = Sleeper(name, config["diary"], config["scale"]) if config["diary"] else Nothing()
        collection = Collection(collector, files[name], max_files_per_job=1, memory=_MEMORY)
        made[name] = Calibration(name, {"default": collection}, [Step(Turn(name, passes, config["diary"]))])
        made[name].max_iterations = passes
        for needed in options.get("depends_on", ()):
            made[name].depends_on(made[needed])
    return list(made.values())


def _milliseconds(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def _write_down(diary: str, what: str, calibration: str, begin: float) -> None:
    """Add a line; times are seconds of the clock that all processes of a machine share."""
    line = f"{what} {calibration} {begin:.6f} {time.monotonic():.6f}\n"
    descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
