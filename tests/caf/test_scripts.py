from collections.abc import Sequence
from pathlib import Path

import pytest

from b2cal_caf.scripts import load_script, read_catalogue, read_settings, read_validation
from b2cal_core.errors import CatalogueError, ConfigurationError

SCRIPT = """
from b2cal_core.settings import CalibrationSettings
settings = CalibrationSettings(
    name={name!r}, input_data_formats=["raw"], input_data_names=["hadron_calib"], depends_on={needs}
)
def get_calibrations(input_data, **kwargs):
    return []
"""


def write_script(path: Path, name: str, needs: Sequence[str] = ()) -> Path:
    path.write_text(SCRIPT.format(name=name, needs=list(needs)))
    return path


def test_settings_are_read_from_the_script(tmp_path: Path) -> None:
    assert read_settings(write_script(tmp_path / "caf_a.py", "A")).name == "A"


def test_an_unchanged_script_is_imported_once_and_a_changed_one_again(tmp_path: Path) -> None:
    path = write_script(tmp_path / "caf_a.py", "A")
    assert load_script(path) is load_script(path)
    before = load_script(path)
    write_script(path, "B")
    assert load_script(path) is not before
    assert read_settings(path).name == "B"


def test_the_catalogue_holds_every_script_in_dependency_order(tmp_path: Path) -> None:
    write_script(tmp_path / "caf_a.py", "A", ["B"])
    write_script(tmp_path / "caf_b.py", "B")
    (tmp_path / "helper.py").write_text("raise SystemError")
    assert read_catalogue(tmp_path).order() == ("B", "A")


def test_a_dependency_that_no_script_provides_is_refused(tmp_path: Path) -> None:
    write_script(tmp_path / "caf_a.py", "A", ["Z"])
    with pytest.raises(CatalogueError, match="'Z'"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\nraise KeyError('gone')\n", r"line 2: KeyError: 'gone'"),
        ("x = 1\n\nthis is: wrong\n", r"line 3: SyntaxError"),
        ("import no_such_module_at_all\n", r"line 1: ModuleNotFoundError"),
        (
            "def get_calibrations(input_data, **kwargs): ...\n",
            "must define settings as a CalibrationSettings, it has none",
        ),
        ("settings = 3\n", "must define a function get_calibrations"),
    ],
)
def test_an_unusable_script_is_refused_with_file_and_line(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "caf_bad.py"
    path.write_text(source)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_settings(path)
    assert "caf_bad.py" in str(caught.value)


def test_missing_scripts_and_empty_directories_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_script(tmp_path / "caf_none.py")
    with pytest.raises(ConfigurationError, match="no calibration script"):
        read_catalogue(tmp_path)


def test_a_validation_script_has_its_own_settings_and_function(tmp_path: Path) -> None:
    path = tmp_path / "val_a.py"
    path.write_text(
        "from b2cal_core.settings import ValidationSettings\n"
        "settings = ValidationSettings(name='A')\n"
        "def run_validation(job_path, input_data_path, requested_iov, expert_config, **kwargs):\n    return []\n"
    )
    assert read_validation(path).name == "A"
