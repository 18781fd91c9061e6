"""Where the files of one request lie; the same layout as the CAF of basf2 leaves behind.

::

    <directory>/
      caf_config.json, input_data.json      what was asked for
      constants/                            the global tags, exported for the bucket
      calibration_results/
        caf_state.db
        <Calibration>/<iteration>/
          collector_input/<collection>/collector_job.json
          collector_output/<collection>/<sub-job>/   collector.json, stdout, stderr, exit_code, CollectorOutput.root
          algorithm_output/                 <Algorithm>_stdout, <Algorithm>_iov_gaps.json, results.json, outputdb/
        <Calibration>/outputdb/             copy of the last iteration's
      caf_outputdb_results/<Calibration>/   only where save_payloads is true
      result.json
"""

from dataclasses import dataclass
from pathlib import Path

RESULTS = "calibration_results"
EXPORTED = "caf_outputdb_results"
STATE_DB = "caf_state.db"


@dataclass(frozen=True, slots=True)
class RequestLayout:
    """The paths below the directory of a request."""

    directory: Path

    @property
    def config(self) -> Path:
        """What was asked for, as ``b2caf-prompt-run`` reads it."""
        return self.directory / "caf_config.json"

    @property
    def input_data(self) -> Path:
        """The input files that were asked for."""
        return self.directory / "input_data.json"

    @property
    def constants(self) -> Path:
        """Testing payload storage with what the global tags resolve to in the bucket."""
        return self.directory / "constants"

    @property
    def results(self) -> Path:
        """Everything the calibrations leave behind."""
        return self.directory / RESULTS

    @property
    def state_db(self) -> Path:
        """The checkpoints."""
        return self.results / STATE_DB

    @property
    def request_identity(self) -> Path:
        """The identity of the inputs that ``calibration_results`` belongs to."""
        return self.results / "request.json"

    @property
    def result(self) -> Path:
        """How the request ended."""
        return self.directory / "result.json"

    @property
    def all_exported(self) -> Path:
        """The folder of the payloads handed over."""
        return self.directory / EXPORTED

    def exported(self, calibration: str) -> Path:
        """The payloads handed over."""
        return self.directory / EXPORTED / calibration

    def calibration(self, name: str) -> Path:
        """Everything of one calibration."""
        return self.results / name

    def outputdb(self, name: str) -> Path:
        """The final payloads of a calibration."""
        return self.calibration(name) / "outputdb"


@dataclass(frozen=True, slots=True)
class IterationLayout:
    """The paths of one iteration of a calibration."""

    directory: Path

    def plan(self, collection: str) -> Path:
        """How the collection was split."""
        return self.directory / "collector_input" / collection / "collector_job.json"

    def subjob(self, collection: str, number: int) -> Path:
        """The directory of a sub-job."""
        return self.directory / "collector_output" / collection / str(number)

    @property
    def algorithm_output(self) -> Path:
        """What the algorithms write."""
        return self.directory / "algorithm_output"

    @property
    def outputdb(self) -> Path:
        """The payloads of this iteration."""
        return self.algorithm_output / "outputdb"

    @property
    def algorithm_results(self) -> Path:
        """What the algorithms answered; written last."""
        return self.algorithm_output / "results.json"


def iteration_layout(request: RequestLayout, calibration: str, iteration: int) -> IterationLayout:
    """The paths of an iteration, counted from 0."""
    return IterationLayout(request.calibration(calibration) / str(iteration))
