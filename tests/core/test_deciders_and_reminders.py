"""Who may decide, and who is reminded of what is not decided."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.campaigns import Campaign
from b2cal_core.deputies import Deciders, Deputy, Role
from b2cal_core.errors import ConfigurationError, RightsError
from b2cal_core.reminders import OpenSignOff, Reminders, due_reminders

CAMPAIGN = {"name": "prompt", "catalogue": "reference", "base_tags": ["main"], "target_tag": "running"}
DAY = date(2026, 8, 15)
SINCE = datetime(2026, 8, 15, tzinfo=UTC)
SUMMER = Deputy(expert="ada", deputy="bob", first_day=date(2026, 8, 1), last_day=date(2026, 8, 31))
DECIDERS = Deciders("ada", ("mia",), (SUMMER, Deputy(expert="ada", deputy="eve"), Deputy(expert="kim", deputy="joe")))


def waiting(deciders: Deciders = DECIDERS) -> OpenSignOff:
    return OpenSignOff("prompt", "bucket", "CDC", "ab" * 32, SINCE, "warn", deciders)


@pytest.mark.parametrize(
    ("person", "role"),
    [("ada", "expert"), ("ADA", "expert"), ("Bob", "deputy"), ("eve", "deputy"), ("mia", "manager"), ("joe", "other")],
)
def test_a_person_has_one_role(person: str, role: str) -> None:
    assert DECIDERS.role(person, DAY) == role


@pytest.mark.parametrize(
    ("day", "acts"), [(date(2026, 7, 31), 0), (date(2026, 8, 1), 1), (date(2026, 8, 31), 1), (date(2026, 9, 1), 0)]
)
def test_both_ends_of_a_period_belong_to_it(day: date, acts: int) -> None:
    assert DECIDERS.role("bob", day) == (Role.deputy if acts else Role.other)


def test_whoever_is_expert_and_manager_decides_as_expert() -> None:
    assert Deciders("ada", ("ada",)).role("ada", DAY) is Role.expert


def test_a_calibration_without_expert_has_no_deputies() -> None:
    nobody = Deciders("", (), (Deputy(expert="ada", deputy="bob"),))
    assert nobody.role("bob", DAY) is Role.other
    assert nobody.in_words(DAY) == "nobody is named"
    assert nobody.named(Role.other, DAY) == ()


def test_those_who_may_decide_are_named_with_their_roles() -> None:
    assert DECIDERS.in_words(DAY) == "ada (expert), bob (deputy), eve (deputy), mia (manager)"


def test_a_deputy_decides_for_the_expert_and_nobody_else_for_anybody() -> None:
    decided = {who: DECIDERS.decides_for(who, DAY, experts_only=True) for who in ("ada", "bob", "mia")}
    assert decided == {"ada": "", "bob": "ada", "mia": ""}
    assert DECIDERS.decides_for("joe", DAY, experts_only=False) == ""
    with pytest.raises(RightsError, match=r"joe may not decide here, only ada \(expert\), .*mia \(manager\); ask"):
        DECIDERS.decides_for("joe", DAY, experts_only=True)


def test_a_campaign_names_them() -> None:
    gates = {"experts_only": True, "deputies": [{"expert": "ada", "deputy": "bob", "last_day": "2026-08-31"}]}
    campaign = Campaign.from_mapping(CAMPAIGN | {"owner": "mia", "managers": ["tom", "mia"], "gates": gates})
    deciders = campaign.deciders("ada")
    assert deciders.managers == ("mia", "tom")
    assert deciders.role("bob", DAY) is Role.deputy


@pytest.mark.parametrize(
    ("gates", "says"),
    [
        ({"deputies": [{"expert": "a", "deputy": "b", "first_day": "2026-02-02", "last_day": "2026-02-01"}]}, "before"),
        ({"deputies": [{"expert": "", "deputy": "b"}]}, "expert"),
        ({"reminders": {"expert": 48, "deputy": 24}}, r"deputies are reminded after experts.* \[48.0, 24.0, 120.0\]"),
        ({"redo": "sometimes"}, "gates.redo"),
        ({"redo_limit": -1}, "redo_limit"),
    ],
)
def test_gates_that_cannot_work_name_the_key(gates: dict, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Campaign.from_mapping(CAMPAIGN | {"gates": gates})


def hours(number: float) -> datetime:
    return SINCE + timedelta(hours=number)


@pytest.mark.parametrize(
    ("after", "to"),
    [
        (0, []),
        (23.9, []),
        (24, [("ada",)]),
        (72, [("ada",), ("bob", "eve")]),
        (1000, [("ada",), ("eve",), ("mia",)]),
    ],
)
def test_reminders_escalate(after: float, to: list[tuple[str, ...]]) -> None:
    due = due_reminders([waiting()], Reminders(), hours(after))
    assert [reminder.to for reminder in due] == to


def test_a_level_is_left_out_where_nobody_is_named_or_it_is_switched_off() -> None:
    assert due_reminders([waiting(Deciders(""))], Reminders(), hours(1000)) == ()
    due = due_reminders([waiting()], Reminders(expert=None, deputy=None), hours(1000))
    assert [reminder.role for reminder in due] == [Role.manager]


def test_the_key_of_a_reminder_is_of_result_and_level() -> None:
    first, second = (due_reminders([waiting()], Reminders(), hours(after))[0] for after in (24, 50))
    assert first.key == second.key == "prompt/bucket/CDC:reminder:abababababababab:expert"


@given(st.floats(0, 500), st.floats(0, 500))
def test_what_was_due_stays_due_so_that_a_missed_tick_loses_nothing(one: float, two: float) -> None:
    before, after = sorted((one, two))
    keys = [{r.key for r in due_reminders([waiting()], Reminders(), hours(h))} for h in (before, after)]
    assert keys[0] <= keys[1]


def test_more_people_are_to_act_as_time_passes() -> None:
    assert waiting().to_act(Reminders(), hours(1)) == ("ada",)
    assert waiting().to_act(Reminders(), hours(80)) == ("ada", "bob", "eve")
    assert waiting(Deciders("", ("mia",))).to_act(Reminders(), hours(1)) == ("mia",)
    assert waiting().waited(hours(-1)) == timedelta(0)
