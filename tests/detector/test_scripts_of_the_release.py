import json
from pathlib import Path

import pytest
import yaml

from b2cal_caf.calibration import DummyCollector
from b2cal_caf.scripts import load_script, read_catalogue, read_validation
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.strategies import SequentialBoundaries, SequentialRunByRun, SingleIOV
from b2cal_detector.nominal import nominal_constants, write_nominal
from b2cal_detector.release import CAMPAIGN, CATALOGUE, SCRIPTS, catalogue

BUCKET = IoV(12, 1, 12, 20)
OPEN = IoV(12, 1, -1, -1)
NAMES = sorted(path.stem.removeprefix("caf_") for path in SCRIPTS.glob("caf_*.py"))


def _calibrations(name: str, **expert_config: object):
    script = load_script(SCRIPTS / f"caf_{name}.py")
    inputs = {
        key: {f"/data/{key}/r{run}.root": IoV(12, run, 12, run) for run in (1, 2, 3)}
        for key in script.settings.input_data_names
    }
    config = script.settings.expert_config | expert_config
    return script.get_calibrations(inputs, requested_iov=BUCKET, expert_config=config)


def test_the_kept_catalogue_is_in_step_with_the_scripts():
    assert json.loads(CATALOGUE.read_bytes()) == read_catalogue(SCRIPTS).to_json(), (
        "run python -m b2cal_detector.release"
    )


def test_the_eight_calibrations_and_their_dependencies():
    kept = catalogue()
    assert {name: set(kept[name].depends_on) for name in kept.order()} == {
        "CDC Tracking": set(),
        "caf_svd_time": {"CDC Tracking"},
        "TOP common T0": set(),
        "CDC dedx": set(),
        "ecl_energy": set(),
        "BeamSpot Calibrations": {"TOP common T0", "CDC dedx"},
        "BoostVector Calibrations": {"BeamSpot Calibrations"},
        "Ecms Calibrations": {"BoostVector Calibrations"},
    }
    assert [name for name in kept.order() if kept[name].stage == "raw"] == ["CDC Tracking", "caf_svd_time"]


def test_every_payload_that_is_made_has_a_constant_to_start_from():
    kept = catalogue()
    made = {payload for name in kept.order() for payload in kept[name].produced_payloads}
    assert made == set(nominal_constants())


def test_nominal_constants_are_written_once(tmp_path):
    write_nominal(tmp_path)
    text = (tmp_path / "database.txt").read_text()
    assert len(write_nominal(tmp_path).entries()) == len(nominal_constants())
    assert (tmp_path / "database.txt").read_text() == text


def test_the_campaign_file_is_valid():
    campaign = Campaign.from_mapping(yaml.safe_load(CAMPAIGN.read_text()))
    assert campaign.calibrations_of(catalogue()) == catalogue().order()


@pytest.mark.parametrize("name", NAMES)
def test_every_calibration_has_a_validation_of_its_name(name):
    settings = load_script(SCRIPTS / f"caf_{name}.py").settings
    assert read_validation(SCRIPTS / f"val_{name}.py").name == settings.name


@pytest.mark.parametrize("name", NAMES)
def test_filters_ask_for_good_physics_data(name):
    settings = load_script(SCRIPTS / f"caf_{name}.py").settings
    for wanted in settings.input_data_filters.values():
        assert {"Good Or Recoverable", "physics", "On"} <= set(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_payloads_are_open_ended(name):
    for calibration in _calibrations(name):
        for step in calibration.steps:
            given = step.strategy.apply_iov if isinstance(step.strategy, SingleIOV) else step.strategy.iov_coverage
            assert given == OPEN


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_no_script_knows_is_refused_by_name(name):
    with pytest.raises(ConfigurationError, match="max_evnts"):
        _calibrations(name, max_evnts=3)


@pytest.mark.parametrize("name", NAMES)
def test_an_input_without_files_is_named(name):
    script = load_script(SCRIPTS / f"caf_{name}.py")
    nothing = {key: {} for key in script.settings.input_data_names}
    with pytest.raises(DataError, match="has no files"):
        script.get_calibrations(nothing, requested_iov=BUCKET, expert_config=script.settings.expert_config)


def test_a_value_that_cannot_be_is_refused_with_its_key():
    with pytest.raises(ConfigurationError, match="min_wires = 2"):
        _calibrations("cdc", min_wires=2)
    with pytest.raises(ConfigurationError, match="payload_boundaries"):
        _calibrations("svd_time", payload_boundaries=[[12]])


def test_the_drift_chamber_iterates_and_tells_runs_apart_only_for_boundaries():
    (single,) = _calibrations("cdc")
    (bounded,) = _calibrations("cdc", payload_boundaries=[[12, 3]])
    assert single.max_iterations == 4
    assert single.collections["default"].collector.granularity == "all"
    assert bounded.collections["default"].collector.granularity == "run"
    assert bounded.steps[0].strategy == SequentialBoundaries((ExpRun(12, 3),), OPEN)


def test_the_vertex_detector_finds_its_boundaries_unless_told():
    assert _calibrations("svd_time")[0].steps[0].strategy.payload_boundaries is None
    told = _calibrations("svd_time", payload_boundaries=[[12, 3]])[0].steps[0].strategy
    assert told.payload_boundaries == (ExpRun(12, 3),)


def test_top_goes_run_by_run():
    assert isinstance(_calibrations("top")[0].steps[0].strategy, SequentialRunByRun)


def test_dedx_chains_an_intermediate_result_that_is_not_saved():
    first, second = _calibrations("cdcdedx")
    assert not first.save_payloads
    assert second.save_payloads
    assert second.dependencies == [first]


def test_the_calorimeter_merges_two_independent_calibrations_without_data():
    bhabha, gamma, merge = _calibrations("ecl_E")
    assert not bhabha.dependencies
    assert not gamma.dependencies
    assert merge.dependencies == [bhabha, gamma]
    assert isinstance(merge.collections["default"].collector, DummyCollector)
    assert len(merge.collections["default"].input_files) == 1


def test_files_per_run_can_be_limited():
    script = load_script(SCRIPTS / "caf_svd_time.py")
    files = {f"/data/f{i}.root": IoV(12, 1 + i // 2, 12, 1 + i // 2) for i in range(4)}
    config = script.settings.expert_config | {"max_files_per_run": 1}
    (made,) = script.get_calibrations({"hadron_calib": files}, requested_iov=BUCKET, expert_config=config)
    assert list(made.collections["default"].input_files) == [Path("/data/f0.root"), Path("/data/f2.root")]
