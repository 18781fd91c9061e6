"""What every CAF must do; a test class of an adapter or a fake inherits it, and says what it is asked for."""

import dataclasses
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.ports import Caf, CafObserver, CafRequest

PATIENCE = 120.0


class Listener(CafObserver):
    """Remembers the states, and calls back at the first one."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, int]] = []
        self.lines: list[str] = []
        self.first = threading.Event()

    def state(self, calibration: str, state: str, iteration: int) -> None:
        self.heard.append((calibration, state, iteration))
        self.first.set()

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        assert set(counts) <= {"submitted", "running", "held", "completed", "failed", "cached"}
        assert all(number >= 0 for number in counts.values())

    def log(self, message: str) -> None:
        self.lines.append(message)


class CafContract(ABC):
    """Inherit, and say how the CAF and its requests are made."""

    @abstractmethod
    def make(self, tmp_path: Path) -> Caf:
        """A CAF as after a start of the process."""

    @abstractmethod
    def good(self, tmp_path: Path) -> CafRequest:
        """A request whose calibrations all complete, and export payloads."""

    @abstractmethod
    def failing(self, tmp_path: Path) -> CafRequest:
        """A request in which ``bad`` fails, ``below`` depends on it, and ``apart`` completes."""

    @abstractmethod
    def endless(self, tmp_path: Path) -> CafRequest:
        """A request whose sub-jobs do not end by themselves in the test's time, unless the file ``go`` is there."""

    def test_a_request_ends_with_exported_payloads(self, tmp_path: Path) -> None:
        listener = Listener()
        result = self.make(tmp_path).run(self.good(tmp_path), listener)
        assert result.ok
        assert not result.resumed
        assert result.errors == {}
        assert set(result.databases) <= set(result.states)
        assert all((directory / "database.txt").is_file() for directory in result.databases.values())
        assert {heard[0] for heard in listener.heard} == set(result.states)
        assert set(result.seconds) == {"collect", "algorithms"}
        assert sum(result.collected.events.values()) > 0

    def test_the_same_request_again_is_resumed_not_repeated(self, tmp_path: Path) -> None:
        first = self.make(tmp_path).run(self.good(tmp_path), Listener())
        listener = Listener()
        second = self.make(tmp_path).run(self.good(tmp_path), listener)
        assert second.resumed
        assert listener.heard == []
        assert dataclasses.replace(second, resumed=False, seconds={}) == dataclasses.replace(first, seconds={})

    def test_a_failure_is_in_the_result_and_what_does_not_depend_on_it_is_completed(self, tmp_path: Path) -> None:
        result = self.make(tmp_path).run(self.failing(tmp_path), Listener())
        assert result.states == {"bad": "failed", "below": "skipped", "apart": "completed"}
        assert set(result.databases) == {"apart"}
        assert result.errors["bad"]
        assert not result.ok

    def test_a_script_that_cannot_be_used_is_refused(self, tmp_path: Path) -> None:
        broken = tmp_path / "caf_broken.py"
        broken.write_text("this is not Python\n")
        request = dataclasses.replace(self.good(tmp_path), script=broken)
        with pytest.raises(ConfigurationError, match="caf_broken"):
            self.make(tmp_path).run(request, Listener())

    def test_an_input_that_is_not_given_is_refused(self, tmp_path: Path) -> None:
        request = dataclasses.replace(self.good(tmp_path), input_data={})
        with pytest.raises(ConfigurationError, match="input_data lacks"):
            self.make(tmp_path).run(request, Listener())

    def test_a_run_can_be_cancelled_from_another_thread_and_resumed(self, tmp_path: Path) -> None:
        caf, listener = self.make(tmp_path), Listener()
        raised: list[Any] = []

        def run() -> None:
            try:
                caf.run(self.endless(tmp_path), listener)
            except BackendError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert listener.first.wait(PATIENCE)
        caf.cancel()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(raised) == 1
        (tmp_path / "go").touch()
        assert self.make(tmp_path).run(self.endless(tmp_path), Listener()).ok
