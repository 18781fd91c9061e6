"""What every book of notices must do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from b2cal_core.ports import Delivery, KeptTicket, NoticeBook
from b2cal_core.tickets import TicketReference

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE, TWO, THREE = Delivery("a:closed", "log"), Delivery("a:closed", "mail"), Delivery("b:failed:0123", "log")
KEPT = KeptTicket(TicketReference("7", "https://gitlab.example.org/belle2/calibration/-/issues/7"), "d" * 64)


class NoticeBookContract:
    @pytest.fixture
    def book(self) -> Iterator[NoticeBook]:
        raise NotImplementedError

    def test_what_was_never_told_is_due_in_order(self, book: NoticeBook) -> None:
        assert book.due([TWO, ONE, THREE], NOW) == (TWO, ONE, THREE)
        assert book.due([], NOW) == ()

    def test_what_was_told_is_never_due_again_on_its_channel(self, book: NoticeBook) -> None:
        assert not book.begin(ONE)
        book.told(ONE, NOW)
        assert book.due([ONE, TWO, THREE], NOW + 999 * MINUTE) == (TWO, THREE)
        assert book.undelivered() == {}

    def test_what_was_cut_off_is_due_and_is_known_to_have_been_begun(self, book: NoticeBook) -> None:
        assert not book.begin(ONE)
        assert book.due([ONE], NOW) == (ONE,)
        assert book.begin(ONE)

    def test_what_failed_is_due_after_pauses_that_double_up_to_an_hour(self, book: NoticeBook) -> None:
        for minutes in (1, 2, 4, 8, 16, 32, 60, 60, 60):
            assert not book.begin(ONE)  # the attempt before has failed, it was not cut off
            book.failed(ONE, "the mail server is away", NOW)
            assert book.due([ONE], NOW + minutes * MINUTE - timedelta(seconds=1)) == ()
            assert book.due([ONE], NOW + minutes * MINUTE) == (ONE,)
        assert book.undelivered() == {ONE: "the mail server is away"}

    def test_what_has_failed_often_comes_after_what_is_new(self, book: NoticeBook) -> None:
        book.begin(ONE)
        book.failed(ONE, "no", NOW)
        assert book.due([ONE, THREE], NOW + 5 * MINUTE) == (THREE, ONE)

    def test_told_at_last_it_is_told(self, book: NoticeBook) -> None:
        book.begin(ONE)
        book.failed(ONE, "no", NOW)
        book.begin(ONE)
        book.told(ONE, NOW + 2 * MINUTE)
        assert book.due([ONE], NOW + 999 * MINUTE) == ()

    def test_thousands_of_keys_are_looked_up(self, book: NoticeBook) -> None:
        many = [Delivery(f"key {number:05d}", "log") for number in range(1201)]
        book.begin(many[700])
        book.told(many[700], NOW)
        assert book.due(many, NOW) == tuple(one for one in many if one is not many[700])

    def test_tickets_come_back_as_they_were_kept_last(self, book: NoticeBook) -> None:
        assert book.tickets(["a", "b"]) == {}
        book.keep_ticket("a", KEPT)
        changed = KeptTicket(KEPT.reference, "e" * 64)
        book.keep_ticket("a", changed)
        book.keep_ticket("b", KEPT)
        assert book.tickets(["a", "c"]) == {"a": changed}

    def test_a_bucket_is_settled_in_its_last_version(self, book: NoticeBook) -> None:
        assert book.settled("prompt") == {}
        for version in ("1", "2"):
            book.settle("prompt", "e0012r00001-e0012r00020", version)
        book.settle("proc13", "e0012r00001-e0012r00020", "1")
        assert book.settled("prompt") == {"e0012r00001-e0012r00020": "2"}
