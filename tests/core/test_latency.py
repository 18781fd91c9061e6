"""Where the time of a bucket goes: every moment counts once, and for the first thing it is waited for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.latency import (
    BucketLatency,
    Claim,
    JudgedResult,
    Span,
    Spread,
    WaitsFor,
    open_decisions,
    partition,
    shares,
)
from b2cal_core.verdicts import Decision, SignOff

ZERO = datetime(2026, 3, 1, tzinfo=UTC)
moments = st.integers(0, 40)


def at(minute: float) -> datetime:
    return ZERO + timedelta(minutes=minute)


def span(start: float, end: float) -> Span:
    return Span(at(start), at(end))


def minutes(told: dict[WaitsFor, timedelta]) -> dict[str, float]:
    return {what.name: length / timedelta(minutes=1) for what, length in told.items() if length}


spans = st.tuples(moments, moments).map(lambda pair: span(*sorted(pair)))
claims = st.lists(st.builds(Claim, st.sampled_from(WaitsFor), spans), max_size=8)


@given(spans, claims)
def test_the_pieces_fill_the_whole_without_gap_or_overlap_and_sum_up_to_it(whole: Span, claimed: list[Claim]) -> None:
    pieces = partition(whole, claimed)
    assert sum(shares(pieces).values(), timedelta(0)) == whole.length
    assert all(one.span.end == other.span.start for one, other in pairwise(pieces))
    assert all(one.what is not other.what for one, other in pairwise(pieces))
    if pieces:
        assert (pieces[0].span.start, pieces[-1].span.end) == (whole.start, whole.end)


@given(spans, claims.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_the_order_in_which_things_are_claimed_is_of_no_matter(
    whole: Span, both: tuple[list[Claim], list[Claim]]
) -> None:
    assert partition(whole, both[0]) == partition(whole, both[1])


@given(spans, claims, st.builds(Claim, st.sampled_from(WaitsFor), spans))
def test_one_more_claim_never_lowers_the_share_of_its_kind_nor_raises_that_of_another(
    whole: Span, claimed: list[Claim], more: Claim
) -> None:
    before, after = shares(partition(whole, claimed)), shares(partition(whole, [*claimed, more]))
    assert after[more.what] >= before[more.what]
    assert all(after[other] <= before[other] for other in WaitsFor if other is not more.what)


@given(spans, claims, moments)
def test_every_moment_counts_as_the_first_kind_that_claims_it(whole: Span, claimed: list[Claim], minute: int) -> None:
    moment = at(minute + 0.5)
    here = [claim.what for claim in claimed if claim.span.start <= moment < claim.span.end]
    found = [piece.what for piece in partition(whole, claimed) if piece.span.start <= moment < piece.span.end]
    if whole.start <= moment < whole.end:
        assert found == [next((kind for kind in WaitsFor if kind in here), WaitsFor.platform)]
    else:
        assert found == []


@given(spans, claims)
def test_a_partition_of_the_pieces_is_the_pieces(whole: Span, claimed: list[Claim]) -> None:
    pieces = partition(whole, claimed)
    assert partition(whole, pieces) == pieces


@given(spans, st.lists(spans, max_size=5), moments)
def test_what_is_cut_out_of_a_span_is_gone_and_nothing_else(whole: Span, holes: list[Span], minute: int) -> None:
    moment = at(minute + 0.5)
    left = whole.without(holes)
    assert all(piece.start < piece.end for piece in left)
    is_left = sum(piece.start <= moment < piece.end for piece in left)
    in_hole = any(hole.start <= moment < hole.end for hole in holes)
    assert is_left == (whole.start <= moment < whole.end and not in_hole)


def test_a_span_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="must not end"):
        span(2, 1)


def latency(*claimed: Claim, arrivals: tuple[float, ...] = (0, 20, 30), end: float = 100) -> BucketLatency:
    return BucketLatency.of(
        "e0012r00001-e0012r00003", map(at, arrivals), closed=at(31), end=at(end), is_published=True, claims=claimed
    )


def test_until_its_last_run_a_bucket_waits_for_data_unless_something_of_it_is_computed() -> None:
    found = latency(Claim(WaitsFor.machine, span(10, 50)), Claim(WaitsFor.queue, span(45, 60)))
    assert minutes(dict(found.shares)) == {"data": 10, "machine": 40, "queue": 10, "platform": 40}
    assert minutes(dict(found.shares_since_closing)) == {"machine": 19, "queue": 10, "platform": 40}
    lengths = found.from_first_run, found.from_last_run, found.from_closing
    assert [length / timedelta(minutes=1) for length in lengths] == [100, 70, 69]


def test_runs_that_came_after_the_closing_were_not_waited_for() -> None:
    assert latency(arrivals=(0, 10, 60)).last_run == at(10)


def test_a_bucket_whose_runs_came_at_unknown_times_is_accounted_for_from_its_closing() -> None:
    found = latency(arrivals=())
    assert (found.first_run, found.last_run) == (at(31), at(31))
    assert found.from_first_run == found.from_closing


def test_an_end_before_the_closing_leaves_nothing_since_then() -> None:
    assert latency(end=5).from_closing == timedelta(0)


def test_a_spread_tells_the_middle_the_ninth_of_ten_and_the_worst() -> None:
    found = Spread.of(timedelta(minutes=n) for n in (10, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    told = (found.median, found.ninety, found.worst)
    assert [one / timedelta(minutes=1) for one in told] == [5.5, 9, 10]
    assert Spread.of([timedelta(5)]) == Spread(timedelta(5), timedelta(5), timedelta(5))


def decision(
    minute: float, what: Decision = Decision.accepted, *, evidence: str = "a", until: float | None = None
) -> SignOff:
    end = None if until is None else at(until)
    return SignOff("prompt", "b", "CDC", what, "ada", "why", evidence, at(minute), until=end)


HELD = JudgedResult(at(10), "a", is_held=True)


def opened(
    *decisions: SignOff, result: JudgedResult = HELD, by_hand: bool = True, now: float = 100
) -> list[tuple[float, float]]:
    found = open_decisions(result, decisions, redone_by_hand=by_hand, now=at(now))
    return [((one.start - ZERO) / timedelta(minutes=1), (one.end - ZERO) / timedelta(minutes=1)) for one in found]


def test_a_result_is_open_from_its_validation_to_the_decision() -> None:
    assert opened(decision(30)) == [(10, 30)]
    assert opened(decision(5)) == []
    assert opened() == [(10, 100)]


def test_what_a_rule_decides_was_open_for_nobody() -> None:
    by_rule = replace(decision(30), author="rule:all_pass")
    assert opened(by_rule) == []
    assert opened(by_rule, decision(50)) == []


def test_decisions_over_other_payloads_close_nothing() -> None:
    assert opened(decision(30, evidence="b")) == [(10, 100)]


def test_what_is_made_anew_is_not_waited_for_any_more() -> None:
    renewed = JudgedResult(at(10), "a", is_held=True, superseded=at(40))
    assert opened(decision(60), result=renewed) == [(10, 40)]


def test_a_gate_that_is_open_waits_for_nobody() -> None:
    assert opened(result=JudgedResult(at(10), "a", is_held=False)) == []


def test_after_a_rejection_somebody_has_to_redo_it_unless_the_campaign_does() -> None:
    rejected = decision(30, Decision.rejected)
    assert opened(rejected) == [(10, 30), (30, 100)]
    assert opened(rejected, decision(50)) == [(10, 30), (30, 50)]
    assert opened(rejected, by_hand=False) == [(10, 30)]


def test_a_waiver_that_has_ended_leaves_the_decision_open_again() -> None:
    waived = decision(30, Decision.waived, until=60)
    assert opened(waived) == [(10, 30), (60, 100)]
    assert opened(waived, decision(50)) == [(10, 30)]
    assert opened(waived, now=55) == [(10, 30)]
