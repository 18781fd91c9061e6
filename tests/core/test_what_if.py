import re
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import CatalogueError, ConfigurationError
from b2cal_core.ranges import IoV
from b2cal_core.redo import Redo
from b2cal_core.settings import Catalogue
from b2cal_core.what_if import ConstantChange, FigureChange, WhatIf, branch_of, compare_columns

BUCKET, IOV = "e0012r00001-e0012r00004", IoV(12, 1, 12, 4)


def script(name: str, stage: str = "raw", needs: tuple[str, ...] = ()) -> dict[str, Any]:
    fields = {"name": name, "input_data_formats": [stage], "input_data_names": ["d"], "depends_on": list(needs)}
    return {**fields, "expert_username": "ada", "expert_config": {"minimum": 100, "cut": 1}}


CATALOGUE = Catalogue.from_json(
    {
        "a": script("A"),
        "b": script("B", needs=("A",)),
        "c": script("C", "cdst"),
        "d": script("D", "cdst", ("C",)),
    }
)
CAMPAIGN = Campaign.from_mapping(
    {
        "name": "prompt",
        "kind": "recalibration",
        "catalogue": "r1",
        "base_tags": ["main", "more"],
        "target_tag": "data",
        "staging_tag": "mine_{bucket}",
        "expert_config": {"a": {"minimum": 5}, "D": {"cut": 2}},
        "thresholds": {"B": {"pull": {"high_fail": 5}}},
        "failures_of": {"B": {}},
        "gates": {
            "publish": "verdict",
            "deputies": [{"expert": "ada", "deputy": "bob", "first_day": "2026-01-01", "last_day": "2026-02-01"}],
        },
        "buckets": {"runs": 4},
        "priority": 3,
    }
)


def what_if(**fields: Any) -> WhatIf:
    return WhatIf.checked(campaign="prompt", bucket=BUCKET, name="loose", **fields)


def test_a_branch_has_what_the_campaign_has_but_tags_of_its_own_and_the_one_bucket() -> None:
    branch = branch_of(what_if(expert_config={"A": {"cut": 9}}), CAMPAIGN, CATALOGUE)
    assert branch.name == "prompt_loose"
    assert (branch.kind, branch.catalogue, branch.base_tags) == (CAMPAIGN.kind, "r1", CAMPAIGN.base_tags)
    assert branch.expert_config == {"A": {"minimum": 5, "cut": 9}, "D": {"cut": 2}}
    assert set(branch.thresholds) == set(branch.failures_of) == {"B"}
    assert (branch.first_run, branch.last_run) == ((12, 1), (12, 4))
    assert branch.buckets.by_hand_only
    assert branch.target_tag == "what_if_prompt_loose"
    assert branch.staging_tag == "what_if_{campaign}_{bucket}"
    assert branch.fitted_to(CATALOGUE) == branch


@pytest.mark.parametrize(
    ("only", "made"),
    [((), ("A", "B", "C", "D")), (("a",), ("A",)), (("B",), ("A", "B")), (("d",), ("A", "B", "C", "D"))],
)
def test_a_branch_makes_what_is_asked_for_and_all_that_builds_upon(
    only: tuple[str, ...], made: tuple[str, ...]
) -> None:
    assert branch_of(what_if(only=only), CAMPAIGN, CATALOGUE).calibrations == made


def test_what_is_set_for_calibrations_that_are_not_made_is_left_out() -> None:
    branch = branch_of(what_if(only=("A",)), CAMPAIGN, CATALOGUE)
    assert branch.expert_config == {"A": {"minimum": 5}}
    assert branch.thresholds == branch.failures_of == {}


def test_another_release_is_used_where_one_is_named() -> None:
    assert branch_of(what_if(release="r2"), CAMPAIGN, CATALOGUE).catalogue == "r2"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"expert_config": {"A": {"nonsense": 1}}}, "has no key nonsense"),
        ({"expert_config": {"D": {"cut": 1}}, "only": ("A",)}, "does not make D; it makes A"),
    ],
)
def test_settings_that_nobody_reads_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        branch_of(what_if(**fields), CAMPAIGN, CATALOGUE).fitted_to(CATALOGUE)


@pytest.mark.parametrize(
    ("default", "value", "problem"),
    [
        (1.5, "abc", 'cut is a number in its script, 1.5, and cannot be the string "abc"; give a number'),
        (True, 1, "cut is a boolean in its script, true, and cannot be the number 1"),
        (1, True, "cannot be the boolean true"),
        ("loose", None, "cannot be the null null"),
        ([1, 2], {"a": 1}, "cannot be the object"),
        ({"a": 1}, [1], "cannot be the list"),
    ],
)
def test_a_value_of_another_type_than_the_scripts_is_refused(default: object, value: object, problem: str) -> None:
    catalogue = Catalogue.from_json({"a": {**script("A"), "expert_config": {"cut": default}}})
    campaign = Campaign.from_mapping({"name": "p", "catalogue": "r1", "base_tags": ["main"], "target_tag": "data"})
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        branch_of(what_if(expert_config={"A": {"cut": value}}), campaign, catalogue)


