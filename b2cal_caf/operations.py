"""What people can see and do about the sub-jobs of a request, while a process works on it and when none does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from b2cal_caf.checkpoints import state_file
from b2cal_caf.job_book import Exclusion, JobBook, JobRow, OrderKind, Stage
from b2cal_caf.locks import owner_of
from b2cal_caf.orders import is_meant
from b2cal_core.errors import DataError
from b2cal_core.ports import BatchBackend


@dataclass(frozen=True, slots=True)
class JobLog:
    """What an attempt of a sub-job wrote; the last one has the highest number."""

    name: str
    attempt: int
    stdout: str
    stderr: str


class CafDesk:
    """The sub-jobs of one request.

    Args:
        directory: the request's working directory, or its ``calibration_results``.

    Raises:
        DataError: it is none.
    """

    def __init__(self, directory: Path) -> None:
        file = state_file(directory)
        self.directory = file.parent.parent
        self._book = JobBook(file)

    @property
    def attended_by(self) -> str | None:
        """Who works on the request at the moment."""
        return owner_of(self.directory)

    def jobs(self, which: Sequence[str] = (), stages: Iterable[Stage] = Stage) -> list[JobRow]:
        """Sub-jobs by name, or by that of their calibration, iteration or collection; by default all of them."""
        return [row for row in self._book.rows(stages=stages) if is_meant(row.name, which)]

    def counts(self) -> Mapping[tuple[str, int, str], Mapping[Stage, int]]:
        """Calibration, iteration and collection to the number of sub-jobs in each stage."""
        return self._book.counts()

    def exclusions(self) -> Mapping[str, Exclusion]:
        """The files left out of the request."""
        return self._book.exclusions()

    def log(self, name: str, attempt: int | None = None) -> JobLog:
        """What a sub-job wrote, in its last attempt unless another is asked for."""
        found = [row for row in self._book.rows() if row.name == name]
        if not found:
            raise DataError(f"{self.directory} has no sub-job {name}; b2cal caf jobs lists those there are")
        row = found[0]
        earlier = row.directory / f"attempt_{attempt}"
        place = row.directory if attempt in {None, row.attempt} else earlier
        if not place.is_dir():
            raise DataError(f"sub-job {name} has no attempt {attempt}; it was tried from 0 to {row.attempt}")
        number = row.attempt if attempt is None else attempt
        return JobLog(name, number, _text(place / "stdout"), _text(place / "stderr"))

    def retry(self, which: Sequence[str], who: str) -> list[JobRow]:
        """Have failed sub-jobs, or those named, tried again; nothing tried before counts."""
        meant = self._meant(which, [Stage.failed] if not which else [*Stage])
        self._book.order(OrderKind.retry, which, who)
        return meant

    def release(self, which: Sequence[str], who: str) -> list[JobRow]:
        """Have held sub-jobs go on."""
        meant = self._meant(which, [Stage.held])
        self._book.order(OrderKind.release, which, who)
        return meant

    def exclude(self, files: Sequence[str], reason: str, who: str) -> None:
        """Leave input files out of the request, for good; what other files gave is kept."""
        self._book.exclude(Exclusion(file, reason, who) for file in files)
        self._book.order(OrderKind.exclude, files, who)

    def cancel(self, which: Sequence[str], who: str, batch: BatchBackend | None = None) -> list[JobRow]:
        """End sub-jobs, or with none named the work on the request; asking for the request again resumes it.

        Args:
            which: names of sub-jobs, collections, iterations or calibrations.
            who: for the log.
            batch: the batch system; when nobody works on the request, its jobs there are ended through this.
        """
        open_stages = [stage for stage in Stage if stage.is_at_batch or stage is Stage.waiting]
        meant = self._meant(which, open_stages) if which else self.jobs(stages=open_stages)
        if self.attended_by is not None:
            self._book.order(OrderKind.cancel, which, who)
        elif batch is not None:
            self._end(meant, batch, who)
        return meant

    def _end(self, rows: list[JobRow], batch: BatchBackend, who: str) -> None:
        batch.cancel([row.native_id for row in rows if row.native_id and row.stage.is_at_batch])
        ended = [replace(row, stage=Stage.waiting, reason=f"cancelled by {who}") for row in rows]
        self._book.write(ended)

    def _meant(self, which: Sequence[str], stages: Iterable[Stage]) -> list[JobRow]:
        """The sub-jobs named; ``DataError`` when there are none of them."""
        found = self.jobs(which, stages)
        for name in which:
            if not any(is_meant(row.name, [name]) for row in found):
                stage = " or ".join(stage for stage in stages) if list(stages) != list(Stage) else "known"
                raise DataError(f"{name} names no sub-job that is {stage}; b2cal caf jobs {self.directory} lists them")
        return found


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
