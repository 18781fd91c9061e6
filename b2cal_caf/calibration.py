"""What a calibration script is written with: collectors, collections, algorithms and calibrations.

These are the objects that ``get_calibrations`` returns; nothing here runs anything.
Source: basf2 CAF, classes Collection, Calibration and Algorithm.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, Union

import numpy as np

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.strategies import AlgResult, SingleIOV, Strategy

if TYPE_CHECKING:  # a script that fills no histogram need not wait for the package
    from hist import Hist

Columns = dict[str, np.ndarray]


class Sums(dict[str, np.ndarray]):
    """Columns of equal length that are added up, element by element, when outputs are merged."""


class Table(dict[str, np.ndarray]):
    """Columns of equal length whose rows are put one below the other when outputs are merged (a TTree)."""


Collectable: TypeAlias = Union[Sums, Table, "Hist[Any]"]
"""What a collector may return under a name."""


class ConditionsReader(ABC):
    """The constants a job sees: its database chain, resolved for one run at a time."""

    @abstractmethod
    def columns(self, name: str, run: ExpRun) -> Columns:
        """The payload's columns; ``DataError`` naming payload, run and chain when there is none."""

    @abstractmethod
    def has(self, name: str, run: ExpRun) -> bool:
        """Whether the chain has the payload in the run."""


class Collector(ABC):
    """Reads input files and returns what the algorithms need.

    A subclass is a frozen dataclass: its fields are its configuration, and must be writable as JSON.
    The same collector, configuration, file and constants always give the same output; that is what the cache relies on.
    """

    granularity: ClassVar[Literal["run", "all"]] = "run"
    """``run`` keeps what was collected apart per run; ``all`` keeps one heap, which only SingleIOV can use."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Names of the payloads it takes from the conditions."""

    @abstractmethod
    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """What one file of one run holds."""

    def count(self, file: Path) -> int:
        """Entries of the file's ``tree``; 0 excludes it before splitting."""
        from b2cal_caf.root_files import open_root  # noqa: PLC0415 (scripts are listed and checked without uproot)

        with open_root(file) as root:
            return int(root["tree"].num_entries)


@dataclass(frozen=True, slots=True)
class DummyCollector(Collector):
    """Collects nothing; for calibrations that only merge payloads of others. Give it one file."""

    granularity: ClassVar[Literal["run", "all"]] = "run"

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:  # noqa: ARG002 (nothing is read)
        """Nothing."""
        return {}


@dataclass(slots=True)
class Collection:
    """One data type of one calibration.

    Attributes:
        input_files: file to the run it belongs to, in order.
        max_files_per_job, max_jobs: how files are split into sub-jobs, exclusive; by default at most 1000 jobs.
        memory: MB requested per sub-job.
        seconds: wall time a sub-job may take; ``None`` leaves it to the batch system.
    """

    collector: Collector
    input_files: Mapping[Path, ExpRun]
    max_files_per_job: int | None = None
    max_jobs: int | None = None
    memory: int = 2000
    seconds: int | None = None

    def __post_init__(self) -> None:
        if self.max_files_per_job is not None and self.max_jobs is not None:
            msg = "a collection is split by max_files_per_job or by max_jobs, not by both"
            raise ConfigurationError(msg)


class CollectedData(ABC):
    """What was collected for the runs of one execution, merged on reading; names are the collector's."""

    @property
    @abstractmethod
    def runs(self) -> tuple[ExpRun, ...]:
        """The runs of this execution, in order."""

    @abstractmethod
    def sums(self, name: str, collection: str = "default") -> Sums:
        """Added up over files and runs; empty when nothing was collected under the name."""

    @abstractmethod
    def table(self, name: str, collection: str = "default") -> Table:
        """All rows of all files and runs; empty when nothing was collected under the name."""

    @abstractmethod
    def hist(self, name: str, collection: str = "default") -> "Hist[Any] | None":
        """Added up over files and runs; ``None`` when nothing was collected under the name."""

    @abstractmethod
    def of(self, runs: Iterable[ExpRun]) -> "CollectedData":
        """The same data restricted to some runs."""


class Execution(ABC):
    """One call of an algorithm: its runs, its label and where its payloads go, held until the strategy commits them."""

    data: CollectedData
    runs: tuple[ExpRun, ...]
    iov: IoV
    iteration: int
    conditions: ConditionsReader
    output_dir: Path
    requested_iov: IoV | None

    @abstractmethod
    def save(self, name: str, columns: Mapping[str, np.ndarray], iov: IoV | None = None) -> None:
        """Make a payload; valid in ``iov``, by default in the execution's own."""

    @abstractmethod
    def log(self, message: str) -> None:
        """Write a line to the algorithm's log."""


class Algorithm(ABC):
    """Turns collected data into payloads."""

    @property
    def name(self) -> str:
        """Names its log and gap report; the class name unless overridden."""
        return type(self).__name__

    @abstractmethod
    def calibrate(self, execution: Execution) -> AlgResult:
        """Calibrate the execution's runs; payloads saved count only if the answer is ok or iterate."""

    def boundaries(self, data: CollectedData) -> Sequence[ExpRun]:  # noqa: ARG002 (subclasses look at the data)
        """First runs of the intervals for ``SequentialBoundaries(None)``; none means it cannot be answered."""
        return ()


@dataclass(frozen=True, slots=True)
class Step:
    """An algorithm with the strategy by which it is given runs."""

    algorithm: Algorithm
    strategy: Strategy = field(default_factory=SingleIOV)


@dataclass(slots=True, eq=False)
class Calibration:
    """Collections, the algorithms that use them, and how often to go round.

    Attributes:
        max_iterations: number of *extra* passes an algorithm may ask for; by default the CAF's (5).
        ignored_runs: never collected nor given to algorithms; by default the CAF's (none).
        save_payloads: false marks results that only later calibrations of the script use.
    """

    name: str
    collections: Mapping[str, Collection]
    steps: Sequence[Step]
    max_iterations: int | None = None
    ignored_runs: Sequence[ExpRun] | None = None
    save_payloads: bool = True
    dependencies: list["Calibration"] = field(default_factory=list)

    def depends_on(self, other: "Calibration") -> None:
        """Start only when ``other`` is completed, and see its payloads first."""
        if other not in self.dependencies:
            self.dependencies.append(other)


InputData = Mapping[str, Mapping[str, IoV]]
"""What ``get_calibrations`` is given: input name to absolute file path to the IoV of its one run."""

ScriptOptions = Mapping[str, Any]
