"""What the embedded CAF is given in the benchmark: input files that say how long to sleep, and requests over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from b2cal_caf.root_files import root_bytes
from b2cal_core.ports import BatchBackend, CafObserver, CafRequest, CafResult
from b2cal_core.ranges import ExpRun, IoV
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf

_SCRIPT = Path(__file__).with_name("orchestration_script.py")
_EVERYTHING = IoV(0, 0, 99, 9999)
_DATA, REQUEST = "data", "request"


class Silent(CafObserver):
    """Hears everything and says nothing."""

    def state(self, calibration: str, state: str, iteration: int) -> None:
        """Nothing."""

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """Nothing."""

    def log(self, message: str) -> None:
        """Nothing."""


def lay_out(directory: Path, sleeps: Mapping[str, Sequence[int]]) -> None:
    """Write one input file per sub-job: calibration to milliseconds; each is a file of its own, with one event."""
    content = root_bytes(lambda root: root.mktree("tree", {"x": np.dtype("f8")}).extend({"x": np.zeros(1)}), None)
    for calibration, milliseconds in sleeps.items():
        folder = directory / _DATA / calibration
        folder.mkdir(parents=True)
        for number, duration in enumerate(milliseconds):
            (folder / f"{number:06}_{duration}.root").write_bytes(content)


def files(directory: Path) -> list[Path]:
    """The input files below the directory, in order."""
    return sorted((directory / _DATA).glob("*/*.root"))


def batch_system(name: str, places: int) -> BatchBackend:
    """The batch system of that name; places are those of the local one, HTCondor has its own."""
    if name == "htcondor":
        from resources.batch.htcondor import HTCondorBatch  # noqa: PLC0415 (needs its bindings)

        return HTCondorBatch()
    return LocalBatch(places)


def run_caf(
    directory: Path,
    batch: BatchBackend,
    calibrations: Sequence[Mapping[str, Any]],
    **config: Any,  # noqa: ANN401 (as expert_config)
) -> CafResult:
    """Run the calibrations over what was laid out there.

    Raises:
        RuntimeError: a calibration failed, or something was not collected but taken from the cache.
    """
    request = CafRequest(
        directory / REQUEST,
        _SCRIPT,
        database_chain=(),
        requested_iov=_EVERYTHING,
        input_data={"waits": tuple((file, ExpRun(1, 1)) for file in files(directory))},
        expert_config={"calibrations": list(calibrations), **config},
    )
    result = EmbeddedCaf(batch, None, directory / "cache").run(request, Silent())
    if not result.ok or result.collected.cached:
        raise RuntimeError(f"{result.collected.cached} sub-jobs came from the cache, errors: {result.errors}")
    return result
