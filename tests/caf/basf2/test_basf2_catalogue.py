"""The catalogue of a release, as ``b2caf-prompt-show`` tells it."""

import json
from pathlib import Path

import pytest
from basf2_workbench import Basf2Workbench

from b2cal_core.errors import CatalogueError, ConfigurationError
from resources.caf.basf2_catalogue import read_basf2_catalogue, show_settings, show_validation
from resources.caf.basf2_environment import Basf2Environment

RECORDED = Path(__file__).parents[2] / "data" / "prompt_catalogue.json"
SCRIPT = """
from b2cal_core.settings import CalibrationSettings
settings = CalibrationSettings(
    name={name!r}, input_data_formats=["raw"], input_data_names=["hadron_calib"], depends_on={needs}
)
def get_calibrations(input_data, **kwargs):
    return []
"""


@pytest.fixture
def release(basf2: Basf2Workbench) -> Basf2Workbench:
    """A release with two calibrations and what else lies beside them in a real one."""
    (basf2.scripts / "caf_synthetic.py").unlink()
    (basf2.scripts / "caf_b.py").write_text(SCRIPT.format(name="B", needs=["A"]))
    (basf2.scripts / "caf_a.py").write_text(SCRIPT.format(name="A", needs=[]))
    (basf2.scripts / "__init__.py").touch()
    (basf2.scripts / "print_steerings.py").write_text("VALUE = 1\n")
    return basf2


def showing(basf2: Basf2Workbench, answers: dict[str, str]) -> Basf2Environment:
    """An environment whose show tool answers this for each script."""
    place = basf2.place / "answers"
    place.mkdir()
    (place / "list").write_text(json.dumps([f"{name}.py" for name in answers]))
    for name, text in answers.items():
        (place / f"{name}.py").write_text(text)
    basf2.tool(f'if [ "$1" = --json ]; then cat {place}/list; else cat {place}/"$2"; fi', "b2caf-prompt-show")
    return basf2.environment()


def test_all_scripts_of_the_release_are_read_in_the_order_of_their_dependencies(release: Basf2Workbench) -> None:
    lines: list[str] = []
    catalogue = read_basf2_catalogue(release.environment(), log=lines.append)
    assert catalogue.order() == ("A", "B")
    assert catalogue.script("B") == "caf_b"
    assert lines == ["print_steerings.py has no settings and is left out: it is no calibration script"]


def test_fields_that_the_platform_does_not_know_pass_and_empty_ones_have_their_default(basf2: Basf2Workbench) -> None:
    shown = {"name": "A", "input_data_formats": ["raw"], "input_data_names": ["x"], "depends_on": []}
    text = json.dumps(shown | {"reviewers": ["somebody"], "input_data_filters": {}, "expert_config": None})
    settings = read_basf2_catalogue(showing(basf2, {"caf_a": f"[INFO] hello\n{text}\n"}), log=print)["A"]
    assert settings.expert_config == {}
    assert settings.produced_payloads == ()


def test_a_release_like_the_recorded_one_is_read_as_it_is(basf2: Basf2Workbench) -> None:
    recorded = json.loads(RECORDED.read_text())
    environment = showing(basf2, {name: json.dumps(fields) for name, fields in recorded.items()})
    assert set(read_basf2_catalogue(environment, log=print).to_json()) == set(recorded)


@pytest.mark.parametrize("answer", ["", "nothing like JSON", "[]", "[1, 2]", '{"a": 1}'])
def test_a_list_of_scripts_that_is_none_is_shown(basf2: Basf2Workbench, answer: str) -> None:
    basf2.tool(f"echo '{answer}'", "b2caf-prompt-show")
    with pytest.raises(ConfigurationError, match="must list the calibration scripts of the release"):
        read_basf2_catalogue(basf2.environment(), log=print)


def test_a_show_tool_that_fails_is_quoted(basf2: Basf2Workbench) -> None:
    basf2.tool("echo 'ImportError: libboost.so' >&2; exit 1", "b2caf-prompt-show")
    with pytest.raises(ConfigurationError, match=r"ended with code 1 and said 'ImportError: libboost.so'"):
        read_basf2_catalogue(basf2.environment(), log=print)


def test_all_scripts_that_cannot_be_used_are_named(release: Basf2Workbench) -> None:
    (release.scripts / "caf_c.py").write_text("import nosuch\n")
    (release.scripts / "caf_d.py").write_text("import nothing_either\n")
    with pytest.raises(CatalogueError, match=r"2 scripts .*caf_c\.py.*nosuch.*caf_d\.py.*nothing_either"):
        read_basf2_catalogue(release.environment(), log=print)


def test_scripts_that_do_not_fit_together_are_refused(release: Basf2Workbench) -> None:
    (release.scripts / "caf_a.py").write_text(SCRIPT.format(name="A", needs=["B"]))
    with pytest.raises(CatalogueError, match="A -> B -> A"):
        read_basf2_catalogue(release.environment(), log=print)


def test_settings_that_break_a_rule_are_refused_with_the_script(basf2: Basf2Workbench) -> None:
    environment = showing(basf2, {"caf_a": json.dumps({"name": "A", "input_data_formats": ["tape"]})})
    with pytest.raises(CatalogueError, match=r"script caf_a are not valid: .*tape"):
        read_basf2_catalogue(environment, log=print)
    with pytest.raises(ConfigurationError, match=r"script caf_a\.py of the basf2 release are not valid: .*tape"):
        show_settings(environment, "caf_a.py")


def test_the_settings_of_a_validation_are_shown(basf2: Basf2Workbench) -> None:
    (basf2.validations / "val_a.py").write_text(
        "from b2cal_core.settings import ValidationSettings\n"
        "settings = ValidationSettings(name='A', download_files=['Mean_stdout'])\n"
    )
    assert show_validation(basf2.environment(), "val_a.py").download_files == ("Mean_stdout",)
    basf2.tool("echo '{}'", "b2caf-prompt-show")
    with pytest.raises(ConfigurationError, match=r"validation val_a\.py .* are not valid: name"):
        show_validation(basf2.environment(), "val_a.py")
