"""Collector output: gathering it per run, writing it as a ROOT file, and reading many such files as one.

A file holds one TTree per object, its rows those of the runs one after the other, and a text object ``index`` that says
which rows belong to which run. With granularity ``all`` there is one heap, which belongs to no run.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import uproot

from b2cal_caf.atomic_files import write_atomically
from b2cal_caf.calibration import Collectable, CollectedData, Columns, Sums, Table
from b2cal_caf.histograms import columns_of_hist, hist_of_columns, is_hist, layout_of
from b2cal_caf.root_files import open_root, root_bytes
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun

if TYPE_CHECKING:
    from hist import Hist

OUTPUT_FILE = "CollectorOutput.root"
FORMAT_VERSION = 1
_INDEX = "index"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_COMPRESSION = uproot.LZ4(1)
_KEPT_BYTES = 512 * 2**20
"""Rows of tables kept in memory between the executions of an algorithm."""

RunKey = ExpRun | None


class CollectedHeap:
    """What a job has collected so far, merged per run, or in one heap with granularity ``all``."""

    def __init__(self, granularity: str) -> None:
        self._per_run = granularity == "run"
        self._objects: dict[str, dict[RunKey, list[Collectable]]] = {}
        self._events: dict[ExpRun, int] = {}

    def add(self, run: ExpRun, events: int, collected: Mapping[str, Collectable]) -> None:
        """Add what one file of the run held.

        Raises:
            ConfigurationError: the collector returned something that cannot be stored or added up.
        """
        self._events[run] = self._events.get(run, 0) + events
        for name, value in collected.items():
            _check(name, value)
            parts = self._objects.setdefault(name, {}).setdefault(run if self._per_run else None, [])
            if isinstance(value, Table) or not parts:
                parts.append(value)
            else:
                parts[0] = added_up(name, parts[0], value)

    def write(self, path: Path) -> None:
        """Write everything as one file, atomically and reproducibly."""
        trees: dict[str, Columns] = {}
        index: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "events": [[*run, n] for run, n in sorted(self._events.items())],
        }
        index["objects"] = {name: self._lay_out(name, trees) for name in sorted(self._objects)}

        def fill(directory: Any) -> None:  # noqa: ANN401 (uproot has no types)
            for name, columns in trees.items():
                types = {column: np.dtype((v.dtype, v.shape[1:])) for column, v in columns.items()}
                directory.mktree(name, types).extend(columns)
            directory[_INDEX] = json.dumps(index)

        write_atomically(path, root_bytes(fill, _COMPRESSION))

    def _lay_out(self, name: str, trees: dict[str, Columns]) -> dict[str, Any]:
        """Put the object's rows into ``trees`` and say in which order they lie there."""
        parts = []
        rows: list[Columns] = []
        for run in sorted(self._objects[name], key=lambda key: (-1, -1) if key is None else tuple(key)):
            values = self._objects[name][run]
            columns = columns_of_hist(values[0]) if is_hist(values[0]) else _joined(name, values)
            if not columns:
                continue
            part = {"run": None if run is None else list(run), "rows": len(next(iter(columns.values())))}
            parts.append(part | ({"axes": layout_of(values[0])} if is_hist(values[0]) else {}))
            rows.append(columns)
        if rows:
            trees[name] = _joined(name, rows)
        return {"kind": _kind(next(iter(self._objects[name].values()))[0]), "parts": parts}


def added_up(name: str, first: Collectable, second: Collectable) -> Collectable:
    """The sum of two sums or histograms of one name; ``ConfigurationError`` when they do not fit."""
    if isinstance(first, Sums) and isinstance(second, Sums):
        if first.keys() != second.keys() or any(first[c].shape != second[c].shape for c in first):
            msg = (
                f"sums {name!r} of two files cannot be added, their columns are {_shapes(first)} and {_shapes(second)}"
            )
            raise ConfigurationError(msg)
        return Sums({column: first[column] + second[column] for column in first})
    try:
        return first + second  # type: ignore[operator]
    except (TypeError, ValueError) as error:
        msg = f"what was collected as {name!r} cannot be added up: {error}"
        raise ConfigurationError(msg) from error


