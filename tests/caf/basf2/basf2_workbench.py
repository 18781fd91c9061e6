"""What tests of the basf2 adapter are made with: a release of named fakes, and requests of its script."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caf_workbench import SCRIPT, Workbench

from resources.caf.basf2 import Basf2Caf
from resources.caf.basf2_environment import Basf2Environment
from resources.caf.basf2_options import Basf2Options

FAKES = Path(__file__).parent / "fake_basf2"
PATIENCE = 120.0


class Basf2Workbench(Workbench):
    """A place with input files and a release whose tools are the named fakes.

    The release has the synthetic script under its name; ``more`` is added to the set-up command.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.release = place / "release"
        self.scripts = self.release / "calibration/scripts/prompt/calibrations"
        self.validations = self.release / "calibration/scripts/prompt/validations"
        for directory in (self.scripts, self.validations):
            directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(SCRIPT, self.scripts)

    def environment(self, more: str = "") -> Basf2Environment:
        """The release's environment; what is in ``tools`` comes before the named fakes."""
        places = [self.place / "tools", FAKES, Path(sys.executable).parent]
        words = ":".join(shlex.quote(str(place)) for place in places)
        return Basf2Environment(
            f"export BELLE2_LOCAL_DIR={shlex.quote(str(self.release))} PATH={words}:$PATH\n{more or 'true'}"
        )

    def basf2(self, more: str = "", backend: str = "Local", **options: Any) -> Basf2Caf:
        """The adapter as after a start of the process."""
        chosen = Basf2Options(heartbeat=0, **{"max_processes": 2, **options} if backend == "Local" else options)
        return Basf2Caf(self.environment(more), backend, chosen, poll_seconds=0.1)

    def tool(self, text: str, name: str = "b2caf-prompt-run") -> None:
        """Put a tool that does what the shell text says before the named fake."""
        file = self.place / "tools" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    def take_away(self, name: str = "b2caf-prompt-run") -> None:
        """Let the named fake be found again."""
        (self.place / "tools" / name).unlink()


def process_ids(words: Path) -> list[int]:
    """The processes that work in a directory, or are told of it on their command line."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            said = (directory / "cmdline").read_text().replace("\0", " ")
            where = (directory / "cwd").readlink()
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if (
            state not in "ZX"
            and int(directory.name) != os.getpid()
            and (str(words) in said or where.is_relative_to(words))
        ):
            found.append(int(directory.name))
    return found


def wait_until(true: Callable[[], object]) -> None:
    """Wait for a condition, for a generous time."""
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.02)
