"""Settings of scripts, and the catalogue made of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from b2cal_core.errors import CatalogueError
from b2cal_core.graphs import CycleError, topological_order, transitive
from b2cal_core.settings import CalibrationSettings, Catalogue, ValidationSettings, asset_name

REAL = json.loads((Path(__file__).parents[1] / "data" / "prompt_catalogue.json").read_text())


def settings(name: str, *needs: str, **more) -> CalibrationSettings:
    fields = {"input_data_formats": {"raw"}, "input_data_names": {"hadron_calib"}} | more
    return CalibrationSettings(name=name, depends_on=needs, **fields)


def test_the_real_catalogue_is_read_and_ordered() -> None:
    catalogue = Catalogue.from_json(REAL)
    order = catalogue.order()
    assert len(order) == len(REAL) == 27
    for name in order:
        assert all(order.index(needed) < order.index(name) for needed in catalogue[name].depends_on)
        assert set(catalogue[name].depends_on) <= set(catalogue.dependencies(name))
    assert catalogue.dependencies("BoostVector Calibrations")[-1] == "BeamSpot Calibrations"
    assert catalogue.script("CDC Tracking") == "caf_cdc"
    assert Catalogue.from_json(catalogue.to_json()).to_json() == catalogue.to_json()


def test_a_calibration_is_found_by_any_of_its_names() -> None:
    catalogue = Catalogue.from_json(REAL)
    assert {catalogue.find(word) for word in ("CDC Tracking", "cdc_tracking", "caf_cdc")} == {"CDC Tracking"}
    assert "CDC Tracking" in catalogue
    with pytest.raises(CatalogueError, match="no calibration is called 'cdc'"):
        catalogue.find("cdc")
    with pytest.raises(CatalogueError, match="the catalogue has none"):
        Catalogue({}).find("cdc")


def test_a_cycle_names_its_path() -> None:
    scripts = {"a": settings("A", "B"), "b": settings("B", "C"), "c": settings("C", "A")}
    with pytest.raises(CatalogueError, match="A -> B -> C -> A"):
        Catalogue(scripts)


def test_an_unknown_dependency_is_named() -> None:
    with pytest.raises(CatalogueError, match="'A' depends on 'Z'"):
        Catalogue({"a": settings("A", "Z")})


def test_names_are_unique_also_as_asset_names() -> None:
    with pytest.raises(CatalogueError, match="a and b share the name 'A'"):
        Catalogue({"a": settings("A"), "b": settings("A")})
    with pytest.raises(CatalogueError, match="asset name 'cdc_dedx'"):
        Catalogue({"a": settings("CDC dedx"), "b": settings("CDC dEdx")})


def test_settings_that_are_not_valid_name_the_script() -> None:
    with pytest.raises(CatalogueError, match="settings of script caf_x are not valid"):
        Catalogue.from_json({"caf_x": {"name": "X"}})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "x" * 65}, "at most 64"),
        ({"name": ""}, "at least 1"),
        ({"name": "!!"}, "letter or a digit"),
        ({"input_data_formats": {"root"}}, "unknown data formats"),
        ({"input_data_formats": set()}, "at least 1"),
        ({"input_data_filters": {"other": ["On"]}}, "must have the same keys"),
        ({"input_data_filters": {"hadron_calib": ["Onn"]}}, "not in the taxonomy"),
        ({"expert_config": {"x": {1, 2}}}, "JSON-serialisable"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_settings_refuse_what_cannot_work(fields: dict, says: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=says):
        settings(**({"name": "X"} | fields))


def test_settings_take_other_settings_as_dependencies_and_hold_names() -> None:
    first = settings("First", input_data_formats="RAW")
    second = CalibrationSettings(
        name="Second", input_data_formats={"cdst"}, input_data_names={"x"}, depends_on=[first, "Third"]
    )
    assert second.depends_on == ("First", "Third")
    assert (first.stage, second.stage) == ("raw", "cdst")
    assert json.loads(second.json_dumps())["depends_on"] == ["First", "Third"]


def test_validation_settings_check_their_configuration_too() -> None:
    assert ValidationSettings(name="CDC Tracking").expert_config == {}
    with pytest.raises(ValidationError, match="JSON-serialisable"):
        ValidationSettings(name="CDC Tracking", expert_config={"x": object()})


def test_a_single_dependency_may_be_given_as_it_is() -> None:
    assert settings("Second", input_data_formats="cdst").model_copy().stage == "cdst"
    fields = {"input_data_formats": {"raw"}, "input_data_names": {"x"}}
    assert CalibrationSettings(name="B", depends_on="CDC Tracking", **fields).depends_on == ("CDC Tracking",)
    assert CalibrationSettings(name="B", depends_on=settings("A"), **fields).depends_on == ("A",)


def test_settings_that_are_not_valid_are_told_in_one_line() -> None:
    with pytest.raises(CatalogueError, match="input_data_names: Field required") as error:
        Catalogue.from_json({"caf_x": {"name": "X", "input_data_formats": ["raw"]}})
    assert "\n" not in str(error.value)


def test_asset_names_are_plain_words() -> None:
    assert asset_name("PXD hot/dead pixel calibration") == "pxd_hot_dead_pixel_calibration"


GRAPHS = st.lists(st.sets(st.integers(0, 7), max_size=4), min_size=8, max_size=8).map(
    lambda rows: {str(i): tuple(sorted(str(j) for j in needs if j < i)) for i, needs in enumerate(rows)}
)


@given(GRAPHS, st.randoms())
def test_an_order_puts_needs_first_and_is_stable(graph, random) -> None:
    names = list(graph)
    random.shuffle(names)
    order = topological_order({name: graph[name] for name in names})
    assert sorted(order) == sorted(graph)
    for name in graph:
        assert all(order.index(needed) < order.index(name) for needed in graph[name])
        assert transitive(name, graph) == set(graph[name]).union(*(transitive(n, graph) for n in graph[name]))
    assert topological_order({name: graph[name] for name in order}) == order


def test_a_chain_longer_than_the_stack_is_ordered() -> None:
    needs = {str(i): (str(i + 1),) for i in range(5000)}
    assert topological_order(needs)[0] == "4999"
    with pytest.raises(CycleError):
        topological_order(needs | {"5000": ("0",)})


def test_a_name_that_needs_itself_is_a_cycle() -> None:
    with pytest.raises(CycleError, match="a -> a"):
        topological_order({"a": ("elsewhere", "a")})
