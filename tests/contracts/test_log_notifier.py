import logging
from dataclasses import replace

import pytest
from notifier_contract import ASKED, NotifierContract

from b2cal_core.notices import NoticeKind
from resources.notify.log import LogNotifier


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="b2cal.notices")
    return caplog


class TestLogNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self, log: pytest.LogCaptureFixture) -> LogNotifier:
        self.log = log
        return LogNotifier()

    def received(self) -> list[tuple[str, str]]:
        parted = (record.getMessage().partition("\n") for record in self.log.records)
        return [(title, text) for title, _, text in parted]


def test_what_stands_still_is_a_warning(log: pytest.LogCaptureFixture) -> None:
    LogNotifier().tell(ASKED)
    LogNotifier().tell(replace(ASKED, kind=NoticeKind.failed, to=()))
    assert [record.levelno for record in log.records] == [logging.INFO, logging.WARNING]
    assert "(to everybody)" in log.records[1].getMessage()