@pytest.mark.parametrize(("default", "value"), [(None, "abc"), (None, 1), (1.5, 2), (2, 1.5), ([], [1]), ("a", "b")])
def test_a_value_of_the_scripts_type_is_taken_and_any_where_the_script_has_none(default: object, value: object) -> None:
    catalogue = Catalogue.from_json({"a": {**script("A"), "expert_config": {"cut": default}}})
    campaign = Campaign.from_mapping({"name": "p", "catalogue": "r1", "base_tags": ["main"], "target_tag": "data"})
    branch = branch_of(what_if(expert_config={"A": {"cut": value}}), campaign, catalogue)
    assert branch.expert_config == {"A": {"cut": value}}


def test_a_calibration_of_another_campaign_is_refused() -> None:
    few = CAMPAIGN.model_copy(update={"calibrations": ("A", "B", "D")})
    with pytest.raises(ConfigurationError, match="campaign prompt does not make C"):
        branch_of(what_if(only=("C",)), few, CATALOGUE)
    with pytest.raises(CatalogueError):
        branch_of(what_if(only=("nonsense",)), few, CATALOGUE)


@pytest.mark.parametrize("fields", [{"name": "No"}, {"name": ""}, {"excluded_runs": ((-1, 2),)}, {"nonsense": 1}])
def test_a_branch_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="this is no branch"):
        WhatIf.checked(**{"campaign": "prompt", "bucket": BUCKET, "name": "loose", **fields})


def test_a_branch_goes_on_with_what_rejections_asked_for_but_for_what_it_sets_itself() -> None:
    change = what_if(expert_config={"A": {"cut": 9}}, excluded_runs=((12, 3), (12, 2)))
    before = Redo(expert_config={"cut": 5, "minimum": 7}, excluded_runs=((12, 1),))
    told = change.instruction("A", before)
    assert told == Redo(expert_config={"minimum": 7}, excluded_runs=((12, 1), (12, 2), (12, 3)))
    assert what_if().instruction("B", Redo()).is_empty


def one(old: dict[str, list[float]], new: dict[str, list[float]]) -> ConstantChange:
    (change,) = compare_columns("BeamSpot", IOV, old, new)
    return change


def test_the_entry_is_shown_that_differs_most_in_units_of_the_stated_error() -> None:
    change = one({"x": [1, 2, 3], "x_err": [1, 0.1, 1]}, {"x": [1, 2.2, 3.5], "x_err": [1, 1, 1]})
    assert (change.entries, change.changed) == (3, 2)
    assert (change.old, change.new, change.errors) == (2, 2.2, pytest.approx(2))
    assert change.difference == pytest.approx(0.2)


def test_without_stated_errors_the_largest_difference_is_shown() -> None:
    change = one({"x": [1, 2]}, {"x": [1.5, 1]})
    assert (change.old, change.new, change.difference, change.errors) == (2, 1, -1, None)


def test_what_is_no_number_any_more_differs_most() -> None:
    change = one({"x": [1, 2, nan], "x_err": [1, 1, 1]}, {"x": [nan, 9, nan]})
    assert change.changed == 2
    assert (change.old, change.errors) == (1, None)
    assert one({"x": [1]}, {"x": [inf]}).errors is None


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ({"x": [1.0]}, {}, "only the original has this column"),
        ({}, {"x": [1.0]}, "only the branch has this column"),
        ({"x": [1.0]}, {"x": [1.0, 2.0]}, "1 entries before, 2 in the branch"),
        ({"x": []}, {"x": []}, "it has no entries"),
    ],
)
def test_columns_that_cannot_be_compared_say_why(
    old: dict[str, list[float]], new: dict[str, list[float]], note: str
) -> None:
    change = one(old, new)
    assert (change.note, change.old, change.difference) == (note, None, None)


@given(st.lists(st.floats(allow_nan=True), min_size=1))
def test_nothing_differs_from_itself(values: list[float]) -> None:
    change = one({"x": values}, {"x": list(values)})
    assert (change.changed, change.note) == (0, "")


def test_changes_are_told_in_json() -> None:
    assert one({"x": [1.0]}, {"x": [2.0]}).to_json() == {
        "payload": "BeamSpot",
        "iov": [12, 1, 12, 4],
        "column": "x",
        "entries": 1,
        "changed": 1,
        "old": 1.0,
        "new": 2.0,
        "errors": None,
        "note": "",
        "difference": 1.0,
    }
    figure = FigureChange("A", "pull", 1.0, "pass", None, None)
    assert figure.to_json()["old_verdict"] == "pass"
