"""Runs the command line in this process."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from b2cal_cli.main import main
from resources.home import Home


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """``b2cal`` with ``--home`` set."""

    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        self._home = home
        self._capsys = capsys

    def __call__(self, *args: object) -> Answer:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, args), "--home", str(self._home.path)])
        captured = self._capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, captured.out, captured.err)

    def ok(self, *args: object) -> Answer:
        """The same, when it must succeed."""
        answer = self(*args)
        assert answer.code == 0, answer.err
        return answer
