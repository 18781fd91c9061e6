"""Waivers that end, and rejections that say what to do otherwise."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from b2cal_core.redo import Redo
from b2cal_core.verdicts import Decision, SignOff, redo_in_force, standing
from b2cal_core.waivers import waiver_over

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def decided(decision: Decision, evidence: str = "one", author: str = "ada", **more: object) -> SignOff:
    return SignOff("prompt", "bucket", "CDC", decision, author, "because", evidence, NOW, **more)  # type: ignore[arg-type]


def waived(days: float, figure: str = "", evidence: str = "one") -> SignOff:
    return decided(Decision.waived, evidence, until=NOW + days * DAY, figure=figure)


def rejected(redo: Redo | None, evidence: str = "one") -> SignOff:
    return decided(Decision.rejected, evidence, redo=redo)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"decision": Decision.waived},
        {"decision": Decision.accepted, "until": NOW},
        {"decision": Decision.accepted, "redo": Redo()},
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(nonsense: dict) -> None:
    with pytest.raises(ConfigurationError, match=r"has an end|only a rejection"):
        decided(**nonsense)


@pytest.mark.parametrize(
    ("waivers", "failed", "counts"),
    [
        ([], ["pull"], None),
        ([waived(1)], ["pull"], 0),
        ([waived(1)], [], 0),
        ([waived(1, evidence="other")], ["pull"], None),
        ([waived(-1)], ["pull"], None),
        ([waived(0)], ["pull"], None),
        ([waived(1, "pull")], ["pull"], 0),
        ([waived(1, "pull")], ["pull", "width"], None),
        ([waived(1, "pull"), waived(2, "width")], ["pull", "width"], 0),
        ([waived(1, "pull"), waived(3, "pull"), waived(2, "width")], ["pull", "width"], 2),
        ([waived(1, "pull")], [], None),
        ([waived(1, "pull"), waived(5), waived(4)], ["pull"], 1),
        ([decided(Decision.accepted), waived(1)], ["pull"], 1),
    ],
)
def test_a_waiver_counts_while_it_lasts_for_the_figures_it_is_about(waivers, failed, counts) -> None:
    found = waiver_over(waivers, "one", failed=failed, now=NOW)
    assert found is (None if counts is None else waivers[counts])


@given(st.floats(0.001, 1000), st.floats(-1000, 1000))
def test_a_waiver_lets_nothing_through_from_its_end_on(days: float, later: float) -> None:
    now = NOW + later * DAY
    assert (waiver_over([waived(days)], "one", failed=["pull"], now=now) is not None) == (now < NOW + days * DAY)


def test_a_waiver_is_no_decision_that_stands() -> None:
    rejection = rejected(None)
    assert standing([waived(1)], "one") is None
    assert standing([rejection, waived(1)], "one") is rejection


def test_a_waiver_takes_an_acceptance_back_so_that_its_end_is_an_end() -> None:
    accepted, by_rule = decided(Decision.accepted), decided(Decision.accepted, author="rule:all_pass")
    assert standing([accepted, waived(1)], "one") is None
    assert standing([by_rule, accepted, waived(1)], "one") is by_rule
    assert standing([accepted, waived(1), accepted], "one") is accepted
    assert standing([accepted, waived(1, evidence="other")], "one") is accepted


def test_what_only_some_decisions_have_is_told_in_words() -> None:
    assert decided(Decision.accepted).terms == {}
    waiver = decided(Decision.waived, until=NOW, figure="pull", deputy_of="kim")
    assert waiver.terms == {"as deputy of": "kim", "until": "2026-03-01 12:00 UTC", "figure": "pull"}
    assert rejected(Redo(expert_config={"minimum": 1})).terms == {"to be redone": "minimum=1"}


def test_rejections_add_up_and_the_later_one_wins() -> None:
    first = rejected(Redo(expert_config={"minimum": 1, "mode": "quick"}, excluded_runs=((12, 5),)))
    second = rejected(
        Redo(expert_config={"minimum": 2}, excluded_runs=((12, 3), (12, 5)), boundaries=((12, 9),)), "two"
    )
    assert redo_in_force([first, second]) == Redo(
        expert_config={"minimum": 2, "mode": "quick"}, excluded_runs=((12, 3), (12, 5)), boundaries=((12, 9),)
    )


def test_a_rejection_that_was_taken_back_asks_for_nothing() -> None:
    asked, accepted = Redo(expert_config={"minimum": 1}), decided(Decision.accepted)
    assert redo_in_force([rejected(asked), accepted]).is_empty
    assert redo_in_force([rejected(asked), accepted, rejected(None)]).is_empty
    assert redo_in_force([rejected(asked), decided(Decision.accepted, author="rule:all_pass")]) == asked
    assert redo_in_force([rejected(asked), rejected(None)]) == asked
    assert redo_in_force([rejected(None), rejected(asked), decided(Decision.accepted, "two"), waived(1)]) == asked
    assert redo_in_force([]).is_empty


def test_a_rejection_may_start_anew() -> None:
    anew = Redo(excluded_runs=((12, 1),), anew=True)
    decisions = [rejected(Redo(expert_config={"minimum": 1})), rejected(anew, "two")]
    assert redo_in_force(decisions) == Redo(excluded_runs=((12, 1),))
    assert anew.in_words() == "without exp 12 run 1; nothing of what was asked for before"


def test_a_redo_is_told_and_kept() -> None:
    redo = Redo(expert_config={"minimum": 1}, excluded_runs=((12, 5), (12, 3), (12, 5)), boundaries=((12, 9),))
    assert redo.in_words() == "minimum=1; payload_boundaries=[[12, 9]]; without exp 12 run 3, exp 12 run 5"
    assert Redo.from_json(redo.to_json()) == redo
    assert redo.config == {"minimum": 1, "payload_boundaries": [[12, 9]]}
    assert redo.leaves_out(ExpRun(12, 3))
    assert not redo.leaves_out(ExpRun(12, 4))
    assert Redo().in_words() == ""
    assert Redo(boundaries=()).config == {"payload_boundaries": []}


@pytest.mark.parametrize("text", ["{", '{"colour": 1}', '{"excluded_runs": [[-1, 2]]}'])
def test_what_is_no_redo_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no instruction for a redo"):
        Redo.from_json(text)


pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=4).map(tuple)
redos = st.builds(
    Redo,
    expert_config=st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
    excluded_runs=pairs,
    boundaries=st.none() | pairs,
)


@given(redos, redos, redos)
def test_redos_add_up_in_any_grouping(one: Redo, two: Redo, three: Redo) -> None:
    assert one.then(two).then(three) == one.then(two.then(three))
    assert Redo().then(one) == one == one.then(Redo())
    assert one.then(one) == one
