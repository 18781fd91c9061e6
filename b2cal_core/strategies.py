"""How runs become ranges: the four strategies by which an algorithm is given runs.

A strategy decides and the caller acts: ``run`` is given a function that executes the algorithm on some runs, and
answers which executions count. Payloads of an execution that does not count must be dropped.
Source: basf2 CAF, caf.strategies; agreed with its recorded answers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import Protocol

from b2cal_core.ranges import ExpRun, IoV


class AlgResult(StrEnum):
    """What an algorithm answers."""

    ok = "ok"
    iterate = "iterate"
    not_enough_data = "not_enough_data"
    failure = "failure"

    @property
    def is_success(self) -> bool:
        """Whether the payloads of the execution may be used."""
        return self in {AlgResult.ok, AlgResult.iterate}


class FinalState(StrEnum):
    """How a strategy ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Execution:
    """One call of the algorithm: the runs it was given, the label it was given, its answer, and whether it counts."""

    runs: tuple[ExpRun, ...]
    iov: IoV
    result: AlgResult
    committed: bool = False


@dataclass(frozen=True, slots=True)
class StrategyOutcome:
    """All that a strategy did.

    Attributes:
        executions: every call, in order; those with ``committed`` are the ones whose payloads count.
        committed: their IoVs, in order, disjoint.
        recorded: IoVs with the answer kept for them; a "not enough data" that more runs mended is not kept.
    """

    executions: tuple[Execution, ...]
    committed: tuple[IoV, ...]
    recorded: tuple[tuple[IoV, AlgResult], ...]
    final_state: FinalState


Execute = Callable[[tuple[ExpRun, ...], IoV], AlgResult]
FindBoundaries = Callable[[tuple[ExpRun, ...]], Sequence[ExpRun]]
Granularity = frozenset[str]

_ANY_GRANULARITY: Granularity = frozenset({"run", "all"})
_PER_RUN: Granularity = frozenset({"run"})


class Strategy(Protocol):
    """What every strategy offers."""

    @property
    def allowed_granularities(self) -> Granularity:
        """The collector granularities it can work with: ``run``, ``all``."""

    def run(
        self,
        runs: Iterable[ExpRun],
        execute: Execute,
        *,
        requested_iov: IoV | None = None,
        find_boundaries: FindBoundaries | None = None,
    ) -> StrategyOutcome:
        """Give the runs to the algorithm.

        Args:
            runs: runs with collected data, in any order.
            execute: calls the algorithm on runs of the list, under an IoV.
            requested_iov: only runs in it are used, ends included.
            find_boundaries: asks the algorithm where intervals start; only ``SequentialBoundaries(None)`` needs it.
        """


@dataclass(slots=True)
class _Ledger:
    """What is written down while a strategy works."""

    execute: Execute
    executions: list[Execution] = field(default_factory=list)
    recorded: list[tuple[IoV, AlgResult]] = field(default_factory=list)
    failed: bool = False

    def call(self, runs: Sequence[ExpRun], iov: IoV) -> int:
        """Execute, and return the number of the execution."""
        result = self.execute(tuple(runs), iov)
        self.executions.append(Execution(tuple(runs), iov, AlgResult(result)))
        return len(self.executions) - 1

    def commit(self, number: int) -> None:
        """Make an execution count."""
        self.executions[number] = replace(self.executions[number], committed=True)
        self.record(number)

    def record(self, number: int) -> None:
        """Keep an execution's answer."""
        done = self.executions[number]
        self.recorded.append((done.iov, done.result))
        self.failed |= not done.result.is_success

    def close(self) -> StrategyOutcome:
        """The outcome."""
        return StrategyOutcome(
            executions=tuple(self.executions),
            committed=tuple(done.iov for done in self.executions if done.committed),
            recorded=tuple(self.recorded),
            final_state=FinalState.FAILED if self.failed else FinalState.COMPLETED,
        )


