from datetime import UTC, datetime

import pytest

from b2cal_core.buckets import Bucket
from b2cal_core.data_shortage import (
    SHORTAGE_RULE,
    ShortageChoice,
    asks_a_person,
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
    assert reasons_to_wait([choice(remedy) for remedy in remedies], SECOND, ALL, is_last=False) == ()
    assert not asks_a_person([choice(remedy) for remedy in remedies], SECOND, ALL, is_last=False)


@pytest.mark.parametrize(
    ("remedy", "buckets", "is_last", "says"),
    [
        (Remedy.ask, ALL, False, "(the fit has not enough data); choose what is done: {data} merge|extend|reuse"),
        (Remedy.ask, ALL, True, "(the fit has not enough data); choose what is done: {data} merge|reuse"),
        (Remedy.merge, [SECOND], False, "no bucket before to take data from; choose what is done: {data} extend|"),
        (Remedy.extend, [FIRST, SECOND], True, "no bucket after it to take data from; choose what is done: {data} m"),
    ],
)
def test_where_nothing_else_helps_a_person_is_asked_for_what_can_be_had(
    remedy: Remedy, buckets: list[Bucket], *, is_last: bool, says: str
) -> None:
    choices = [choice(Remedy.merge), choice(remedy)]
    (reason,) = reasons_to_wait(choices, SECOND, buckets, is_last=is_last)
    assert reason.startswith("TOP T0 has not enough data in e0012r00011-e0012r00020")
    assert says.format(data=f"b2cal bucket data prompt {SECOND.key} top_t0") in reason
    assert asks_a_person(choices, SECOND, buckets, is_last=is_last)


def test_while_another_bucket_may_come_it_is_waited_for_and_the_commands_name_the_campaign() -> None:
    (reason,) = reasons_to_wait([choice(Remedy.extend)], SECOND, [FIRST, SECOND], is_last=False)
    assert "goes on with those of the next bucket when that is closed" in reason
    assert f"b2cal bucket data prompt {SECOND.key} top_t0 merge|reuse --reason" in reason
    assert reason.endswith("b2cal bucket close prompt")
    assert not asks_a_person([choice(Remedy.extend)], SECOND, [FIRST, SECOND], is_last=False)
