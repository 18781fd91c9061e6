from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.graphs import CycleError
from b2cal_core.impact import BASE, CDST, AffectedCells, AffectedSample, Impact, Sample, spread, steps_of
from b2cal_core.ranges import IoV
from b2cal_core.settings import Catalogue

ALWAYS = IoV(0, 0, -1, -1)


def script(name: str, stage: str = "raw", needs: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"name": name, "input_data_formats": [stage], "input_data_names": ["d"], "depends_on": list(needs)}


CATALOGUE = Catalogue.from_json(
    {
        "e": script("E", "cdst", ("D",)),
        "a": script("A"),
        "b": script("B", needs=("A",)),
        "c": script("C", needs=("B",)),
        "d": script("D", "cdst"),
    }
)


def campaign(*calibrations: str) -> Campaign:
    return Campaign(
        name="prompt", catalogue="r", base_tags=("main",), target_tag="t", calibrations=calibrations or None
    )


def test_steps_read_their_dependencies_the_base_tags_and_cdst_files() -> None:
    assert steps_of(campaign(), CATALOGUE) == {
        BASE: (),
        "A": (BASE,),
        "B": (BASE, "A"),
        "C": (BASE, "B"),
        CDST: (BASE, "A", "B", "C"),
        "D": (BASE, CDST),
        "E": (BASE, "D", CDST),
    }
    order = list(steps_of(campaign(), CATALOGUE))
    assert order.index("C") < order.index(CDST) < order.index("D") < order.index("E")


def test_a_calibration_that_is_not_asked_for_is_replaced_by_those_before_it() -> None:
    assert steps_of(campaign("C", "A"), CATALOGUE) == {BASE: (), "A": (BASE,), "C": (BASE, "A")}


def test_without_a_raw_stage_cdst_files_come_from_the_base_tags() -> None:
    assert steps_of(campaign("D"), CATALOGUE) == {BASE: (), CDST: (BASE,), "D": (BASE, CDST)}


NEEDS = {"a": (), "b": ("a",), "c": ("b",), "d": (), "e": ("c", "d")}


def within(blocks: int) -> Any:
    """Results are made from and valid for whole blocks of runs."""

    def hit(_step: str, read: frozenset[int]) -> frozenset[int]:
        touched = {run // blocks for run in read}
        return frozenset(run for block in touched for run in range(block * blocks, (block + 1) * blocks))

    return hit


def test_a_change_spreads_to_all_that_come_after_and_to_nothing_else() -> None:
    found = spread({"b": frozenset({5})}, NEEDS, within(4))
    assert found == {"b": {5}, "c": {4, 5, 6, 7}, "e": {4, 5, 6, 7}}


def test_what_is_read_through_a_step_that_is_not_affected_itself_counts() -> None:
    def hit(step: str, read: frozenset[int]) -> frozenset[int]:
        return frozenset() if step == "b" else read

    assert spread({"a": frozenset({5})}, NEEDS, hit) == {"a": {5}, "c": {5}, "e": {5}}


def test_no_runs_change_nothing() -> None:
    assert spread({"a": frozenset[int]()}, NEEDS, within(1)) == {}


@given(st.frozensets(st.integers(0, 40)), st.frozensets(st.integers(0, 40)), st.integers(1, 7))
def test_more_change_affects_more_and_two_changes_what_both_affect(
    one: frozenset[int], other: frozenset[int], blocks: int
) -> None:
    def ask(runs: frozenset[int]) -> dict[str, frozenset[int]]:
        return spread({"a": runs}, NEEDS, within(blocks))

    both = ask(one | other)
    for step in NEEDS:
        nothing = frozenset[int]()
        assert both.get(step, nothing) == ask(one).get(step, nothing) | ask(other).get(step, nothing)


def test_steps_in_a_circle_are_refused() -> None:
    with pytest.raises(CycleError):
        spread({"a": frozenset({1})}, {"a": ("b",), "b": ("a",)}, within(1))


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 121])
def test_a_sample_has_a_name_that_fits_a_file(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a sample is named"):
        Sample(name, "tag", ALWAYS)


def test_a_sample_has_a_tag_that_can_exist() -> None:
    with pytest.raises(ConfigurationError, match="global tag"):
        Sample("mc16", "no tag", ALWAYS)


def test_what_has_most_cells_comes_first() -> None:
    few, many = (AffectedCells("prompt", name, cells, 1, (ALWAYS,), ("t",)) for name, cells in (("a", 1), ("b", 2)))
    samples = [AffectedSample(Sample(name, "t", ALWAYS), names) for name, names in (("x", ("a",)), ("y", ("a", "b")))]
    found = Impact((few, many), (few,), tuple(samples))
    assert found.payloads == (many, few)
    assert [one.sample.name for one in found.samples] == ["y", "x"]
    assert found.to_json() == {
        "payloads": [
            {
                "campaign": "prompt",
                "name": name,
                "cells": cells,
                "ranges": 1,
                "tags": ["t"],
                "through": [],
                "iovs": [[0, 0, -1, -1]],
            }
            for name, cells in (("b", 2), ("a", 1))
        ],
        "cdst": [few.to_json()],
        "samples": [
            {"sample": "y", "tag": "t", "iov": [0, 0, -1, -1], "through": ["a", "b"]},
            {"sample": "x", "tag": "t", "iov": [0, 0, -1, -1], "through": ["a"]},
        ],
    }
