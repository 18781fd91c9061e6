"""Doing nothing N times with luigi: its own scheduler, one task and one target file per job."""

from pathlib import Path

import luigi


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


def tasks(directory: str, jobs: int, places: int) -> None:
    """Build all tasks; with more than one place luigi forks a process for each."""
    built = luigi.build(
        [Job(directory=directory, number=number) for number in range(jobs)],
        workers=places,
        local_scheduler=True,
        no_lock=True,
        log_level="ERROR",
    )
    assert built
    assert len(list(Path(directory).iterdir())) == jobs
