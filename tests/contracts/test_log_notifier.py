import re
from dataclasses import replace
from pathlib import Path

import pytest
from notifier_contract import ASKED, NotifierContract

from b2cal_core.errors import BackendError
from resources.notify.log import LogNotifier


class TestLogNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self, tmp_path: Path) -> LogNotifier:
        self.file = tmp_path / "logs" / "notices.log"
        return LogNotifier(self.file)

    def received(self) -> list[tuple[str, str]]:
        parts = re.split(r"^(?=\d{4}-\d\d-\d\d )", self.file.read_text(), flags=re.MULTILINE)[1:]
        parted = (part.partition("\n") for part in parts)
        return [(title, text) for title, _, text in parted]


def test_a_line_says_when_what_and_to_whom(tmp_path: Path) -> None:
    LogNotifier(tmp_path / "notices.log").tell(ASKED)
    LogNotifier(tmp_path / "notices.log").tell(replace(ASKED, to=(), text="one\n\ncaf&#95;svd"))
    lines = (tmp_path / "notices.log").read_text().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00 needs_sign_off \(to cdc-expert\): \[prompt", lines[0])
    assert "(to everybody)" in lines[2]
    assert lines[3:] == ["    one", "", "    caf_svd"]


def test_a_file_that_cannot_be_written_is_told_as_passing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(BackendError, match=r"notices.log") as error:
        LogNotifier(tmp_path / "logs" / "notices.log").tell(ASKED)
    assert error.value.transient
