"""What an observer of long work notes: when jobs waited for a place and nothing of the step ran."""

import dagster as dg
import pytest

from b2cal_assets import observers
from b2cal_assets.observers import QUEUED, LoggingObserver
from b2cal_assets.workshop import SilentObserver


class Clock:
    """Stands for the module's clock; a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(observers, "time", made)
    return made


@pytest.fixture
def observer(clock: Clock) -> LoggingObserver:
    return LoggingObserver(dg.build_op_context().log, SilentObserver())


def queued(observer: LoggingObserver) -> object:
    found = observer.queued()
    return found[QUEUED].value if found else []


def test_jobs_wait_from_their_submission_until_the_first_runs(clock: Clock, observer: LoggingObserver) -> None:
    observer.state("CDC", "running_collector", 0)
    clock.now = 1.0
    observer.jobs("CDC", {"submitted": 3, "running": 0})
    clock.now = 5.0
    observer.jobs("CDC", {"submitted": 2, "running": 1})
    clock.now = 9.0
    observer.jobs("CDC", {"submitted": 0, "running": 0, "completed": 3})
    assert queued(observer) == [[1.0, 5.0]]


def test_a_step_does_not_wait_while_another_of_its_calibrations_computes(
    clock: Clock, observer: LoggingObserver
) -> None:
    observer.state("CDC", "running_algorithms", 0)
    observer.state("SVD", "running_collector", 0)
    observer.jobs("SVD", {"submitted": 1, "running": 0})
    clock.now = 4.0
    observer.state("CDC", "completed", 0)
    clock.now = 6.0
    observer.jobs("SVD", {"submitted": 0, "running": 1})
    assert queued(observer) == [[4.0, 6.0]]


def test_jobs_of_a_calibration_that_failed_wait_for_nothing(clock: Clock, observer: LoggingObserver) -> None:
    observer.jobs("CDC", {"submitted": 1, "held": 1})
    clock.now = 2.0
    observer.state("CDC", "collector_failed", 0)
    clock.now = 8.0
    assert queued(observer) == [[0.0, 2.0]]


def test_what_waits_at_the_end_has_waited_until_then(clock: Clock, observer: LoggingObserver) -> None:
    observer.jobs("cdst", {"submitted": 1})
    clock.now = 3.0
    assert queued(observer) == [[0.0, 3.0]]
    assert queued(observer) == [[0.0, 3.0]]


def test_a_step_whose_jobs_ran_at_once_says_nothing(observer: LoggingObserver) -> None:
    observer.jobs("CDC", {"submitted": 0, "running": 2})
    assert observer.queued() == {}
