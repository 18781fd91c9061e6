"""Ten thousand sub-jobs in one collection: the result is right, memory stays flat, and people are answered at once."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import psutil
import pytest
from chaos_world import LOOK_SECONDS, Place, World, kill, supervise

from b2cal_caf.checkpoints import caf_status
from b2cal_caf.job_book import Stage
from b2cal_caf.operations import CafDesk
from b2cal_core.errors import DataError

SUBJOBS, FEW = 10_000, 100
FIRST = 1000
GROWTH_MB = 40
RATIO = 20.0
"""For a hundred times as many sub-jobs."""
ASKED_AFTERWARDS = 21
PATIENCE = 3000.0
PLACE = ("alpha", 0, "hadron")

pytestmark = [pytest.mark.system, pytest.mark.timeout(PATIENCE + 600)]


def test_a_collection_of_ten_thousand_sub_jobs(tmp_path: Path) -> None:
    few, many = (place_of(tmp_path / str(number), number) for number in (FEW, SUBJOBS))
    supervise(few, "local", patience=PATIENCE)
    watch = watched(many)
    assert not many.left_over()
    numbers = range(SUBJOBS)
    assert many.totals() == {"alpha": [(SUBJOBS, sum(numbers), sum(number**2 for number in numbers))]}
    assert watch.growth <= GROWTH_MB, f"{watch.growth} MB more after {FIRST} sub-jobs than with all of them"
    usual = answers(few, ASKED_AFTERWARDS)
    for when, slow in {"meanwhile": watch.seconds, "afterwards": answers(many, ASKED_AFTERWARDS)}.items():
        for question, seconds in slow.items():
            bound = RATIO * median(usual[question])
            assert median(seconds) <= bound, f"{question} takes {median(seconds)} s {when}, {bound} s are allowed"


class Watch:
    """Asks like a person, again and again, and looks at the memory of the process that works on the request."""

    def __init__(self, process: psutil.Process, place: Place) -> None:
        self._process, self._place = process, place
        self._memory: list[int] = []
        self.seconds: dict[str, list[float]] = {}

    @property
    def growth(self) -> int:
        """MB, the most after the first sub-jobs over what it was then."""
        return (max(self._memory) - self._memory[0]) // 2**20

    def look(self) -> None:
        """Ask once, when there is something to be asked."""
        try:
            completed = CafDesk(self._place.request.directory).counts().get(PLACE, {}).get(Stage.completed, 0)
        except DataError:
            return  # it has not begun
        if completed >= FIRST:
            self._memory.append(self._process.memory_info().rss)
            for question, seconds in answers(self._place, 1).items():
                self.seconds.setdefault(question, []).extend(seconds)


def place_of(directory: Path, number: int) -> Place:
    """A request for so many sub-jobs, none of which fails."""
    world = World(directory, (PLACE[0],), (PLACE[2],), number)
    world.lay_out()
    return world.place("request", files_per_job=1)


def watched(place: Place) -> Watch:
    """Run the request, and look meanwhile."""
    process = place.start("local")
    try:
        watch, end = Watch(psutil.Process(process.pid), place), time.monotonic() + PATIENCE
        while process.poll() is None:
            watch.look()
            assert time.monotonic() < end, place.last_lines
            time.sleep(LOOK_SECONDS)
    finally:
        kill(process)
    assert process.returncode == 0, place.last_lines
    return watch


def answers(place: Place, times: int) -> Mapping[str, list[float]]:
    """How many seconds each question took, each time."""
    directory = place.request.directory
    return {
        "counts": [seconds(lambda: CafDesk(directory).counts()) for _ in range(times)],
        "failed jobs": [seconds(lambda: CafDesk(directory).jobs(stages=[Stage.failed])) for _ in range(times)],
        "status": [seconds(lambda: caf_status(directory)) for _ in range(times)],
    }


def seconds(ask: Callable[[], object]) -> float:
    """How long the answer took."""
    begin = time.perf_counter()
    ask()
    return time.perf_counter() - begin
