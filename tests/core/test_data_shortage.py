from datetime import UTC, datetime

import pytest

from b2cal_core.buckets import Bucket
from b2cal_core.data_shortage import (
    SHORTAGE_RULE,
    ShortageChoice,
    joined_bucket,
    reasons_to_wait,
    remedy_after,
    standing_remedy,
)
from b2cal_core.ranges import ExpRun
from b2cal_core.remedies import Remedy

FIRST, SECOND, THIRD = (Bucket(ExpRun(12, run), ExpRun(12, run + 9)) for run in (1, 11, 21))
ALL = [THIRD, FIRST, SECOND]


def choice(remedy: Remedy, author: str = SHORTAGE_RULE) -> ShortageChoice:
    when = datetime(2026, 3, 1, tzinfo=UTC)
    return ShortageChoice("prompt", SECOND.key, "TOP T0", remedy, author, "the fit has not enough data", when)


def test_at_first_a_calibration_has_the_data_of_its_bucket_and_then_what_was_chosen_last() -> None:
    assert standing_remedy([]) is Remedy.alone
    assert standing_remedy([choice(Remedy.merge), choice(Remedy.reuse, "ada")]) is Remedy.reuse


@pytest.mark.parametrize("policy", Remedy)
def test_the_campaigns_remedy_is_tried_once_and_then_a_person_is_asked(policy: Remedy) -> None:
    wanted = Remedy.ask if policy is Remedy.alone else policy
    assert remedy_after(policy, Remedy.alone) is wanted
    for tried in set(Remedy) - {Remedy.alone}:
        assert remedy_after(policy, tried) is Remedy.ask


def test_data_are_taken_from_the_nearest_bucket_on_the_side_that_was_chosen() -> None:
    assert joined_bucket(Remedy.merge, SECOND, ALL) == FIRST
    assert joined_bucket(Remedy.merge, THIRD, ALL) == SECOND
    assert joined_bucket(Remedy.extend, FIRST, ALL) == SECOND
    assert joined_bucket(Remedy.merge, FIRST, ALL) is joined_bucket(Remedy.extend, THIRD, ALL) is None
    assert joined_bucket(Remedy.reuse, SECOND, ALL) is None


@pytest.mark.parametrize("remedies", [[], [Remedy.alone], [Remedy.reuse], [Remedy.merge], [Remedy.extend]])
def test_nothing_waits_where_what_was_chosen_can_be_done(remedies: list[Remedy]) -> None:
    assert reasons_to_wait([choice(remedy) for remedy in remedies], SECOND, ALL) == ()


@pytest.mark.parametrize(
    ("remedy", "buckets", "says"),
    [
        (Remedy.ask, ALL, "(the fit has not enough data); choose what is done: b2cal bucket data prompt e0012r00011-"),
        (Remedy.merge, [SECOND, THIRD], "no bucket before to take data from; choose what is done"),
        (Remedy.extend, [FIRST, SECOND], "goes on with those of the next bucket when that is closed"),
    ],
)
def test_otherwise_it_waits_and_says_for_whom(remedy: Remedy, buckets: list[Bucket], says: str) -> None:
    (reason,) = reasons_to_wait([choice(Remedy.merge), choice(remedy)], SECOND, buckets)
    assert reason.startswith("TOP T0 has not enough data in e0012r00011-e0012r00020")
    assert says in reason
