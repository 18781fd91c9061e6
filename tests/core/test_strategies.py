"""The four strategies: the recorded answers, and what holds for any runs and any algorithm."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.ranges import ExpRun, IoV, IoVSet
from b2cal_core.strategies import (
    AlgResult,
    FinalState,
    SequentialBoundaries,
    SequentialRunByRun,
    SimpleRunByRun,
    SingleIOV,
    Strategy,
    StrategyOutcome,
)

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "caf_strategy_vectors.jsonl").read_text().splitlines()
]
KINDS = {kind.__name__: kind for kind in (SingleIOV, SequentialRunByRun, SequentialBoundaries, SimpleRunByRun)}


class CountingAlgorithm:
    """The algorithm of the recorded answers: its answer depends on the events of the runs it is given."""

    def __init__(self, events: Mapping[ExpRun, int], *, minimum: int, bad=frozenset(), iterate=()) -> None:
        self.events = events
        self.minimum = minimum
        self.bad = bad
        self.iterate = iterate
        self.calls = 0

    def __call__(self, runs: tuple[ExpRun, ...], iov: IoV) -> AlgResult:
        self.calls += 1
        assert set(runs) <= set(self.events)
        total = sum(self.events[run] for run in runs)
        if self.bad & set(runs):
            return AlgResult.failure
        if total < self.minimum:
            return AlgResult.not_enough_data
        if self.iterate and (total in self.iterate or total % 7 == 0):
            return AlgResult.iterate
        return AlgResult.ok


def strategy_of(case: Mapping[str, Any]) -> Strategy:
    options: dict[str, Any] = {key: IoV(*case[key]) for key in ("apply_iov", "iov_coverage") if key in case}
    options |= {key: case[key] for key in ("step_size",) if key in case}
    if "payload_boundaries" in case:
        options["payload_boundaries"] = tuple(ExpRun(*pair) for pair in case["payload_boundaries"])
    return KINDS[case["strategy"]](**options)


def as_recorded(outcome: StrategyOutcome) -> dict[str, Any]:
    return {
        "executions": [[[list(run) for run in e.runs], list(e.iov), e.result.value] for e in outcome.executions],
        "committed": [list(iov) for iov in outcome.committed],
        "recorded": [[list(iov), result.value] for iov, result in outcome.recorded],
        "final_state": outcome.final_state.value,
    }


@pytest.mark.parametrize("vector", VECTORS)
def test_every_strategy_agrees_with_the_recorded_answers(vector: dict[str, Any]) -> None:
    case = vector["case"]
    events = {ExpRun(exp, run): count for exp, run, count in case["runs"]}
    bad = frozenset(ExpRun(*pair) for pair in case["bad"])
    algorithm = CountingAlgorithm(events, minimum=case["minimum"], bad=bad, iterate=case["iterate"])
    requested = IoV(*case["requested_iov"]) if "requested_iov" in case else None
    assert as_recorded(strategy_of(case).run(events, algorithm, requested_iov=requested)) == vector["expected"]


RUNS = st.dictionaries(
    st.builds(ExpRun, st.integers(3, 5), st.integers(0, 12)), st.integers(0, 40), min_size=1, max_size=14
)
BOUNDARIES = st.lists(st.builds(ExpRun, st.integers(3, 5), st.integers(0, 14)), max_size=6)


def _covering(events: Mapping[ExpRun, int]) -> IoV:
    first = min(events)
    return IoV(first.exp, 0, -1, -1)


@given(
    RUNS, st.integers(0, 60), st.integers(1, 4), st.sets(st.builds(ExpRun, st.just(4), st.integers(0, 12)), max_size=1)
)
def test_committed_iovs_of_run_by_run_never_overlap_and_hold_their_runs(events, minimum, step, bad) -> None:
    outcome = SequentialRunByRun(step_size=step).run(
        events, CountingAlgorithm(events, minimum=minimum, bad=frozenset(bad))
    )
    _check_committed(outcome)


@given(RUNS, st.integers(0, 60), BOUNDARIES)
def test_committed_iovs_between_boundaries_never_overlap_and_hold_their_runs(events, minimum, boundaries) -> None:
    outcome = SequentialBoundaries(tuple(boundaries)).run(events, CountingAlgorithm(events, minimum=minimum))
    _check_committed(outcome)


@given(RUNS)
def test_committed_iovs_of_simple_run_by_run_are_single_runs(events) -> None:
    outcome = SimpleRunByRun().run(events, CountingAlgorithm(events, minimum=10))
    _check_committed(outcome)
    assert outcome.committed == tuple(IoV(*run, *run) for run in sorted(events) if events[run] >= 10)
    assert outcome.final_state is FinalState.COMPLETED


def _check_committed(outcome: StrategyOutcome) -> None:
    IoVSet(outcome.committed)  # refuses overlaps
    for execution in outcome.executions:
        if execution.committed:
            assert execution.result.is_success
            assert all(execution.iov.contains(run) for run in execution.runs)
            assert len({run.exp for run in execution.runs}) == 1


@given(RUNS, st.integers(0, 60), st.integers(1, 3))
def test_with_coverage_committed_iovs_tile_it_wherever_data_exist(events, minimum, step) -> None:
    coverage = _covering(events)
    outcome = SequentialRunByRun(step, iov_coverage=coverage).run(events, CountingAlgorithm(events, minimum=minimum))
    _check_tiling(outcome, events, coverage)


@given(RUNS, st.integers(0, 60), BOUNDARIES)
def test_with_coverage_intervals_between_boundaries_tile_it_too(events, minimum, boundaries) -> None:
    coverage = _covering(events)
    strategy = SequentialBoundaries(tuple(boundaries), iov_coverage=coverage)
    _check_tiling(strategy.run(events, CountingAlgorithm(events, minimum=minimum)), events, coverage)


def _check_tiling(outcome: StrategyOutcome, events: Mapping[ExpRun, int], coverage: IoV) -> None:
    if outcome.final_state is FinalState.FAILED:
        return
    covered = IoVSet(outcome.committed)
    experiments = sorted({run.exp for run in events})
    for exp in experiments:
        last = exp == experiments[-1]
        whole = IoV.of_edges((exp, 0), coverage.stop if last else (exp + 1, 0))
        assert covered.missing_from(whole) == ()


@given(RUNS, st.integers(0, 60), st.randoms())
def test_the_order_and_the_doubling_of_runs_do_not_matter(events, minimum, random) -> None:
    shuffled = [*events, *events]
    random.shuffle(shuffled)
    algorithm = CountingAlgorithm(events, minimum=minimum)
    for strategy in (SingleIOV(), SequentialRunByRun(2), SequentialBoundaries(()), SimpleRunByRun()):
        assert strategy.run(shuffled, algorithm) == strategy.run(sorted(events), algorithm)


@pytest.mark.parametrize("strategy", [SingleIOV(), SequentialRunByRun(), SequentialBoundaries(())])
def test_without_runs_a_strategy_fails_and_calls_nothing(strategy: Strategy) -> None:
    outcome = strategy.run([], CountingAlgorithm({}, minimum=0))
    assert outcome == StrategyOutcome((), (), (), FinalState.FAILED)


def test_an_algorithm_that_is_asked_for_boundaries_sees_the_runs() -> None:
    events = {ExpRun(3, run): 10 for run in range(1, 7)}
    outcome = SequentialBoundaries().run(
        events, CountingAlgorithm(events, minimum=5), find_boundaries=lambda runs: [runs[3]]
    )
    assert outcome.committed == (IoV(3, 1, 3, 3), IoV(3, 4, 3, 6))


def test_an_algorithm_that_names_no_boundary_fails_the_strategy() -> None:
    events = {ExpRun(3, 1): 10}
    outcome = SequentialBoundaries().run(events, CountingAlgorithm(events, minimum=5), find_boundaries=lambda _runs: ())
    assert outcome.final_state is FinalState.FAILED


def test_boundaries_that_nobody_knows_are_an_error_that_says_what_to_give() -> None:
    events = {ExpRun(3, 1): 10}
    with pytest.raises(ValueError, match="give find_boundaries"):
        SequentialBoundaries().run(events, CountingAlgorithm(events, minimum=5))


def test_bad_runs_are_tolerated_only_when_asked() -> None:
    events = {ExpRun(3, 1): 10, ExpRun(3, 2): 0}
    algorithm = CountingAlgorithm(events, minimum=5)
    assert SimpleRunByRun().run(events, algorithm).final_state is FinalState.COMPLETED
    strict = SimpleRunByRun(tolerate_bad_runs=False)
    assert strict.run(events, algorithm).final_state is FinalState.FAILED
    assert strict.run([ExpRun(3, 1)], algorithm).final_state is FinalState.COMPLETED
    assert strict.run([], algorithm).final_state is FinalState.FAILED
    assert SimpleRunByRun().run([], algorithm).final_state is FinalState.COMPLETED


def test_only_a_single_iov_can_do_with_one_heap_of_data() -> None:
    assert SingleIOV().allowed_granularities == {"run", "all"}
    for strategy in (SequentialRunByRun(), SequentialBoundaries(), SimpleRunByRun()):
        assert strategy.allowed_granularities == {"run"}


def test_what_is_too_little_even_with_the_last_success_fails_and_commits_nothing() -> None:
    answers = iter([AlgResult.ok, AlgResult.not_enough_data, AlgResult.not_enough_data])
    outcome = SequentialRunByRun().run([ExpRun(3, 1), ExpRun(3, 2)], lambda _runs, _iov: next(answers))
    assert outcome.committed == ()
    assert outcome.recorded == ((IoV(3, 1, 3, 2), AlgResult.not_enough_data),)
    assert outcome.final_state is FinalState.FAILED


def test_iovs_and_boundaries_may_be_given_as_plain_numbers() -> None:
    assert SingleIOV((3, 1, 3, -1)) == SingleIOV(IoV(3, 1, 3, -1))
    assert SequentialRunByRun(iov_coverage=[3, 0, -1, -1]).iov_coverage == IoV(3, 0, -1, -1)
    assert SequentialBoundaries([(3, 4)], [3, 0, -1, -1]) == SequentialBoundaries((ExpRun(3, 4),), IoV(3, 0, -1, -1))
    events = {ExpRun(3, run): 10 for run in range(1, 7)}
    algorithm = CountingAlgorithm(events, minimum=5)
    outcome = SequentialBoundaries().run(events, algorithm, find_boundaries=lambda _runs: [(3, 4)])
    assert outcome == SequentialBoundaries([(3, 4)]).run(events, algorithm)


@pytest.mark.parametrize("boundaries", [[3, 4], [(3,)], 5, [("3", "4")]])
def test_boundaries_that_are_no_runs_are_refused_with_what_they_should_be(boundaries) -> None:
    with pytest.raises(ValueError, match=r"\(experiment, run\) pairs"):
        SequentialBoundaries(boundaries)


@pytest.mark.parametrize("coverage", [IoV(3, 2, -1, -1), IoV(3, 0, 3, 5), IoV(4, 0, -1, -1)])
def test_a_coverage_that_leaves_out_data_is_refused_before_anything_is_executed(coverage: IoV) -> None:
    events = {ExpRun(3, run): 10 for run in range(1, 7)}
    for strategy in (SequentialRunByRun(iov_coverage=coverage), SequentialBoundaries((), iov_coverage=coverage)):
        algorithm = CountingAlgorithm(events, minimum=5)
        with pytest.raises(ValueError, match="widen it to at least 3,1,3,6"):
            strategy.run(events, algorithm)
        assert algorithm.calls == 0


def test_a_requested_iov_leaves_out_the_runs_outside_it() -> None:
    events = {ExpRun(3, run): 10 for run in range(1, 7)}
    strategy = SequentialRunByRun(2, iov_coverage=IoV(3, 2, 3, 9))
    outcome = strategy.run(events, CountingAlgorithm(events, minimum=5), requested_iov=IoV(3, 2, 3, 5))
    assert outcome.committed == (IoV(3, 2, 3, 3), IoV(3, 4, 3, 9))


def test_boundaries_of_other_experiments_and_beyond_the_data_change_nothing() -> None:
    events = {ExpRun(3, run): 10 for run in range(1, 7)}
    algorithm = CountingAlgorithm(events, minimum=5)
    plain = SequentialBoundaries([(3, 4)]).run(events, algorithm)
    assert SequentialBoundaries([(3, 4), (2, 5), (3, 90), (7, 0), (3, 4)]).run(events, algorithm) == plain


def test_the_last_runs_are_merged_back_and_the_payload_held_is_dropped() -> None:
    events = {ExpRun(3, 1): 10, ExpRun(3, 4): 2}
    outcome = SequentialRunByRun().run(events, CountingAlgorithm(events, minimum=5))
    assert [(e.runs, e.committed) for e in outcome.executions] == [
        ((ExpRun(3, 1),), False),
        ((ExpRun(3, 4),), False),
        ((ExpRun(3, 1), ExpRun(3, 4)), True),
    ]
    assert outcome.committed == (IoV(3, 1, 3, 4),)


@given(RUNS, st.integers(0, 60), BOUNDARIES)
def test_an_algorithm_only_ever_sees_runs_of_the_list_in_order_and_of_one_experiment(events, minimum, bounds) -> None:
    for strategy in (SequentialRunByRun(2), SequentialBoundaries(tuple(bounds)), SimpleRunByRun()):
        outcome = strategy.run(events, CountingAlgorithm(events, minimum=minimum), requested_iov=IoV(3, 2, 4, 8))
        for execution in outcome.executions:
            assert set(execution.runs) <= {run for run in events if IoV(3, 2, 4, 8).contains(run)}
            assert list(execution.runs) == sorted(set(execution.runs))
            assert len({run.exp for run in execution.runs}) == 1


@given(RUNS, st.integers(0, 60))
def test_committed_iovs_of_one_experiment_leave_no_hole(events, minimum) -> None:
    outcome = SequentialRunByRun().run(events, CountingAlgorithm(events, minimum=minimum))
    for exp in {iov.exp_low for iov in outcome.committed}:
        assert IoVSet(iov for iov in outcome.committed if iov.exp_low == exp).gaps == ()


def test_a_step_of_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SequentialRunByRun(0)
