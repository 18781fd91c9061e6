from pathlib import Path

import pytest
from notice_book_contract import KEPT, NOW, ONE, NoticeBookContract
from servers.mariadb import MariaDBServer

from b2cal_core.errors import BackendError
from resources.home import Home
from resources.notify.book import EmbeddedNoticeBook


class TestOnSQLite(NoticeBookContract):
    @pytest.fixture
    def book(self, tmp_path: Path) -> EmbeddedNoticeBook:
        return EmbeddedNoticeBook(Home(tmp_path).registry_url)


class TestOnMariaDB(NoticeBookContract):
    @pytest.fixture
    def book(self, mariadb: MariaDBServer) -> EmbeddedNoticeBook:
        return EmbeddedNoticeBook(mariadb.new_database())


def test_what_was_noted_is_there_for_the_next_process(tmp_path: Path) -> None:
    url = Home(tmp_path).registry_url
    EmbeddedNoticeBook(url).begin(ONE)
    EmbeddedNoticeBook(url).keep_ticket("a", KEPT)
    again = EmbeddedNoticeBook(url)
    assert again.begin(ONE)
    again.told(ONE, NOW)
    assert EmbeddedNoticeBook(url).due([ONE], NOW) == ()
    assert EmbeddedNoticeBook(url).tickets(["a"]) == {"a": KEPT}


def test_a_book_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="the book of notices"):
        EmbeddedNoticeBook(f"sqlite:///{tmp_path}/missing/registry.db").settled("prompt")
