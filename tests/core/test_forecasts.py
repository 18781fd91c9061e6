from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.buckets import BucketPolicy, form_buckets
from b2cal_core.forecasts import Forecast, closing_time, forecasts, shortfalls, stands_still
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from b2cal_core.settings import CalibrationSettings

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PHYSICS = ("physics",)


def record(number: int, events: int = 100, kind: str = "physics") -> RunRecord:
    """A run of one hour, one after the other."""
    file = DataFile(f"/r{number}.root", "hadron_calib", "raw", events, 1, "0" * 64)
    started = BEGIN + number * HOUR
    return RunRecord(ExpRun(1, number), kind, "4S", "On", frozenset({"Good"}), started, started + HOUR, (file,))


def settings(name: str = "A") -> CalibrationSettings:
    filters = {"hadron_calib": ("hadron_calib", "physics")}
    return CalibrationSettings(
        name=name, input_data_formats={"cdst"}, input_data_names={"hadron_calib"}, input_data_filters=filters
    )


def test_a_bucket_closes_when_its_rule_says_at_the_rate_at_which_runs_came() -> None:
    records = [record(0), record(1), record(2, kind="cosmic"), record(3)]
    now = records[-1].ended
    assert closing_time(records, BucketPolicy(runs=6, counted=PHYSICS), now=now) == now + 4 * HOUR
    assert closing_time(records, BucketPolicy(events=450, counted=PHYSICS), now=now) == now + 2 * HOUR
    assert closing_time(records, BucketPolicy(hours=10, counted=PHYSICS), now=now) == BEGIN + 10 * HOUR


def test_nothing_tells_when_a_bucket_closes_by_hand_or_with_its_experiment_or_without_runs_that_count() -> None:
    for one, policy in (
        (record(0), BucketPolicy()),
        (record(0), BucketPolicy(whole_experiments=True)),
        (record(0, kind="cosmic"), BucketPolicy(runs=5, counted=PHYSICS)),
        (replace(record(0), files=()), BucketPolicy(runs=5, counted=PHYSICS)),
        (record(0, events=0), BucketPolicy(events=5, counted=PHYSICS)),
        (record(0, events=1), BucketPolicy(events=10**9, counted=PHYSICS)),
    ):
        assert closing_time([one], policy, now=one.ended) is None


def test_runs_without_files_do_not_bring_the_closing_nearer_as_they_do_not_fill_the_bucket() -> None:
    records = [record(0), replace(record(1), files=()), replace(record(2), files=()), record(3)]
    policy, now = BucketPolicy(runs=3, counted=PHYSICS), records[-1].ended
    assert form_buckets(records, policy).closed == ()
    assert closing_time(records, policy, now=now) == now + 2 * HOUR


def test_a_break_that_lasts_until_now_slows_the_rate_and_no_time_that_is_told_lies_in_the_past() -> None:
    records, now = [record(0), record(1)], BEGIN + 4 * HOUR
    assert closing_time(records, BucketPolicy(runs=4, counted=PHYSICS), now=now) == now + 4 * HOUR
    assert closing_time(records, BucketPolicy(hours=3, counted=PHYSICS), now=now) == now
    (found,) = forecasts(records, {"A": 300}, [settings()], BucketPolicy(runs=4, counted=PHYSICS), now=now)
    assert found == Forecast("A", 200, 300, 50.0, now + 2 * HOUR, 400)


def test_while_data_taking_stands_still_no_time_is_told_but_what_a_full_bucket_has() -> None:
    records, now = [record(0), record(1)], BEGIN + 5 * HOUR
    assert stands_still(records, now=now)
    assert not stands_still(records, now=BEGIN + 4 * HOUR)
    for policy, at_closing in ((BucketPolicy(runs=4, counted=PHYSICS), 400), (BucketPolicy(hours=9), None)):
        assert closing_time(records, policy, now=now) is None
        (found,) = forecasts(records, {"A": 300}, [settings()], policy, now=now)
        assert found == Forecast("A", 200, 300, 100.0, None, at_closing)


def test_a_clock_that_is_behind_the_runs_changes_nothing() -> None:
    records, policy = [record(0), record(1)], BucketPolicy(runs=4, counted=PHYSICS)
    behind, ahead = (closing_time(records, policy, now=now) for now in (BEGIN - HOUR, records[-1].ended))
    assert behind == ahead


def test_a_calibration_is_told_what_it_will_have_and_when_it_has_enough() -> None:
    records = [record(0), record(1)]
    policy = BucketPolicy(runs=5, counted=PHYSICS)
    enough, late, never = (
        forecasts(records, {"A": wanted}, [settings(), settings("B")], policy, now=records[-1].ended)[0]
        for wanted in (150, 1000, 10**9)
    )
    assert enough == Forecast("A", 200, 150, 100.0, records[-1].ended, 500)
    assert late == Forecast("A", 200, 1000, 100.0, records[-1].ended + 8 * HOUR, 500)
    assert (never.enough_at, never.at_closing) == (None, 500)
    assert [one.will_do for one in (enough, late, never)] == [True, False, False]
    hours = BucketPolicy(hours=8, counted=PHYSICS)
    (by_time,) = forecasts(records, {"A": 1000}, [settings()], hours, now=records[-1].ended)
    assert by_time.at_closing == 800


def test_without_a_time_of_closing_only_what_is_there_counts() -> None:
    (open_,) = forecasts([record(0)], {"A": 200}, [settings()], BucketPolicy(), now=BEGIN)
    assert (open_.at_closing, open_.will_do) == (None, None)
    (full,) = forecasts([record(0)], {"A": 100}, [settings()], BucketPolicy(), now=BEGIN)
    assert full.will_do is True


def test_of_too_few_events_is_warned_once_half_of_the_bucket_is_over() -> None:
    policy, wanted = BucketPolicy(runs=4, counted=PHYSICS), {"A": 401, "B": 400}

    def warned(*records: RunRecord, policy: BucketPolicy = policy) -> list[str]:
        now = max((one.ended for one in records), default=BEGIN)
        found = shortfalls(records, wanted, [settings(), settings("B")], policy, now=now)
        return [one.calibration for one in found]

    assert warned() == warned(record(0)) == []
    assert warned(record(0), record(1)) == ["A"]
    assert warned(record(0), record(1), policy=BucketPolicy()) == []


def test_no_runs_no_forecast() -> None:
    assert forecasts([], {"A": 1}, [settings()], BucketPolicy(runs=5), now=BEGIN) == ()


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 2000), st.integers(9, 30), st.integers(0, 3000)
)
def test_a_forecast_agrees_with_itself(events: list[int], wanted: int, runs: int, minutes: int) -> None:
    records = [record(number, count) for number, count in enumerate(events)]
    policy = BucketPolicy(runs=runs, counted=PHYSICS)
    now = BEGIN + minutes * HOUR / 60
    closes = closing_time(records, policy, now=now)
    (found,) = forecasts(records, {"A": wanted}, [settings()], policy, now=now)
    assert found.events == sum(events)
    assert (closes is None) == stands_still(records, now=now)
    assert found.at_closing is not None
    assert found.at_closing >= found.events
    if closes is not None and found.enough_at is not None and abs(found.at_closing - wanted) > 1:
        assert (found.enough_at <= closes) == (found.at_closing >= wanted)
