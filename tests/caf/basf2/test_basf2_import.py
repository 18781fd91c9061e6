"""``b2cal catalogue import --basf2``."""

import sys
from pathlib import Path

import pytest
from basf2_workbench import Basf2Workbench

sys.path.append(str(Path(__file__).parents[2] / "cli"))
from cli_answers import CommandLine

from resources.home import Home


@pytest.fixture
def b2cal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(Home(tmp_path / "home"), capsys)


def test_the_scripts_of_a_release_are_imported_as_the_release_tells_them(
    basf2: Basf2Workbench, b2cal: CommandLine
) -> None:
    (basf2.scripts / "helper.py").write_text("VALUE = 1\n")
    answer = b2cal.ok(
        "catalogue", "import", basf2.scripts, "--release", "r9", "--basf2", basf2.environment().setup, "--json"
    )
    assert answer.json == {"release": "r9", "order": ["Synthetic"]}
    assert "helper.py has no settings" in answer.err
    assert b2cal.ok("catalogue", "show", "r9", "--script", "caf_synthetic", "--json").json["input_data_names"] == [
        "beam"
    ]


def test_a_release_that_cannot_be_set_up_fails_with_its_words(basf2: Basf2Workbench, b2cal: CommandLine) -> None:
    answer = b2cal("catalogue", "import", basf2.scripts, "--release", "r9", "--basf2", "echo gone >&2; false")
    assert answer.code == 1
    assert "cannot be set up" in answer.err
    assert "gone" in answer.err


def test_a_directory_without_the_scripts_is_refused(basf2: Basf2Workbench, b2cal: CommandLine) -> None:
    setup = basf2.environment().setup
    answer = b2cal("catalogue", "import", basf2.validations, "--release", "r9", "--basf2", setup)
    assert answer.code == 2
    assert "lacks the scripts caf_synthetic" in answer.err