@dataclass(slots=True)
class _Part:
    """Where the rows of one object and run lie."""

    file: Path
    start: int
    rows: int
    kind: str
    axes: Any


@dataclass(slots=True)
class _Store:
    """The collector files of a calibration's iteration, read when something of them is asked for."""

    files: Mapping[str, Sequence[Path]]
    events: dict[ExpRun, int] = field(default_factory=dict)
    parts: dict[tuple[str, str], dict[RunKey, list[_Part]]] = field(default_factory=dict)
    rows: "OrderedDict[tuple[Path, str], Columns]" = field(default_factory=OrderedDict)
    kept: int = 0
    sums: dict[tuple[str, str, RunKey], Collectable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for collection, files in self.files.items():
            for file in files:
                index = read_index(file)
                for exp, run, events in index["events"]:
                    self.events[ExpRun(exp, run)] = self.events.get(ExpRun(exp, run), 0) + events
                for name, stored in index["objects"].items():
                    self._note(collection, name, file, stored)

    def _note(self, collection: str, name: str, file: Path, stored: Mapping[str, Any]) -> None:
        start = 0
        for part in stored["parts"]:
            run = None if part["run"] is None else ExpRun(*part["run"])
            noted = _Part(file, start, part["rows"], stored["kind"], part.get("axes"))
            self.parts.setdefault((collection, name), {}).setdefault(run, []).append(noted)
            start += part["rows"]

    def of(
        self, name: str, collection: str, *, runs: Iterable[ExpRun], kind: str
    ) -> Iterator[tuple[RunKey, list[_Part]]]:
        """The parts to be read for these runs; ``ConfigurationError`` when they are of another kind or collection."""
        if collection not in self.files:
            msg = f"there is no collection {collection!r} in the calibration, it has {', '.join(self.files)}"
            raise ConfigurationError(msg)
        by_run = self.parts.get((collection, name), {})
        for run in [None, *runs]:
            parts = by_run.get(run, [])
            if parts and parts[0].kind != kind:
                msg = f"{name!r} of collection {collection!r} was collected as {parts[0].kind}, not as {kind}"
                raise ConfigurationError(msg)
            if parts:
                yield run, parts

    def read(self, part: _Part, name: str) -> Columns:
        """The rows of a part; whole trees are kept in memory while there is room for them."""
        key = part.file, name
        if key not in self.rows:
            with open_root(part.file) as root:
                self.rows[key] = root[name].arrays(library="np")
            self.kept += _bytes(self.rows[key])
            while len(self.rows) > 1 and self.kept > _KEPT_BYTES:
                self.kept -= _bytes(self.rows.popitem(last=False)[1])
        self.rows.move_to_end(key)
        return {column: values[part.start : part.start + part.rows] for column, values in self.rows[key].items()}

    def summed(self, name: str, collection: str, *, run: RunKey, parts: Sequence[_Part]) -> Collectable:
        """The sum over files of one run, kept in memory."""
        key = collection, name, run
        if key not in self.sums:
            values = [_revived(self.read(part, name), part) for part in parts]
            total = values[0]
            for value in values[1:]:
                total = added_up(name, total, value)
            self.sums[key] = total
        return self.sums[key]


class CollectorFiles(CollectedData):
    """The collector output of some runs, read from files.

    Args:
        files: collection to its collector files, in the order of the sub-jobs.
        ignored: runs that are left out even if a file holds them.
    """

    def __init__(self, files: Mapping[str, Sequence[Path]], ignored: Iterable[ExpRun] = ()) -> None:
        self._store = _Store(files)
        left_out = frozenset(ignored)
        self._runs = tuple(sorted(run for run in self._store.events if run not in left_out))

    @property
    def runs(self) -> tuple[ExpRun, ...]:
        """The runs of this view, in order."""
        return self._runs

    @property
    def events(self) -> Mapping[ExpRun, int]:
        """Events per run, over all collections."""
        return {run: self._store.events[run] for run in self._runs}

    def of(self, runs: Iterable[ExpRun]) -> "CollectorFiles":
        """The same data restricted to some runs; what was read already is shared."""
        wanted = frozenset(runs)
        view = object.__new__(CollectorFiles)
        view._store = self._store
        view._runs = tuple(run for run in self._runs if run in wanted)
        return view

    def sums(self, name: str, collection: str = "default") -> Sums:
        """Added up over files and runs, in order."""
        total = self._total(name, collection, "sums")
        return Sums({c: v.copy() for c, v in total.items()}) if isinstance(total, Sums) else Sums()

    def hist(self, name: str, collection: str = "default") -> "Hist[Any] | None":
        """Added up over files and runs, in order."""
        total: Any = self._total(name, collection, "hist")
        return None if total is None else total.copy()

    def table(self, name: str, collection: str = "default") -> Table:
        """The rows of all runs in order, within a run those of the files in order."""
        found = [
            self._store.read(part, name)
            for _, parts in self._store.of(name, collection, runs=self._runs, kind="table")
            for part in parts
        ]
        return Table(_joined(name, found) if found else {})

    def _total(self, name: str, collection: str, kind: str) -> Collectable | None:
        total: Collectable | None = None
        for run, parts in self._store.of(name, collection, runs=self._runs, kind=kind):
            value = self._store.summed(name, collection, run=run, parts=parts)
            total = value if total is None else added_up(name, total, value)
        return total


def read_index(file: Path) -> dict[str, Any]:
    """What the collector file says of itself; ``DataError`` when it is damaged or of another format."""
    try:
        with open_root(file) as root:
            index: dict[str, Any] = json.loads(str(root[_INDEX]))
    except (OSError, KeyError, ValueError, uproot.DeserializationError) as error:
        msg = f"collector output {file} cannot be read: {error}; remove it and run the calibration again"
        raise DataError(msg) from error
    if index.get("format") != FORMAT_VERSION:
        found = index.get("format")
        msg = f"collector output {file} has format {found}, this release reads {FORMAT_VERSION}; collect again"
        raise DataError(msg)
    return index


def _check(name: str, value: object) -> None:
    if not _NAME.fullmatch(name) or name == _INDEX:
        msg = f"collected objects are named with letters, digits, _ . and -, and not 'index'; got {name!r}"
        raise ConfigurationError(msg)
    if is_hist(value):
        return
    if not isinstance(value, Sums | Table):
        msg = f"a collector returns Sums, Table or Hist, got {type(value).__name__} as {name!r}"
        raise ConfigurationError(msg)
    for column, values in value.items():
        value[column] = np.asarray(values)
        if value[column].ndim == 0 or value[column].dtype.kind not in "biuf":
            msg = f"column {column!r} of {name!r} must be a numeric array with rows, got {values!r}"
            raise ConfigurationError(msg)
    if len({len(values) for values in value.values()}) > 1:
        msg = f"the columns of {name!r} must be equally long, they are {_shapes(value)}"
        raise ConfigurationError(msg)


def _joined(name: str, values: Sequence[Any]) -> Columns:
    """Columns put one below the other."""
    filled = [columns for columns in values if columns]
    if not filled:
        return {}
    if any(columns.keys() != filled[0].keys() for columns in filled):
        msg = f"{name!r} has other columns in one file ({list(filled[0])}) than in another"
        raise ConfigurationError(msg)
    if len(filled) == 1:
        return dict(filled[0])
    return {column: np.concatenate([columns[column] for columns in filled]) for column in filled[0]}


def _revived(columns: Columns, part: _Part) -> Collectable:
    return Sums(columns) if part.kind == "sums" else hist_of_columns(columns, part.axes)


def _kind(value: Collectable) -> str:
    return "sums" if isinstance(value, Sums) else "table" if isinstance(value, Table) else "hist"


def _bytes(columns: Columns) -> int:
    return sum(values.nbytes for values in columns.values())


def _shapes(columns: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{column} {values.shape}" for column, values in columns.items())