def _usable(runs: Iterable[ExpRun], requested_iov: IoV | None) -> list[ExpRun]:
    return sorted(run for run in set(runs) if requested_iov is None or requested_iov.contains(run))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Runs that are tried together, and the first run they may be labelled with."""

    start: ExpRun
    runs: tuple[ExpRun, ...]


def _sequence(ledger: _Ledger, chunks: Sequence[_Chunk], coverage: IoV, *, keeps_bad_answers: bool) -> None:
    """Hold each success until the next one; join what is too little to the next chunk, at the end to the last success.

    A label runs up to the run before the next chunk, so what lies between is covered by the earlier payload.
    """
    held: int | None = None
    held_runs: tuple[ExpRun, ...] = ()
    trying: list[_Chunk] = []
    for position, chunk in enumerate(chunks):
        trying.append(chunk)
        rest = chunks[position + 1 :]
        runs = tuple(run for tried in trying for run in tried.runs)
        start = coverage.start if held is None else trying[0].start.edge
        number = ledger.call(runs, IoV.of_edges(start, rest[0].start.edge if rest else coverage.stop))
        result = ledger.executions[number].result
        if result.is_success:
            if held is not None:
                ledger.commit(held)
            held, held_runs, trying = number, runs, []
            if not rest:
                ledger.commit(held)
        elif result is AlgResult.failure or not rest:
            if result is AlgResult.not_enough_data and held is not None:
                _merge_back(ledger, held, (*held_runs, *runs), coverage, keeps_bad_answers=keeps_bad_answers)
            else:
                _give_up(ledger, number, keeps_bad_answers=keeps_bad_answers)
            return


def _merge_back(
    ledger: _Ledger, held: int, runs: tuple[ExpRun, ...], coverage: IoV, *, keeps_bad_answers: bool
) -> None:
    number = ledger.call(runs, IoV.of_edges(ledger.executions[held].iov.start, coverage.stop))
    if ledger.executions[number].result.is_success:
        ledger.commit(number)
    else:
        _give_up(ledger, number, keeps_bad_answers=keeps_bad_answers)


def _give_up(ledger: _Ledger, number: int, *, keeps_bad_answers: bool) -> None:
    if keeps_bad_answers:
        ledger.record(number)
    ledger.failed = True


def _check_coverage(runs: Sequence[ExpRun], coverage: IoV | None) -> None:
    if coverage is not None and runs and not coverage.covers(IoV.spanning(runs)):
        msg = (
            f"iov_coverage {coverage} leaves out runs that have data, which are {runs[0]} to {runs[-1]};"
            f" widen it to at least {IoV.spanning(runs)}, or leave the other runs out by requested_iov"
        )
        raise ValueError(msg)


def _by_experiment(runs: Sequence[ExpRun], coverage: IoV | None) -> Iterator[tuple[tuple[ExpRun, ...], IoV]]:
    """The runs of each experiment, and the IoV they have to cover: a payload never spans experiments.

    Only ``coverage`` may reach into experiments without data, which the first and the last IoV then do too.
    """
    _check_coverage(runs, coverage)
    groups = [tuple(group) for _, group in groupby(runs, key=lambda run: run.exp)]
    for position, group in enumerate(groups):
        exp = group[0].exp
        first, last = position == 0, position == len(groups) - 1
        low = group[0].edge if first and coverage is None else (exp, 0)
        high = (exp, group[-1].run + 1) if last and coverage is None else (exp + 1, 0)
        if coverage is not None:
            low = coverage.start if first else low
            high = coverage.stop if last else high
        yield group, IoV.of_edges(low, high)


def _take_four_numbers(strategy: object, name: str) -> None:
    """Let a configuration give an IoV as its four numbers."""
    iov = getattr(strategy, name)
    if iov is not None:
        object.__setattr__(strategy, name, IoV(*iov))


@dataclass(frozen=True, slots=True)
class SingleIOV:
    """One execution on all runs, labelled ``apply_iov`` or with the span of the runs."""

    apply_iov: IoV | None = None

    def __post_init__(self) -> None:
        _take_four_numbers(self, "apply_iov")

    @property
    def allowed_granularities(self) -> Granularity:
        """Both: runs are never told apart."""
        return _ANY_GRANULARITY

    def run(
        self,
        runs: Iterable[ExpRun],
        execute: Execute,
        *,
        requested_iov: IoV | None = None,
        find_boundaries: FindBoundaries | None = None,  # noqa: ARG002 (one signature for all strategies)
    ) -> StrategyOutcome:
        """See ``Strategy.run``; without runs the strategy fails."""
        ledger = _Ledger(execute)
        usable = _usable(runs, requested_iov)
        if not usable:
            ledger.failed = True
            return ledger.close()
        number = ledger.call(usable, self.apply_iov or IoV.spanning(usable))
        if ledger.executions[number].result.is_success:
            ledger.commit(number)
        else:
            ledger.record(number)
        return ledger.close()


@dataclass(frozen=True, slots=True)
class SequentialRunByRun:
    """``step_size`` runs at a time, as few as have enough data, each experiment by itself.

    IoVs are contiguous: they reach from one to the next and, with ``iov_coverage``, to its ends.
    """

    step_size: int = 1
    iov_coverage: IoV | None = None

    def __post_init__(self) -> None:
        if self.step_size < 1:
            msg = f"step_size counts runs and must be at least 1, got {self.step_size}"
            raise ValueError(msg)
        _take_four_numbers(self, "iov_coverage")

    @property
    def allowed_granularities(self) -> Granularity:
        """Per run only."""
        return _PER_RUN

    def run(
        self,
        runs: Iterable[ExpRun],
        execute: Execute,
        *,
        requested_iov: IoV | None = None,
        find_boundaries: FindBoundaries | None = None,  # noqa: ARG002 (one signature for all strategies)
    ) -> StrategyOutcome:
        """See ``Strategy.run``; without runs the strategy fails."""
        ledger = _Ledger(execute)
        usable = _usable(runs, requested_iov)
        ledger.failed = not usable
        for group, coverage in _by_experiment(usable, self.iov_coverage):
            pieces = (group[i : i + self.step_size] for i in range(0, len(group), self.step_size))
            _sequence(ledger, [_Chunk(piece[0], piece) for piece in pieces], coverage, keeps_bad_answers=True)
        return ledger.close()


@dataclass(frozen=True, slots=True)
class SequentialBoundaries:
    """Interval by interval between boundaries, each experiment by itself.

    A boundary is the first run of an interval; with ``None`` the algorithm is asked for them. Intervals without data
    are joined to the one before.
    """

    payload_boundaries: tuple[ExpRun, ...] | None = None
    iov_coverage: IoV | None = None

    def __post_init__(self) -> None:
        if self.payload_boundaries is not None:
            object.__setattr__(self, "payload_boundaries", _as_runs(self.payload_boundaries))
        _take_four_numbers(self, "iov_coverage")

    @property
    def allowed_granularities(self) -> Granularity:
        """Per run only."""
        return _PER_RUN

    def run(
        self,
        runs: Iterable[ExpRun],
        execute: Execute,
        *,
        requested_iov: IoV | None = None,
        find_boundaries: FindBoundaries | None = None,
    ) -> StrategyOutcome:
        """See ``Strategy.run``; without runs, or when the algorithm that is asked names no boundary, it fails."""
        ledger = _Ledger(execute)
        usable = _usable(runs, requested_iov)
        boundaries = self._boundaries(usable, find_boundaries)
        if not usable or boundaries is None:
            ledger.failed = True
            return ledger.close()
        for group, coverage in _by_experiment(usable, self.iov_coverage):
            _sequence(ledger, _intervals(group, boundaries), coverage, keeps_bad_answers=False)
            if ledger.failed:  # unlike run by run, later experiments are not tried
                break
        return ledger.close()

    def _boundaries(self, runs: Sequence[ExpRun], find: FindBoundaries | None) -> Sequence[ExpRun] | None:
        if self.payload_boundaries is not None:
            return self.payload_boundaries
        if find is None:
            msg = "SequentialBoundaries without payload_boundaries asks the algorithm; give find_boundaries"
            raise ValueError(msg)
        return (_as_runs(find(tuple(runs))) or None) if runs else None


def _as_runs(pairs: Iterable[Iterable[int]]) -> tuple[ExpRun, ...]:
    try:
        return tuple(ExpRun(*pair) for pair in pairs)
    except TypeError as error:
        msg = f"payload boundaries are (experiment, run) pairs, the first runs of intervals; got {pairs!r}"
        raise ValueError(msg) from error


def _intervals(runs: Sequence[ExpRun], boundaries: Iterable[ExpRun]) -> list[_Chunk]:
    """The runs between boundaries, intervals without runs left out."""
    exp = runs[0].exp
    starts = sorted({ExpRun(exp, 0), *(boundary for boundary in boundaries if boundary.exp == exp)})
    stops = [*starts[1:], ExpRun(exp + 1, 0)]
    chunks = (
        _Chunk(start, tuple(run for run in runs if start <= run < stop))
        for start, stop in zip(starts, stops, strict=True)
    )
    return [chunk for chunk in chunks if chunk.runs]


@dataclass(frozen=True, slots=True)
class SimpleRunByRun:
    """Each run alone, never merged; runs that fail are tolerated unless ``tolerate_bad_runs`` is false."""

    tolerate_bad_runs: bool = True

    @property
    def allowed_granularities(self) -> Granularity:
        """Per run only."""
        return _PER_RUN

    def run(
        self,
        runs: Iterable[ExpRun],
        execute: Execute,
        *,
        requested_iov: IoV | None = None,
        find_boundaries: FindBoundaries | None = None,  # noqa: ARG002 (one signature for all strategies)
    ) -> StrategyOutcome:
        """See ``Strategy.run``; without runs it is completed exactly when bad runs are tolerated."""
        ledger = _Ledger(execute)
        usable = _usable(runs, requested_iov)
        ledger.failed = not usable
        for run in usable:
            number = ledger.call([run], IoV.spanning([run]))
            if ledger.executions[number].result.is_success:
                ledger.commit(number)
            else:
                ledger.record(number)
        ledger.failed &= not self.tolerate_bad_runs
        return ledger.close()
