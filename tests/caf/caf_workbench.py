"""What the tests of the CAF work with: tiny input files, requests over them, and an observer that remembers."""

import os
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import read_payload, write_payload
from b2cal_core.errors import BackendError
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.jobs import JobSpec
from b2cal_core.ports import CafObserver, CafRequest, CafResult
from b2cal_core.ranges import ExpRun, IoV
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf

EVERYTHING = IoV(0, 0, 99, 9999)
SCRIPT = Path(__file__).parent / "synthetic" / "caf_synthetic.py"


class Notebook(CafObserver):
    """Remembers all it hears; may kill its process or call back after so many events."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.kill_after = kill_after

    def state(self, calibration: str, state: str, iteration: int) -> None:
        self.hear("state", calibration, state, iteration)

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        self.hear("jobs", calibration, dict(counts))

    def log(self, message: str) -> None:
        self.hear("log", message)

    def hear(self, *event: Any) -> None:
        self.events.append(event)
        if self.kill_after is not None and len(self.events) >= self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def states(self, calibration: str) -> list[str]:
        return [event[2] for event in self.events if event[:2] == ("state", calibration)]

    @property
    def logs(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "log"]


class Reluctant(LocalBatch):
    """A local batch system that takes no jobs at first, as one whose server is being restarted."""

    def __init__(self, refusals: int, *, transient: bool = True) -> None:
        super().__init__(2)
        self.refusals, self.transient = refusals, transient

    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        if self.refusals:
            self.refusals -= 1
            raise BackendError("the queue is being restarted", transient=self.transient)
        return super().submit(specs)


class Workbench:
    """A place with input files, a diary of what was done, and one CAF."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.diary = place / "diary"
        self.cancelled = threading.Event()

    def caf(self, cache: str = "cache") -> EmbeddedCaf:
        return EmbeddedCaf(LocalBatch(2), None, self.place / cache)

    def files(self, runs: Iterable[tuple[int, int, int]], folder: str = "data") -> tuple[tuple[Path, ExpRun], ...]:
        """One file per (exp, run, events); the values are their numbers, times the run."""
        return tuple((self.file(f"{folder}/e{e}r{r}.root", n, factor=r), ExpRun(e, r)) for e, r, n in runs)

    def kept_files(self, runs: Iterable[tuple[int, int, int]]) -> tuple[tuple[Path, ExpRun], ...]:
        """Like ``files``; what was made before is not written again."""
        return tuple(
            pair
            for e, r, n in runs
            for pair in (
                [(self.place / f"data/e{e}r{r}.root", ExpRun(e, r))]
                if (self.place / f"data/e{e}r{r}.root").exists()
                else self.files([(e, r, n)])
            )
        )

    def file(self, name: str, events: int, factor: float = 1.0) -> Path:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with uproot.recreate(path, compression=None) as root:
            tree = root.mktree("tree", {"x": np.dtype("f8")})
            if events:
                tree.extend({"x": np.arange(events) * factor})
        return path

    def request(
        self,
        inputs: Iterable[tuple[Path, ExpRun]],
        *,
        name: str = "request",
        iov: IoV = EVERYTHING,
        chain: tuple[str, ...] = (),
        script: Path = SCRIPT,
        args: Mapping[str, Any] | None = None,
        policy: FailurePolicy | None = None,
        **config: Any,
    ) -> CafRequest:
        beam = {"beam": tuple(inputs)}
        return CafRequest(self.place / name, script, chain, iov, beam, config, args or {}, policy or FailurePolicy())

    def run(self, request: CafRequest, observer: CafObserver | None = None, *, cache: str = "cache") -> CafResult:
        os.environ["SYNTHETIC_DIARY"] = str(self.diary)
        return self.caf(cache).run(request, observer or Notebook())

    def done(self, what: str = "collect") -> list[str]:
        """What was written into the diary of one kind of work."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        return [line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")]

    def constants(self, name: str, payloads: Mapping[str, Iterable[tuple[IoV, float]]]) -> Path:
        """A testing payload storage with single values."""
        database = LocalDatabase(self.place / name)
        for payload, entries in payloads.items():
            for number, (iov, value) in enumerate(entries):
                file = self.place / f"{name}_{payload}_{number}.root"
                write_payload(file, payload, {"value": np.array([value])})
                database.add(payload, file, iov)
        return database.directory


def values(directory: Path, name: str, column: str = "value") -> dict[tuple[int, int, int, int], float]:
    """IoV to the first number of a payload's column, for all payloads of one name."""
    return {
        entry.iov.as_tuple(): float(read_payload(entry.file, name)[column][0])
        for entry in LocalDatabase(directory).entries()
        if entry.name == name
    }


def contents(directory: Path) -> dict[str, bytes]:
    """Every visible file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
