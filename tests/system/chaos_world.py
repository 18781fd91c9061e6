"""A request of many sub-jobs, and a supervisor that ends the process that works on it and starts it again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from chaos_diary import Diary

from b2cal_caf.layout import RequestLayout
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import read_payload
from b2cal_caf.root_files import root_bytes

MARK = "B2CAL_TEST_CHAOS"
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.1
_ORCHESTRATOR = Path(__file__).with_name("chaos_orchestrator.py")

Disturbance = Callable[["subprocess.Popen[bytes]"], object]


@dataclass(frozen=True, slots=True)
class World:
    """Calibrations that each have the same collections, of equally many input files.

    Attributes:
        directory: its own, made by ``lay_out``; each request has a place of its own below.
        files: per collection; also the sub-jobs, where these have one file each.
    """

    directory: Path
    calibrations: tuple[str, ...]
    collections: tuple[str, ...]
    files: int

    @property
    def keys(self) -> list[str]:
        """The names of the input files, without their endings."""
        return [
            f"{calibration}_{collection}_{number:05}"
            for calibration in self.calibrations
            for collection in self.collections
            for number in range(self.files)
        ]

    def lay_out(self) -> None:
        """Write the input files."""
        content = root_bytes(lambda root: root.mktree("tree", {"x": np.dtype("f8")}).extend({"x": np.zeros(1)}), None)
        data = self.directory / "data"
        data.mkdir(parents=True)
        for key in self.keys:
            (data / f"{key}.root").write_bytes(content)

    def place(self, name: str, *, files_per_job: int, seed: int | None = None) -> "Place":
        """Where a request for all of it lies; with a seed, sub-jobs keep the diary, and some of them fail."""
        directory = self.directory / name
        for folder in ("locks", "troubles"):
            (directory / folder).mkdir(parents=True)
        wanted = {"calibrations": self.calibrations, "collections": self.collections}
        config = {**wanted, "place": "" if seed is None else str(directory), "seed": seed or 0}
        asked = {"data": str(self.directory / "data"), "config": config, "files_per_job": files_per_job}
        (directory / "request.json").write_text(json.dumps(asked))
        return Place(self, directory)


@dataclass(frozen=True, slots=True)
class Place:
    """A request for what a world has, and what comes of it."""

    world: World
    directory: Path

    @property
    def request(self) -> RequestLayout:
        """The files of the request."""
        return RequestLayout(self.directory / "request")

    @property
    def diary(self) -> Diary:
        """What the sub-jobs wrote down so far."""
        return Diary(self.directory / "diary").read_on()

    @property
    def last_lines(self) -> str:
        """The end of what the processes that worked on it had to say."""
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def start(self, batch: str) -> "subprocess.Popen[bytes]":
        """Start a process that works on the request."""
        command = [sys.executable, str(_ORCHESTRATOR), str(self.directory), batch]
        environment = {**os.environ, MARK: str(self.directory)}
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def payloads(self) -> dict[str, bytes]:
        """Every file handed over."""
        exported = self.request.all_exported
        return {str(file.relative_to(exported)): file.read_bytes() for file in exported.rglob("*") if file.is_file()}

    def totals(self) -> dict[str, list[tuple[int, int, int]]]:
        """Calibration to the files, numbers and squares that went into its payloads, by collection."""
        found = {}
        for calibration in self.world.calibrations:
            entries = LocalDatabase(self.request.exported(calibration)).entries()
            columns = [read_payload(entry.file, "Totals") for entry in entries]
            sums = [np.sum([one[name] for one in columns], axis=0).tolist() for name in ("files", "total", "squares")]
            found[calibration] = list(zip(*sums, strict=True))
        return found

    def left_over(self) -> list[psutil.Process]:
        """Processes of the request that still run on this machine; what another batch system started has no mark."""
        mark = f"{MARK}={self.directory}".encode()
        return [psutil.Process(pid) for pid in psutil.pids() if mark in _environment(pid)]


def supervise(
    place: Place, batch: str, disturbances: Sequence[tuple[float, Disturbance]] = (), *, patience: float
) -> None:
    """Work on the request to its end; a process that was killed is started again, as any supervisor would.

    Args:
        place: of the request.
        batch: the kind of batch system.
        disturbances: each with the share of the sub-jobs that have ended before it is done, in order.
        patience: seconds that all of it may take.
    """
    waiting = list(disturbances)
    diary, total, end = place.diary, len(place.world.keys), time.monotonic() + patience
    process = place.start(batch)
    try:
        while (code := process.poll()) is None or code == -9:
            if code is not None:
                process = place.start(batch)
            if waiting and diary.read_on().ended >= waiting[0][0] * total:
                waiting.pop(0)[1](process)
            assert time.monotonic() < end, f"{diary.read_on().ended} of {total} sub-jobs ended\n{place.last_lines}"
            time.sleep(LOOK_SECONDS)
    finally:
        kill(process)
    assert process.returncode == 0, place.last_lines
    assert not waiting


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End the process at once, without a word to anybody."""
    process.kill()
    process.wait(STOP_SECONDS)


def _environment(pid: int) -> list[bytes]:
    """What the process was started with; nothing of one that has ended, or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
