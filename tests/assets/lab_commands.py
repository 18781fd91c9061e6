"""The command line over a laboratory."""

import pytest
from asset_fakes import Laboratory

from b2cal_cli.main import main


class CommandLine:
    """The command line on the laboratory's home, in this process."""

    def __init__(self, lab: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
        self._home, self._capsys = lab.home.path, capsys

    def __call__(self, *args: str, code: int = 0) -> str:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*args, "--home", str(self._home)])
        captured = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, captured.err
        return captured.err if code else captured.out
