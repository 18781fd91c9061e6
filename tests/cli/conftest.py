from pathlib import Path

import pytest
from cli_answers import CommandLine

from resources.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def b2cal(home: Home, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line on a home that is not there yet."""
    return CommandLine(home, capsys)
