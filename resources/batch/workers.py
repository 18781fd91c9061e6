"""Warm processes that run one job after another; a job that dies takes only its own process with it."""

import importlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import write_atomically
from b2cal_caf.forks import Child, exit_code_of, redirect_output, start_child, wait_for
from b2cal_core.jobs import JobSpec
from resources.batch.job_directories import EXIT_CODE
from resources.batch.limits import memory_of_groups

_JOBS_OF_A_LIFE = 200
"""A worker is replaced after so many jobs, so that what jobs forget to give back does not pile up."""
_GRACE_SECONDS = 2.0
_NOWHERE = Path(os.devnull)


@dataclass(slots=True)
class Worker:
    """A forked process and the line to it: a job goes out, its exit code comes back, the end is the worker's death.

    One in the background gets only the processor time that others leave. ``idle_memory`` is what it held, in MB, before
    its first job: most of it shared with the process it was forked from.
    """

    child: Child
    line: socket.socket
    background: bool = False
    jobs: int = 0
    idle_memory: int = 0

    def give(self, spec: JobSpec, processors: Iterable[int]) -> None:
        """Let it run the job, on these processors only; it must be idle."""
        self.jobs += 1
        asked = {
            "module": spec.module,
            "args": spec.args,
            "directory": str(spec.directory),
            "env": spec.environment,
            "processors": sorted(processors),
        }
        with suppress(BrokenPipeError, ConnectionResetError):  # it died; the next look finds out how
            self.line.sendall(json.dumps(asked).encode() + b"\n")

    def poll(self) -> int | None:
        """The exit code of its job, or ``None`` while that runs; minus the signal when that killed it."""
        try:
            answer = self.line.recv(64)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            answer = b""
        if answer:
            return int(answer)
        wait_for([self.child], _GRACE_SECONDS)  # the line is closed, so it is dying by itself
        return self.child.stop()

    @property
    def is_alive(self) -> bool:
        """Whether it can take another job."""
        return self.jobs < _JOBS_OF_A_LIFE and self.child.poll() is None

    def retire(self) -> None:
        """Let it go; returns when it is gone."""
        with suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)  # closing is not enough, other children may hold a copy
        self.line.close()
        wait_for([self.child], _GRACE_SECONDS)
        self.child.stop()

    def stop(self) -> int:
        """End it in the middle of its job, with all that started; returns what its job would have."""
        code = self.child.stop()
        self.line.close()
        return code


def start_worker(*, background: bool = False) -> Worker:
    """Fork a worker; it has imported all that this process has."""
    ours, theirs = socket.socketpair()

    def live() -> int:
        ours.close()
        with theirs, theirs.makefile("rb") as orders:
            for order in orders:
                theirs.sendall(str(_run(json.loads(order))).encode())
        return 0

    child = start_child(live, directory=Path("/"), stdout=_NOWHERE, stderr=_NOWHERE, background=background)
    theirs.close()
    ours.setblocking(False)
    idle_memory = memory_of_groups(frozenset({child.pid})).get(child.pid, 0)
    return Worker(child, ours, background, idle_memory=idle_memory)


def _run(order: dict[str, Any]) -> int:
    """Run one job as if the process were its own; returns its exit code, which lies in its directory by then."""
    directory = Path(order["directory"])
    environment = dict(os.environ)
    try:
        redirect_output(directory / "stdout", directory / "stderr")
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, order["processors"])
        os.environ.update(dict(order["env"]))
        os.chdir(directory)
        code = exit_code_of(_entry_point(order))
        sys.stdout.flush()
        sys.stderr.flush()
        write_atomically(directory / EXIT_CODE, f"{code}\n".encode())
    finally:
        redirect_output(_NOWHERE, _NOWHERE)
        os.chdir("/")
        os.environ.clear()
        os.environ.update(environment)
    return code


def _entry_point(order: dict[str, Any]) -> Callable[[], int]:
    return lambda: int(importlib.import_module(order["module"]).main(list(order["args"])) or 0)
