"""What is known of a detector run, and which of its files a calibration gets."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from b2cal_core.errors import DataError
from b2cal_core.filters import is_selected
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import DATA_FORMATS


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of one run.

    Attributes:
        path: absolute path.
        tag: data tag, a value of the filter taxonomy.
        data_format: ``raw``, ``cdst``, ``mdst`` or ``udst``.
        events: entries in the file; 0 is possible and such a file is never calibrated with.
        size: bytes.
        checksum: SHA-256 of the content, lower-case hex.
    """

    path: str
    tag: str
    data_format: str
    events: int
    size: int
    checksum: str

    def __post_init__(self) -> None:
        if self.data_format not in DATA_FORMATS:
            known = ", ".join(sorted(DATA_FORMATS))
            raise DataError(f"{self.path} has the unknown data format {self.data_format!r}; known are {known}")
        if self.events < 0 or self.size < 0:
            raise DataError(f"{self.path} claims {self.events} events in {self.size} bytes; correct it at the feed")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the registry knows it; ``started`` and ``ended`` are in UTC."""

    run: ExpRun
    run_type: str
    beam_energy: str
    magnet: str
    quality: frozenset[str]
    started: datetime
    ended: datetime
    files: tuple[DataFile, ...] = field(default=())

    def __post_init__(self) -> None:
        comparable = (self.started.tzinfo is None) == (self.ended.tzinfo is None)
        if comparable and self.ended < self.started:
            raise DataError(f"{self.run} ends {self.ended}, before it starts {self.started}; correct it at the feed")

    def labels(self, tag: str | None = None) -> frozenset[str]:
        """All that filters can ask of this run, or of its data with one tag."""
        own = {self.run_type, self.beam_energy, self.magnet} | self.quality
        return frozenset(own if tag is None else own | {tag})

    def events(self, tag: str, data_format: str = "raw") -> int:
        """Events of the run's files with this tag and format."""
        return sum(f.events for f in self.files if f.tag == tag and f.data_format == data_format)


@dataclass(frozen=True, slots=True)
class SelectedFile:
    """A file that passed the filters, with the run it belongs to."""

    run: ExpRun
    file: DataFile


def select_files(
    records: Iterable[RunRecord],
    filters: Mapping[str, Sequence[str]],
    *,
    data_format: str,
    within: IoV | None = None,
) -> dict[str, tuple[SelectedFile, ...]]:
    """The files for each input name of a calibration, in order of run and path.

    Args:
        records: runs in any order.
        filters: input name to filters; an input without filters takes every file of the format.
        data_format: only files of this format.
        within: only runs in this IoV, ends included.
    """
    kept = sorted((r for r in records if within is None or within.contains(r.run)), key=lambda r: r.run)
    return {
        name: tuple(
            SelectedFile(record.run, file)
            for record in kept
            for file in sorted(record.files, key=lambda f: f.path)
            if file.data_format == data_format and is_selected(record.labels(file.tag), wanted)
        )
        for name, wanted in filters.items()
    }


Selection = tuple[Mapping[str, Sequence[str]], Collection[str]]
"""Input name to filters, and the formats of files, as ``select_files`` takes them."""


def selection_digests(records: Iterable[RunRecord], selections: Mapping[str, Selection]) -> dict[str, str]:
    """For each selection a hash of the files it gives; another whenever one of them comes, goes or changes."""
    kinds: dict[_Kind, int] = {}
    kept = sorted(records, key=lambda record: record.run)
    lines = [(kinds.setdefault(kind, len(kinds)), line) for record in kept for kind, line in _lines(record)]
    return {name: _digest(lines, list(kinds), selection) for name, selection in selections.items()}


_Kind = tuple[frozenset[str], str, str]
"""What filters can ask of a file: the labels of its run, its tag and its format."""


def _lines(record: RunRecord) -> Iterator[tuple[_Kind, bytes]]:
    """The kind of each file, and what identifies it."""
    own = record.labels()
    for file in sorted(record.files, key=lambda file: file.path):
        yield (own, file.tag, file.data_format), f"{record.run} {file.path} {file.checksum}\n".encode()


def _digest(lines: Iterable[tuple[int, bytes]], kinds: Iterable[_Kind], selection: Selection) -> str:
    filters, formats = selection
    digest = hashlib.sha256()
    for name in sorted(filters):
        wanted = [form in formats and is_selected(own | {tag}, filters[name]) for own, tag, form in kinds]
        digest.update(f"{name}\n".encode())
        digest.update(b"".join(line for kind, line in lines if wanted[kind]))
    return digest.hexdigest()[:32]
