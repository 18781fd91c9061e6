"""The process that works on the chaos test's request: ``python chaos_orchestrator.py PLACE BATCH``.

It is started again and again until it ends by itself, and is told nothing but where the request lies.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from b2cal_core.failure_policies import CausePolicy, FailurePolicy
from b2cal_core.jobs import Cause
from b2cal_core.ports import CafObserver, CafRequest
from b2cal_core.ranges import ExpRun, IoV
from resources.batch.opened import open_batch
from resources.caf.embedded import EmbeddedCaf

PLACES = 4
MEMORY = "250 MB"
RUNS = 4
SCRIPT = Path(__file__).with_name("chaos_script.py")
EVERYTHING = IoV(0, 0, 99, 9999)
ONE_MACHINE = FailurePolicy(causes={Cause.killed: CausePolicy(attempts=2), Cause.node: CausePolicy(attempts=5)})
"""The default, but for keeping away from a machine: there is no other."""


class Log(CafObserver):
    """Prints what people would be told."""

    def state(self, calibration: str, state: str, iteration: int) -> None:
        self.log(f"{calibration} {state} {iteration}")

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        self.log(f"{calibration} {dict(counts)}")

    def log(self, message: str) -> None:
        sys.stdout.write(message + "\n")
        sys.stdout.flush()


def main(place: Path, batch: str) -> int:
    """Run the request that ``place`` describes; 0 when all of its calibrations completed."""
    asked = json.loads((place / "request.json").read_text())
    files = sorted(Path(asked["data"]).iterdir())
    request = CafRequest(
        place / "request",
        SCRIPT,
        database_chain=(),
        requested_iov=EVERYTHING,
        input_data={"numbers": tuple((file, run_of(file)) for file in files)},
        expert_config=asked["config"],
        backend_args={"request_memory": MEMORY, "max_files_per_job": asked["files_per_job"]},
        failure_policy=ONE_MACHINE,
    )
    result = EmbeddedCaf(open_batch(batch, max_processes=PLACES), None, place / "cache").run(request, Log())
    sys.stderr.writelines(f"{error}\n" for error in result.errors.values())
    return 0 if result.ok else 1


def run_of(file: Path) -> ExpRun:
    """The run that an input file belongs to."""
    return ExpRun(7, 1 + int(file.stem.rpartition("_")[2]) % RUNS)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
