"""Ten thousand sub-jobs in one collection: the result is right, memory stays flat, and people are answered at once."""

import time
from collections.abc import Callable
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
RATIO = 30.0
"""Of what answers take, for a hundred times as many sub-jobs."""
ASKED_AFTERWARDS = 40
PATIENCE = 3000.0
PLACE = ("alpha", 0, "hadron")

pytestmark = [pytest.mark.system, pytest.mark.timeout(PATIENCE + 600)]


def test_a_collection_of_ten_thousand_sub_jobs(tmp_path: Path) -> None:
    few, many = (place_of(tmp_path / str(number), number) for number in (FEW, SUBJOBS))
    supervise(few, "local", patience=PATIENCE)
    watch = Watch(few, many)
    watch.run()
    assert not many.left_over()
    numbers = range(SUBJOBS)
    assert many.totals() == {"alpha": [(SUBJOBS, sum(numbers), sum(number**2 for number in numbers))]}
    assert watch.growth <= GROWTH_MB, f"{watch.growth} MB more after {FIRST} sub-jobs than with all of them"
    watch.answers.check("meanwhile")
    afterwards = Answers(few, many)
    for _ in range(ASKED_AFTERWARDS):
        afterwards.ask()
    afterwards.check("afterwards")


class Answers:
    """What people may ask of a request, of few sub-jobs and of many in turn.

    What counts is the processor time that an answer takes: how long one waits for a processor says nothing of us.
    """

    def __init__(self, few: Place, many: Place) -> None:
        self._directories = few.request.directory, many.request.directory
        self._questions: dict[str, Callable[[Path], object]] = {
            "counts": lambda directory: CafDesk(directory).counts(),
            "failed sub-jobs": lambda directory: CafDesk(directory).jobs(stages=[Stage.failed]),
            "status": caf_status,
        }
        self._seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in self._questions}

    def ask(self) -> None:
        """Ask all of it once, of each."""
        for name, question in self._questions.items():
            for directory, seconds in zip(self._directories, self._seconds[name], strict=True):
                begin = time.thread_time()
                question(directory)
                seconds.append(time.thread_time() - begin)

    def check(self, when: str) -> None:
        """Many must not take much longer."""
        for name, seconds in self._seconds.items():
            few, many = map(median, seconds)
            assert many <= RATIO * few, f"{name} of many takes {many} s {when}, of few it takes {few} s"


class Watch:
    """Runs the request of many sub-jobs, asks meanwhile, and looks at the memory of the process that works on it."""

    def __init__(self, few: Place, many: Place) -> None:
        self._place, self.answers = many, Answers(few, many)
        self._memory: list[int] = []

    @property
    def growth(self) -> int:
        """MB, the most after the first sub-jobs over what it was then."""
        return (max(self._memory) - self._memory[0]) // 2**20

    def run(self) -> None:
        """Run it to its end."""
        process = self._place.start("local")
        try:
            end = time.monotonic() + PATIENCE
            while process.poll() is None:
                self._look(process.pid)
                assert time.monotonic() < end, self._place.last_lines
                time.sleep(LOOK_SECONDS)
        finally:
            kill(process)
        assert process.returncode == 0, self._place.last_lines

    def _look(self, pid: int) -> None:
        """Ask once, when there is something to be asked."""
        try:
            completed = CafDesk(self._place.request.directory).counts().get(PLACE, {}).get(Stage.completed, 0)
        except DataError:
            return  # it has not begun
        if completed >= FIRST:
            self._memory.append(psutil.Process(pid).memory_info().rss)
            self.answers.ask()


def place_of(directory: Path, number: int) -> Place:
    """A request for so many sub-jobs, none of which fails."""
    world = World(directory, (PLACE[0],), (PLACE[2],), number)
    world.lay_out()
    return world.place("request", files_per_job=1)
