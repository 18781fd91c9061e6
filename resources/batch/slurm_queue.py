"""What Slurm says of our jobs: its commands, none of which may take for ever, and the queue as last told.

One question, ``squeue`` for all jobs of this account, serves all threads and all jobs; it runs beside whoever waits.
"""

import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from b2cal_core.errors import BackendError, ConfigurationError

COMMAND_SECONDS = 60.0
"""How long one command of Slurm may take; its own limit on a silent controller is shorter on most sites."""
_LOAD = 10
"""A question that takes long is asked again only after so many times as long."""
_PAUSE_SECONDS = 0.01
_SQUEUE = ("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F_%K|%T|%N|%r|%Z")
_FIELDS = 5
_MISSING = "is not installed here; install Slurm's client commands (Debian: slurm-client) where the platform runs"
_LATER = ("unable to contact", "timed out", "temporarily", "zero bytes", "connection", "try again", "submit limit")
"""Words of refusals after which asking later may help: no answer, or a limit on jobs in the queue."""

_ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"}
    | {"TIMEOUT"}
)
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a job array as Slurm sees it; the states are Slurm's own, in full and in capitals.

    Attributes:
        place: the working directory it was submitted with.
    """

    state: str
    node: str = ""
    reason: str = ""
    place: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it no longer runs and never will."""
        return self.state in _ENDED

    @property
    def is_waiting(self) -> bool:
        """Whether it has not been started, or is to be started again."""
        return self.state in _WAITING


def run(*command: str) -> str:
    """What the command prints.

    Raises:
        ConfigurationError: the command is not installed.
        BackendError: it refused, or did not answer in time.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ConfigurationError(f"{command[0]} {_MISSING}") from error
    except subprocess.TimeoutExpired as error:
        problem = f"Slurm's {command[0]} did not answer within {COMMAND_SECONDS:.0f} s"
        raise BackendError(
            f"{problem}; is its controller overloaded? Asked again, it goes on", transient=True
        ) from error
    if done.returncode:
        said = _words(done.stderr or done.stdout)
        transient = any(word in said.lower() for word in _LATER)
        raise BackendError(
            f"Slurm's {command[0]} refused: {said or f'exit code {done.returncode}'}", transient=transient
        )
    return done.stdout


def _words(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[:500]


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``squeue`` told.

    Attributes:
        asked: when (monotonic clock) it was begun; jobs submitted later may be missing.
        elements: by ``<array job id>_<index>``.
    """

    asked: float = float("-inf")
    elements: Mapping[str, Element] = field(default_factory=dict)

    def element(self, native: str, place: Path) -> Element | None:
        """The element, if it is known; a controller that lost its last moments gives away its job ids again."""
        element = self.elements.get(native)
        return element if element is not None and element.place == str(place) else None


class _Question:
    """One ``squeue``, running; ``problem`` says, when it is over, why its answer is not to be trusted."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.problem = ""
        self._output, self._errors = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        self._process: subprocess.Popen[str] | None = None
        try:
            self._process = subprocess.Popen(
                _SQUEUE, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors, text=True
            )
        except FileNotFoundError:
            self.problem = f"{_SQUEUE[0]} {_MISSING}"

    def __del__(self) -> None:
        self.close()

    def is_over(self) -> bool:
        """Whether there is an answer; one that takes too long is given up."""
        if self._process is None or self._process.poll() is not None:
            return True
        if time.monotonic() < self.begun + COMMAND_SECONDS:
            return False
        self.problem = f"squeue did not answer within {COMMAND_SECONDS:.0f} s"
        return True

    def answer(self) -> str:
        """What it printed."""
        self._errors.seek(0)
        self._output.seek(0)
        if not self.problem and self._process is not None and self._process.returncode:
            self.problem = _words(self._errors.read()) or f"squeue ended with {self._process.returncode}"
        return self._output.read()

    def close(self) -> None:
        """End it, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._errors.close()


class SlurmQueue:
    """The jobs of this account, as ``squeue`` told them last.

    Args:
        every: seconds from one question to the next.

    Attributes:
        answer: the last one there was; at first an empty one.
        problem: why the last question was not answered; empty when it was.
        turns: how many questions are over, answered or not.
    """

    def __init__(self, every: float) -> None:
        self.answer = Answer()
        self.problem = ""
        self.turns = 0
        self._every = every
        self._asked = self._due = float("-inf")
        self._question: _Question | None = None
        self._lock = threading.Lock()

    def look(self, *, within: float | None = None) -> None:
        """Take an answer that has come, and ask anew when it is time; returns at once.

        Args:
            within: seconds since the last question after which it is asked earlier than usual.
        """
        with self._lock:
            self._take()
            now = time.monotonic()
            early = within is not None and now >= self._asked + within
            if self._question is None and (early or now >= self._due):
                self._ask()

    def ask(self, since: float) -> None:
        """Return when a question that was begun at ``since`` (monotonic clock) or later is over."""
        while True:
            with self._lock:
                self._take()
                if self._asked >= since:
                    return
                if self._question is None:
                    self._ask()
            time.sleep(_PAUSE_SECONDS)

    def _ask(self) -> None:
        self._question = _Question()

    def _take(self) -> None:
        question = self._question
        if question is None or not question.is_over():
            return
        text = question.answer()
        question.close()
        self._question = None
        self.problem = question.problem
        if not question.problem:
            self.answer = Answer(question.begun, _elements(text))
        self._asked = question.begun
        took = time.monotonic() - question.begun
        self._due = question.begun + max(self._every, 0.0 if question.problem else _LOAD * took)
        self.turns += 1


def _elements(text: str) -> dict[str, Element]:
    """The lines of ``squeue``; directories stand last, because anything may stand in them."""
    lines = (line.split("|", 4) for line in text.splitlines())
    return {parts[0]: Element(*parts[1:]) for parts in lines if len(parts) == _FIELDS}
