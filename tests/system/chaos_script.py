"""A calibration script for the chaos test: adds up the numbers of its files; some of its sub-jobs fail, each once.

A sub-job that begins holds a lock that is free again the moment its process is dead, and writes down what it does: so
the diary tells whether anything ran twice at the same time, whatever was killed when.
"""

import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from b2cal_caf.calibration import (
    Algorithm,
    Calibration,
    Collection,
    Collector,
    ConditionsReader,
    Execution,
    InputData,
    Step,
    Sums,
)
from b2cal_core.ranges import ExpRun
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import AlgResult, SequentialRunByRun

FAILING, HUNGRY = 0.005, 0.010
"""Shares of the sub-jobs that fail at random, and of those that take more memory than they are given."""
FAILURES = ("killed", "no output", "node lost")
MEMORY = "memory"
HELD_MB = 450
PATIENCE_SECONDS = 600.0
_PAGE = 4096
_LONGEST_LINE = 500

settings = CalibrationSettings(
    name="Chaos",
    input_data_formats=["raw"],
    input_data_names=["numbers"],
    produced_payloads=["Totals"],
    expert_config={"calibrations": [], "collections": [], "place": "", "seed": 0},
)


def trouble_of(key: str, seed: int) -> str:
    """What happens to a sub-job the first time; nothing with most of them."""
    draw = int.from_bytes(sha256(f"{seed} {key}".encode()).digest()[:8]) / 2**64
    if draw < FAILING:
        return FAILURES[int(draw / FAILING * len(FAILURES))]
    return MEMORY if draw < FAILING + HUNGRY else ""


@dataclass(frozen=True)
class Adder(Collector):
    """Gives the number of a file, after writing down that it began; ``place`` is a directory for that, if any."""

    place: str = ""
    seed: int = 0

    def count(self, file: Path) -> int:
        return 1

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Sums]:
        if self.place:
            with written_down(Path(self.place), file.stem):
                self.misbehave(file.stem)
        number = int(file.stem.rpartition("_")[2])
        return {"numbers": Sums(files=np.array([1]), total=np.array([number]), squares=np.array([number**2]))}

    def misbehave(self, key: str) -> None:
        """Fail as this sub-job does, unless it did so before."""
        trouble = trouble_of(key, self.seed)
        if trouble and first_time(Path(self.place) / "troubles" / key):
            write_line(Path(self.place), "fails", key, trouble)
            fail(trouble)


class Totals(Algorithm):
    """Saves what all collections have in the runs."""

    def __init__(self, collections: list[str]) -> None:
        self.collections = collections

    def calibrate(self, execution: Execution) -> AlgResult:
        found = [execution.data.sums("numbers", collection) for collection in self.collections]
        execution.save("Totals", {column: np.concatenate([sums[column] for sums in found]) for column in found[0]})
        return AlgResult.ok


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:
    """The calibrations, each with all collections; a file is called ``<calibration>_<collection>_<number>.root``."""
    config = kwargs["expert_config"]
    files: dict[tuple[str, str], dict[Path, ExpRun]] = {}
    for name, iov in input_data["numbers"].items():
        calibration, collection, _ = Path(name).stem.split("_")
        files.setdefault((calibration, collection), {})[Path(name)] = ExpRun(iov.exp_low, iov.run_low)
    adder, wanted = Adder(config["place"], config["seed"]), config["collections"]
    return [
        Calibration(
            calibration,
            {name: Collection(adder, files[calibration, name]) for name in wanted},
            [Step(Totals(wanted), SequentialRunByRun())],
        )
        for calibration in config["calibrations"]
    ]


def fail(trouble: str) -> None:
    """End this process, or have it ended, as the word says; it does not return in time."""
    if trouble == MEMORY:
        held = bytearray(HELD_MB * 2**20)
        held[::_PAGE] = b"x" * len(held[::_PAGE])
        time.sleep(PATIENCE_SECONDS)
    elif trouble == "no output":
        os._exit(0)
    elif trouble == "node lost" and "_CONDOR_SCRATCH_DIR" in os.environ:
        os.kill(os.getppid(), signal.SIGKILL)  # what looks after the job on its machine
        time.sleep(PATIENCE_SECONDS)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def first_time(marker: Path) -> bool:
    """Whether nobody asked before."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@contextmanager
def written_down(place: Path, key: str) -> Iterator[None]:
    """Write down begin and end, and before that whether another process is at the same sub-job."""
    with (place / "locks" / key).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            write_line(place, "twice", key)
        write_line(place, "begin", key)
        yield
        write_line(place, "end", key)


def write_line(place: Path, what: str, key: str, detail: str = "") -> None:
    """Add a line to the diary, whole and in order; the clock is one for all processes of the machine."""
    line = f"{time.monotonic():.6f}\t{what}\t{key}\t{os.getpid()}\t{socket.gethostname()}\t{detail}\n".encode()
    descriptor = os.open(place / "diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(descriptor, line)
    finally:
        os.close(descriptor)
    if written != len(line) or written > _LONGEST_LINE:
        raise OSError(f"the line {line!r} may have been written in part")
