"""Doing nothing N times, side by side or in a chain, with luigi alone: a task and a target file for each."""

import time
from pathlib import Path
from typing import Any

import luigi

DIARY = "diary"


class Job(luigi.Task):  # type: ignore[misc]
    """Writes its target."""

    directory = luigi.Parameter()
    number = luigi.IntParameter()

    def output(self) -> luigi.LocalTarget:
        """A file."""
        return luigi.LocalTarget(str(Path(self.directory) / f"{self.number}.txt"))

    def run(self) -> None:
        """Write the file."""
        with self.output().open("w") as target:
            target.write("done\n")


class Link(Job):
    """Waits for the one before, and writes down when it ran as the sub-jobs of the benchmark do."""

    def requires(self) -> list["Link"]:
        """The one before."""
        return [Link(directory=self.directory, number=self.number - 1)] if self.number else []

    def run(self) -> None:
        """Write the line and the file."""
        begin = time.monotonic()
        with (Path(self.directory) / DIARY).open("a") as diary:
            diary.write(f"task {self.number} {begin:.6f} {time.monotonic():.6f}\n")
        super().run()


def tasks(directory: str, jobs: int, places: int) -> None:
    """Build all tasks; with more than one place luigi forks a process for each."""
    _build([Job(directory=directory, number=number) for number in range(jobs)], places)
    assert len(list(Path(directory).iterdir())) == jobs


def chain(directory: str, links: int, places: int) -> None:
    """Build a chain of so many."""
    _build([Link(directory=directory, number=links - 1)], places)


def _build(wanted: list[Any], places: int) -> None:
    assert luigi.build(wanted, workers=places, local_scheduler=True, no_lock=True, log_level="ERROR")
