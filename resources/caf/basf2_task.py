"""The files of the basf2 adapter in a request's directory, beside those that ``b2cal_caf.layout`` names.

::

    basf2_request.json                the identity of the inputs that ``calibration_results`` belongs to
    basf2_run.sh                      the command, with the set-up
    basf2_stdout, basf2_stderr        what the tool says
    basf2_process.json, basf2_lock    which process works there; held by it
    basf2_end                         how it ended
    basf2_inputs/                     links to files, where a directory holds more than was asked for
    basf2_inputs.json                 what the tool was given
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.layout import RequestLayout
from b2cal_core.ports import CafObserver, CafRequest


@dataclass(frozen=True, slots=True)
class Basf2Task:
    """A request being worked on.

    Attributes:
        identity: of the inputs.
    """

    request: CafRequest
    layout: RequestLayout
    identity: str
    observer: CafObserver

    @property
    def script(self) -> Path:
        """The command, with the set-up."""
        return self.layout.directory / "basf2_run.sh"

    @property
    def stdout(self) -> Path:
        """What the tool says."""
        return self.layout.directory / "basf2_stdout"

    @property
    def stderr(self) -> Path:
        """What it says of errors."""
        return self.layout.directory / "basf2_stderr"

    @property
    def process(self) -> Path:
        """Which process works there."""
        return self.layout.directory / "basf2_process.json"

    @property
    def lock(self) -> Path:
        """Held by that process."""
        return self.layout.directory / "basf2_lock"

    @property
    def end(self) -> Path:
        """How it ended."""
        return self.layout.directory / "basf2_end"

    @property
    def links(self) -> Path:
        """Links to files, where a directory holds more than was asked for."""
        return self.layout.directory / "basf2_inputs"

    @property
    def kept_identity(self) -> Path:
        """The identity of the inputs that the results belong to."""
        return self.layout.directory / "basf2_request.json"

    @property
    def kept_inputs(self) -> Path:
        """What the tool was given."""
        return self.layout.directory / "basf2_inputs.json"

    def make_room(self) -> bool:
        """Remove the results of other inputs, so that the two are never mixed; returns whether there were any."""
        layout, identity = self.layout, {"identity": self.identity}
        layout.result.unlink(missing_ok=True)
        there = layout.results.exists()
        if there and read_json(self.kept_identity) == identity and not layout.request_identity.exists():
            return False
        if there:
            self.observer.log(f"the inputs changed since {layout.results} was written; starting anew")
            shutil.rmtree(layout.results, ignore_errors=True)
        shutil.rmtree(layout.all_exported, ignore_errors=True)
        write_json(self.kept_identity, identity)
        return there

    def is_started(self) -> bool:
        """Whether the tool has got beyond asking the script: it has written its state database."""
        database = self.layout.state_db
        return database.exists() and database.stat().st_mtime_ns >= self.script.stat().st_mtime_ns
