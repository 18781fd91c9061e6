"""Filters, the selection of files, and how runs are gathered into buckets."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from b2cal_core.awaited_runs import all_runs_there
from b2cal_core.buckets import (
    Bucket,
    BucketPolicy,
    LateRuns,
    after_last,
    bucket_of,
    close_by_hand,
    close_late_by_hand,
    form_buckets,
    form_late_buckets,
    frozen_at,
    gap_of,
)
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.filters import category_of, is_selected
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord, select_files, selection_digests
from resources.runs.embedded import EmbeddedRunRegistry

START = datetime(2026, 3, 1, tzinfo=UTC)


def file(name: str, tag: str = "hadron_calib", data_format: str = "raw", events: int = 100) -> DataFile:
    return DataFile(f"/data/{name}.root", tag, data_format, events, 10 * events, "0" * 64)


def record(exp: int, run: int, *files: DataFile, run_type: str = "physics", hours: float = 1.0) -> RunRecord:
    started = START + timedelta(hours=100 * exp + run)
    return RunRecord(
        ExpRun(exp, run),
        run_type,
        "4S",
        "On",
        frozenset({"Good", "Good Or Recoverable"}),
        started,
        started + timedelta(hours=hours),
        files or (file(f"e{exp}r{run}"),),
    )


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], True),
        (["physics"], True),
        (["cosmic"], False),
        (["cosmic", "physics"], True),
        (["physics", "Continuum"], False),
        (["physics", "Continuum", "4S"], True),
        (["NOT cosmic"], True),
        (["physics", "NOT On"], False),
        (["Either"], True),
        (["Off"], False),
        (["On", "Either", "Good", "NOT Bad For Alignment"], True),
        (["Off", "Either"], True),
    ],
)
def test_values_are_or_inside_a_category_and_between_categories_and_not_vetoes(filters, expected) -> None:
    assert is_selected({"physics", "4S", "On", "Good"}, filters) is expected


def test_no_beam_energy_is_a_value_too() -> None:
    assert is_selected({"physics", ""}, ["", "4S"])
    assert category_of("NOT ") == "Beam Energy"


def test_an_unknown_filter_is_named_with_what_is_known() -> None:
    with pytest.raises(ConfigurationError, match=r"'phys' is not in the taxonomy; use one of .*'physics'"):
        is_selected({"physics"}, ["phys"])


@given(st.sets(st.sampled_from(["physics", "4S", "On", "Good", "cosmic"])), st.sampled_from(["physics", "On", "Good"]))
def test_a_veto_is_the_opposite_of_the_filter(labels, value) -> None:
    assert is_selected(labels, [value]) is not is_selected(labels, [f"NOT {value}"])


def test_files_are_selected_by_input_in_order_of_run_and_path() -> None:
    records = [
        record(3, 2, file("b"), file("a"), file("m", "mumu_tight_or_highm_calib"), file("c", data_format="cdst")),
        record(3, 1, file("z")),
        record(3, 3, file("cosmics"), run_type="cosmic"),
        record(4, 1, file("outside")),
    ]
    filters = {"hadrons": ("hadron_calib", "physics"), "all": (), "muons": ("mumu_tight_or_highm_calib",)}
    chosen = select_files(records, filters, data_format="raw", within=IoV(3, 0, 3, -1))
    paths = {name: [item.file.path.removeprefix("/data/") for item in files] for name, files in chosen.items()}
    assert paths == {
        "hadrons": ["z.root", "a.root", "b.root"],
        "all": ["z.root", "a.root", "b.root", "m.root", "cosmics.root"],
        "muons": ["m.root"],
    }
    assert [item.run for item in chosen["hadrons"]] == [ExpRun(3, 1), ExpRun(3, 2), ExpRun(3, 2)]
    assert len(select_files(records, {"all": ()}, data_format="raw")["all"]) == 6


def test_a_selection_has_another_digest_whenever_a_file_of_it_changes() -> None:
    filters = {"hadrons": ("hadron_calib", "Good", "physics"), "all": ("physics",)}
    records = [record(3, 1, file("a"), file("m", "mumutight_calib"), file("c", data_format="cdst")), record(3, 2)]

    def digest(*changed: RunRecord) -> str:
        return selection_digests(changed or records, {"it": (filters, {"raw"})})["it"]

    first, second = records
    assert digest() == digest(second, first)
    assert digest() == digest(first, second, record(3, 3, file("c"), run_type="cosmic"))
    assert digest() == digest(replace(first, files=first.files[:2]), second)
    assert digest() != selection_digests(records, {"it": (filters, {"raw", "cdst"})})["it"]
    others = [
        (first,),
        (replace(first, quality=frozenset()), second),
        (replace(first, files=first.files[:1]), second),
        (replace(first, files=(replace(first.files[0], checksum="1" * 64), *first.files[1:])), second),
    ]
    assert len({digest(), *(digest(*other) for other in others)}) == 5


def test_events_of_a_run_are_counted_by_tag_and_format() -> None:
    run = record(3, 1, file("a", events=5), file("b", events=6), file("c", data_format="cdst", events=7))
    assert run.events("hadron_calib") == 11
    assert run.events("hadron_calib", "cdst") == 7
    assert run.labels() == {"physics", "4S", "On", "Good", "Good Or Recoverable"}
    assert "hadron_calib" in run.labels("hadron_calib")


def test_a_bucket_is_known_by_its_range() -> None:
    bucket = Bucket(ExpRun(12, 1), ExpRun(12, 350), "bucket7")
    assert bucket.key == "e0012r00001-e0012r00350"
    assert Bucket.from_key(bucket.key, "bucket7") == bucket
    assert bucket.iov == IoV(12, 1, 12, 350)
    assert bucket.contains(ExpRun(12, 350))
    assert not bucket.contains(ExpRun(12, 351))
    assert Bucket.from_key("e12345r123456-e12345r123456").key == "e12345r123456-e12345r123456"


@pytest.mark.parametrize("key", ["", "e12r1-e12r3", "e0012r00001", "e0012r00001-e0012r0035x"])
def test_what_is_no_bucket_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="keys look like e0012r00001-e0012r00350"):
        Bucket.from_key(key)


def test_a_bucket_does_not_end_before_it_starts() -> None:
    with pytest.raises(ConfigurationError, match="must not end"):
        Bucket(ExpRun(3, 2), ExpRun(3, 1))


def keys(records, policy: BucketPolicy, existing=()) -> list[tuple[int, int]]:
    return [(b.first.run, b.last.run) for b in form_buckets(records, policy, existing).closed]


def test_buckets_form_by_counted_runs_and_carry_the_others_along() -> None:
    records = [record(3, run, run_type="cosmic" if run in {2, 3} else "physics") for run in range(1, 8)]
    assert keys(records, BucketPolicy(runs=2)) == [(1, 4), (5, 6)]
    assert [r.run.run for r in form_buckets(records, BucketPolicy(runs=2)).waiting] == [7]


def test_a_run_whose_files_are_not_there_yet_does_not_fill_a_bucket() -> None:
    records = [replace(record(3, run), files=()) if run in {1, 3} else record(3, run) for run in range(1, 6)]
    assert keys(records, BucketPolicy(runs=2)) == [(1, 4)]
    assert keys(records, BucketPolicy(hours=3)) == [(1, 4)]


def test_buckets_form_by_events_and_by_time() -> None:
    records = [record(3, run, file(f"r{run}", events=100 * run)) for run in range(1, 7)]
    assert keys(records, BucketPolicy(events=500)) == [(1, 3), (4, 5), (6, 6)]
    assert keys(records, BucketPolicy(hours=3)) == [(1, 3), (4, 6)]


def test_a_policy_chooses_which_runs_and_which_events_count() -> None:
    records = [record(3, run, file(f"m{run}", "cosmic_calib", events=60), run_type="cosmic") for run in range(1, 6)]
    policy = BucketPolicy(events=100, events_of="cosmic_calib", counted=["cosmic", "NOT Bad For Alignment"])
    assert keys(records, policy) == [(1, 2), (3, 4)]
    assert keys(records, BucketPolicy(events=100, events_of="cosmic_calib")) == []


def test_without_a_rule_buckets_are_closed_by_hand_only() -> None:
    records = [record(3, run) for run in range(1, 50)]
    assert form_buckets(records, BucketPolicy()).closed == ()


def test_a_new_experiment_closes_the_bucket_unless_it_may_cross() -> None:
    records = [record(3, 8), record(3, 9), record(4, 0), record(4, 1)]
    assert form_buckets(records, BucketPolicy(runs=3)).closed == (Bucket(ExpRun(3, 8), ExpRun(3, 9)),)
    crossing = form_buckets(records, BucketPolicy(runs=3, cross_experiments=True))
    assert crossing.closed == (Bucket(ExpRun(3, 8), ExpRun(4, 0)),)


def test_runs_that_come_late_are_reported_and_not_put_anywhere() -> None:
    existing = [Bucket(ExpRun(3, 1), ExpRun(3, 4)), Bucket(ExpRun(3, 6), ExpRun(3, 9))]
    formation = form_buckets([record(3, run) for run in (2, 5, 9, 10)], BucketPolicy(runs=5), existing)
    assert [r.run.run for r in formation.late] == [5]
    assert [r.run.run for r in formation.waiting] == [10]


ROUND_A_GAP = [
    Bucket(ExpRun(3, 1), ExpRun(3, 4)),
    Bucket(ExpRun(3, 8), ExpRun(3, 9)),
    Bucket(ExpRun(5, 1), ExpRun(5, 2)),
]


@pytest.mark.parametrize(
    ("run", "gap"),
    [
        (ExpRun(2, 7), IoV(0, 0, 3, 0)),
        (ExpRun(3, 1), None),
        (ExpRun(3, 4), None),
        (ExpRun(3, 5), IoV(3, 5, 3, 7)),
        (ExpRun(3, 7), IoV(3, 5, 3, 7)),
        (ExpRun(3, 10), IoV(3, 10, 5, 0)),
        (ExpRun(4, 1), IoV(3, 10, 5, 0)),
        (ExpRun(5, 2), None),
        (ExpRun(5, 3), None),
    ],
)
def test_the_gap_around_a_late_run_has_no_run_of_a_bucket(run: ExpRun, gap: IoV | None) -> None:
    assert gap_of(run, ROUND_A_GAP) == gap
    holder = next((bucket for bucket in ROUND_A_GAP if bucket.contains(run)), None)
    assert bucket_of(run, ROUND_A_GAP) == holder


def test_late_runs_fill_a_bucket_in_their_gap_or_wait_there() -> None:
    late = [record(3, run) for run in (7, 5, 6)] + [record(4, 1), record(3, 11), record(3, 12)]
    assert form_late_buckets(late, BucketPolicy(runs=3), ROUND_A_GAP) == (
        Bucket(ExpRun(3, 5), ExpRun(3, 7)),
        Bucket(ExpRun(3, 11), ExpRun(3, 12)),  # a run of a later experiment closes it
    )
    assert form_late_buckets(late, BucketPolicy(runs=4), ROUND_A_GAP) == (Bucket(ExpRun(3, 11), ExpRun(3, 12)),)
    assert form_late_buckets(late, BucketPolicy(runs=1, late="next_bucket"), ROUND_A_GAP)[0].last == ExpRun(3, 5)


@pytest.mark.parametrize(
    "policy", [BucketPolicy(runs=1, late="ignore"), BucketPolicy(), BucketPolicy(whole_experiments=True)]
)
def test_late_runs_make_no_bucket_where_they_are_ignored_or_people_close_buckets(policy: BucketPolicy) -> None:
    late = [record(3, 5), record(3, 11)]
    assert form_late_buckets(late, policy, ROUND_A_GAP) == ()
    assert close_late_by_hand(late, policy, ROUND_A_GAP) == (
        Bucket(ExpRun(3, 5), ExpRun(3, 5)),
        Bucket(ExpRun(3, 11), ExpRun(3, 11)),
    )


def test_a_bucket_takes_late_runs_until_it_is_published_or_not_at_all() -> None:
    closed, published = START, START + timedelta(days=9)
    assert frozen_at(LateRuns.reopen, closed_at=closed, published_at=None) is None
    assert frozen_at(LateRuns.reopen, closed_at=closed, published_at=published) == published
    for late in (LateRuns.next_bucket, LateRuns.ignore):
        assert frozen_at(late, closed_at=closed, published_at=published) == closed
        assert frozen_at(late, closed_at=None, published_at=None) is None


def test_an_experiment_without_a_counted_run_makes_no_bucket() -> None:
    records = [record(3, 1, run_type="cosmic"), record(3, 2, run_type="cosmic"), record(4, 1), record(4, 2)]
    formation = form_buckets(records, BucketPolicy(runs=2))
    assert formation.closed == (Bucket(ExpRun(4, 1), ExpRun(4, 2)),)
    assert [r.run for r in formation.late] == [ExpRun(3, 1), ExpRun(3, 2)]


def test_without_a_rule_not_even_a_new_experiment_closes_a_bucket() -> None:
    records = [record(4, 1), record(3, 2), record(3, 1)]
    formation = form_buckets(records, BucketPolicy())
    assert formation.closed == ()
    assert len(formation.waiting) == 3


def test_what_comes_after_the_last_bucket_is_told_within_the_campaign() -> None:
    buckets = [Bucket(ExpRun(3, 6), ExpRun(3, 9)), Bucket(ExpRun(3, 1), ExpRun(3, 4))]
    assert after_last((), IoV(3, 2, 4, -1)) == IoV(3, 2, 4, -1)
    assert after_last(buckets, IoV(0, 0, -1, -1)) == IoV(3, 10, -1, -1)
    assert after_last(buckets, IoV(3, 20, 4, 7)) == IoV(3, 20, 4, 7)
    assert after_last(buckets, IoV(3, 0, 3, 9)) is None


def test_a_person_closes_one_bucket_per_experiment_unless_it_may_cross() -> None:
    waiting = [record(4, 1), record(3, 2), record(3, 1)]
    apart = close_by_hand(waiting, BucketPolicy())
    assert apart == (Bucket(ExpRun(3, 1), ExpRun(3, 2)), Bucket(ExpRun(4, 1), ExpRun(4, 1)))
    together = close_by_hand(waiting, BucketPolicy(cross_experiments=True))
    assert together == (Bucket(ExpRun(3, 1), ExpRun(4, 1)),)
    assert close_by_hand([], BucketPolicy()) == ()


def test_a_bucket_that_a_person_names_does_not_cross_experiments_unless_it_may() -> None:
    crossing, inside = Bucket(ExpRun(3, 1), ExpRun(4, 1)), Bucket(ExpRun(3, 1), ExpRun(3, 9))
    assert BucketPolicy().checked(inside) == inside
    assert BucketPolicy(cross_experiments=True).checked(crossing) == crossing
    with pytest.raises(ConfigurationError, match="e0003r00001-e0004r00001 spans several experiments"):
        BucketPolicy().checked(crossing)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"counted": ["hadron_calib"]}, "not by hadron_calib"),
        ({"counted": ["physic"]}, "not in the taxonomy"),
        ({"events": 5, "events_of": "hadrons"}, "'hadrons' is no data tag"),
        ({"events": 0}, "greater than or equal to 1"),
    ],
)
def test_a_policy_that_would_never_fill_a_bucket_is_refused(fields: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BucketPolicy(**fields)


def test_a_file_or_a_run_that_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="unknown data format 'root'; known are cdst"):
        file("a", data_format="root")
    with pytest.raises(DataError, match="claims -1 events"):
        file("a", events=-1)
    with pytest.raises(DataError, match=r"exp 3 run 1 ends .* before it starts"):
        record(3, 1, hours=-1)


def test_every_filter_is_checked_even_behind_a_veto_that_decides() -> None:
    with pytest.raises(ConfigurationError, match="'phys' is not in the taxonomy"):
        is_selected({"physics"}, ["NOT physics", "phys"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"runs": 3, "hours": 2}, "one rule, got runs and hours"),
        ({"events": 3, "whole_experiments": True}, "one rule, got events and whole_experiments"),
        ({"whole_experiments": True, "cross_experiments": True}, "set one of the two"),
    ],
)
def test_a_policy_has_one_rule(fields: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BucketPolicy(**fields)


def test_an_experiment_is_one_bucket_when_a_later_one_has_begun() -> None:
    records = [record(3, 8), record(3, 9, run_type="cosmic"), record(4, 1), record(5, 1, run_type="cosmic")]
    formation = form_buckets(records[:3], BucketPolicy(whole_experiments=True))
    assert formation.closed == (Bucket(ExpRun(3, 8), ExpRun(3, 9)),)
    assert [r.run for r in formation.waiting] == [ExpRun(4, 1)]
    over = form_buckets(records, BucketPolicy(whole_experiments=True), formation.closed, all_there=True)
    assert over.closed == (Bucket(ExpRun(4, 1), ExpRun(4, 1)),)
    assert [r.run for r in over.waiting] == [ExpRun(5, 1)]  # none of its runs counts


def test_the_last_experiment_is_a_bucket_when_no_more_runs_are_awaited() -> None:
    records = [record(3, 8), record(4, 1), record(4, 2)]
    formation = form_buckets(records, BucketPolicy(whole_experiments=True), all_there=True)
    assert formation.closed == (Bucket(ExpRun(3, 8), ExpRun(3, 8)), Bucket(ExpRun(4, 1), ExpRun(4, 2)))
    assert formation.waiting == ()
    assert len(form_buckets(records, BucketPolicy(runs=2), all_there=True).closed) == 2
    assert form_buckets(records, BucketPolicy(), all_there=True).closed == ()


@pytest.mark.parametrize(
    ("last_run", "registered", "all_there"),
    [
        (None, [(3, 1), (9, 1)], False),
        ((3, 9), [], False),
        ((3, 9), [(3, 1), (3, 8)], False),
        ((3, 9), [(3, 1), (3, 9)], True),
        ((3, 9), [(3, 10)], True),
        ((3, 9), [(4, 0)], True),
    ],
)
def test_a_campaign_awaits_no_run_when_its_last_one_or_a_later_one_is_registered(
    tmp_path: Path, last_run: tuple[int, int] | None, registered: list[tuple[int, int]], *, all_there: bool
) -> None:
    campaign = Campaign(name="again", catalogue="r", base_tags=("main",), target_tag="again", last_run=last_run)
    registry = EmbeddedRunRegistry(f"sqlite:///{tmp_path / 'runs.db'}")
    registry.add(record(exp, run) for exp, run in registered)
    assert all_runs_there(campaign, registry) is all_there


MANY = st.lists(
    st.builds(
        record,
        st.integers(3, 5),
        st.integers(0, 30),
        run_type=st.sampled_from(["physics", "physics", "cosmic"]),
    ),
    unique_by=lambda r: r.run,
    max_size=40,
)
POLICIES = st.one_of(
    st.builds(BucketPolicy, runs=st.integers(1, 6)),
    st.builds(BucketPolicy, events=st.integers(50, 600)),
    st.builds(BucketPolicy, hours=st.floats(1, 20)),
    st.just(BucketPolicy(whole_experiments=True)),
)


@given(MANY, POLICIES)
def test_buckets_are_disjoint_ordered_and_hold_every_run_once(records, policy) -> None:
    formation = form_buckets(records, policy)
    assert list(formation.closed) == sorted(formation.closed)
    for before, after in zip(formation.closed, formation.closed[1:], strict=False):
        assert before.last < after.first
    for bucket in formation.closed:
        assert bucket.first.exp == bucket.last.exp
        assert any(bucket.contains(r.run) and r.run_type == "physics" for r in records)
    held = [r.run for r in records if any(b.contains(r.run) for b in formation.closed)]
    others = [r.run for r in (*formation.waiting, *formation.late)]
    assert sorted([*held, *others]) == sorted(r.run for r in records)
    assert all(r.run_type == "cosmic" for r in formation.late)


@given(MANY, POLICIES, st.sampled_from(LateRuns), st.randoms())
def test_in_whatever_order_runs_come_buckets_stay_disjoint_and_keep_their_runs(records, policy, late, random) -> None:
    policy = policy.model_copy(update={"late": late})
    random.shuffle(records)
    booked: list[Bucket] = []
    for count in range(1, len(records) + 1):
        before = list(booked)
        formation = form_buckets(records[:count], policy, booked)
        booked += formation.closed
        made_late = form_late_buckets(formation.late, policy, booked)
        booked += made_late
        assert set(before) <= set(booked)
        assert not (made_late and late is LateRuns.ignore)
        ordered = sorted(booked)
        assert all(one.last < other.first for one, other in pairwise(ordered))
    left = form_buckets(records, policy, booked)
    kept = [r.run for r in records if any(bucket.contains(r.run) for bucket in booked)]
    assert sorted([*kept, *(r.run for r in (*left.waiting, *left.late))]) == sorted(r.run for r in records)


@given(MANY, POLICIES)
def test_forming_as_runs_arrive_is_forming_at_once(records, policy) -> None:
    ordered = sorted(records, key=lambda r: r.run)
    booked: list[Bucket] = []
    for count in range(len(ordered) + 1):
        booked += form_buckets(ordered[:count], policy, booked).closed
    assert tuple(booked) == form_buckets(ordered, policy).closed


@given(MANY)
def test_whole_experiments_are_one_bucket_each_from_their_first_run_to_their_last(records) -> None:
    formation = form_buckets(records, BucketPolicy(whole_experiments=True), all_there=True)
    runs = {exp: sorted(r.run for r in records if r.run.exp == exp) for exp in (3, 4, 5)}
    counted = {r.run.exp for r in records if r.run_type == "physics"}
    assert formation.closed == tuple(Bucket(runs[exp][0], runs[exp][-1]) for exp in sorted(counted))
    assert sorted(r.run for r in (*formation.late, *formation.waiting)) == [
        run for exp in (3, 4, 5) if exp not in counted for run in runs[exp]
    ]
