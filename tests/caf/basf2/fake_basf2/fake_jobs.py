"""The batch systems of the fake CAF: sub-job directories with ``submit.sh``, which leaves the exit code in a file.

``Local`` runs so many scripts at a time, in an empty environment; ``HTCondor`` goes through ``condor_submit``, whatever
is found under that name. LSF and PBS are not faked. Nothing of basf2 is in it.
"""

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_release import log

EXIT_CODE = "__BACKEND_CMD_EXIT_STATUS__"
INPUT_FILES = "__BACKEND_INPUT_FILES__.json"
SCRIPT = """\
#!/bin/bash
trap '(ctrl_c 130)' SIGINT
trap '(ctrl_c 143)' SIGTERM
function write_exit_code() {{
  echo "$1" > {marker}
  exit $1
}}
function ctrl_c() {{
  trap '' SIGINT SIGTERM
  echo "$1" > {marker}
  exit $1
}}
{setup}
{command}
write_exit_code $?
"""
MOST_SECONDS = "600"
"""After which a sub-job ends that waits for a test which is no more."""
PASSED_ON = ("SYNTHETIC_DIARY",)
"""Variables of the release that tests use to watch; the set-up of a job repeats them."""


@dataclass
class Job:
    """The job of a collection in one iteration, with its sub-jobs."""

    name: str
    directory: Path
    subjobs: list[dict[str, Any]]
    handles: list[Future[int]] = field(default_factory=list)

    def subjob(self, number: int) -> Path:
        """The directory of a sub-job."""
        return self.directory / str(number)

    def dump(self, file: Path) -> None:
        """Write ``collector_job.json``."""
        listed = [{"id": n, "input_files": s["files"], "args": []} for n, s in enumerate(self.subjobs)]
        described = {
            "name": self.name,
            "input_sandbox_files": [],
            "working_dir": self.directory.as_posix(),
            "output_dir": self.directory.as_posix(),
            "output_patterns": ["CollectorOutput.root"],
            "cmd": ["basf2", "run_collector_path.py"],
            "args": ["--job-information job_info.json"],
            "input_files": [file for subjob in self.subjobs for file in subjob["files"]],
            "setup_cmds": [],
            "backend_args": {},
            "subjobs": listed,
        }
        file.write_text(json.dumps(described, indent=2))

    def codes(self) -> list[int] | None:
        """The exit codes of the sub-jobs when all have ended."""
        if self.handles:
            return [handle.result() for handle in self.handles] if all(h.done() for h in self.handles) else None
        found = [self.subjob(number) / EXIT_CODE for number in range(len(self.subjobs))]
        return [int(path.read_text()) for path in found] if all(_is_written(path) for path in found) else None

    def lacks_output(self) -> list[int]:
        """Sub-jobs that left no file for the algorithms."""
        return [n for n in range(len(self.subjobs)) if not (self.subjob(n) / "CollectorOutput.root").exists()]


class Backend:
    """Where sub-jobs run."""

    def __init__(self, name: str, max_processes: int) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(max_processes)
        if name not in {"Local", "HTCondor"}:
            raise SystemExit(f"this fake has no {name}")

    def submit(self, job: Job) -> None:
        """Write the directories of all sub-jobs, and hand them over one by one."""
        for number, subjob in enumerate(job.subjobs):
            directory = job.subjob(number)
            directory.mkdir(parents=True)
            (directory / INPUT_FILES).write_text(json.dumps([f"file://{name}" for name in subjob["files"]], indent=2))
            (directory / "collector.json").write_text(json.dumps(subjob["description"]))
            command = ["timeout", "--foreground", MOST_SECONDS, sys.executable]
            command += ["-m", "b2cal_caf.collect_job", str(directory)]
            setup = [f"export {name}={shlex.quote(os.environ[name])}" for name in PASSED_ON if name in os.environ]
            script = SCRIPT.format(marker=EXIT_CODE, setup="\n".join(setup), command=shlex.join(command))
            (directory / "submit.sh").write_text(script)
            (directory / "submit.sh").chmod(0o755)
            if self._name == "Local":
                job.handles.append(self._pool.submit(_run_locally, directory))
            else:
                self._submit_to_condor(f"{job.name}_{number}", directory)

    def _submit_to_condor(self, name: str, directory: Path) -> None:
        lines = [
            f"executable = {directory / 'submit.sh'}",
            f"log = {directory / 'htcondor.log'}",
            f"output = {directory / 'stdout'}",
            f"error = {directory / 'stderr'}",
            "universe = vanilla",
            "getenv = false",
            "request_memory = 4 GB",
            "queue",
        ]
        (directory / "submit.sub").write_text("\n".join(lines) + "\n")
        command = ["condor_submit", "-terse", str(directory / "submit.sub")]
        said = subprocess.check_output(command, cwd=directory, text=True)
        log("INFO", f"Job ID of SubJob({name}) recorded as: {said.split()[0]}")


def _run_locally(directory: Path) -> int:
    with (directory / "stdout").open("w") as out, (directory / "stderr").open("w") as err:
        done = subprocess.run(
            ["/bin/bash", str(directory / "submit.sh")], stdout=out, stderr=err, cwd=directory, env={}, check=False
        )
    return done.returncode


def _is_written(path: Path) -> bool:
    return path.exists() and path.read_text().strip() != ""
