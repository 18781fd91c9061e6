"""Calling a function in a process of its own, and what that took: time, processor time and memory, apart from all else.

``python orchestration_apart.py MODULE FUNCTION ARGUMENTS``, the last as a JSON object, is what ``apart`` starts.
"""

import ctypes
import importlib
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOOK_ROUND_SECONDS = 0.1
_KB_OF_MB = 1024
_PR_SET_PDEATHSIG = 1
"""Ask Linux to end this process with the one that started it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call took.

    Attributes:
        seconds: wall time.
        own_cpu: seconds of a processor in the process itself; ``jobs_cpu``: in its children that ended.
        memory: MB of memory before the call; ``peak``: at most until it returned.
        answer: what it returned.
    """

    seconds: float
    own_cpu: float
    jobs_cpu: float
    memory: float
    peak: float
    answer: Any = None


def apart(module: str, function: str, *, meanwhile: Callable[[], object] = lambda: None, **arguments: Any) -> Taken:  # noqa: ANN401 (whatever JSON can hold)
    """Call a function in a new process, and ``meanwhile`` in this one every tenth of a second until it is over.

    Raises:
        RuntimeError: it did not return; the message has what it printed.
    """
    command = [sys.executable, str(Path(__file__).resolve()), module, function, json.dumps(arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            meanwhile()
            time.sleep(_LOOK_ROUND_SECONDS)
        printed, errors = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{module}.{function} ended with {process.returncode}\n{errors[-4000:]}")
    return Taken(**json.loads(printed.splitlines()[-1]))


def _call(module: str, function: str, arguments: str) -> dict[str, Any]:
    called = getattr(importlib.import_module(module), function)
    memory, before, own = _memory("VmRSS"), time.perf_counter(), time.process_time()
    answer = called(**json.loads(arguments))
    return {
        "seconds": time.perf_counter() - before,
        "own_cpu": time.process_time() - own,
        "jobs_cpu": sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]),
        "memory": memory,
        "peak": _memory("VmHWM"),
        "answer": answer,
    }


def _memory(field: str) -> float:
    """MB of this process; what ``getrusage`` tells is also that of the process it was started by."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / _KB_OF_MB


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    print(json.dumps(_call(*sys.argv[1:])))
