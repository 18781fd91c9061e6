"""Whatever goes wrong in any order: in the end all was told, and nothing twice without saying so."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from servers.fake_notifier import FakeNotifier

from b2cal_assets.workshop import Correspondence
from b2cal_core.notices import Notice, NoticeKind, People
from b2cal_core.ports import Channel
from resources.notify.book import EmbeddedNoticeBook
from sensors.telling import Teller

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTICES = [Notice(f"prompt/b:{n}", NoticeKind.failed, ("ada", "mia")[: n % 3], f"title {n}", "text") for n in range(4)]
AGAIN = "may have reached you before"


class Killed(BaseException):
    """Stands for SIGKILL: nothing that handles errors handles it."""


class DyingNotifier(FakeNotifier):
    """Its process is killed after, or before, so many messages have gone out; 0 is never."""

    def __init__(self, *, each: bool) -> None:
        super().__init__(each=each)
        self.dies_in = 0

    def tell(self, notice: Notice) -> None:
        self.dies_in -= 1
        if self.dies_in == 0:
            raise Killed
        super().tell(notice)
        self.dies_in -= 1
        if self.dies_in == 0:
            raise Killed


ACTIONS = st.one_of(
    st.tuples(st.just("away"), st.integers(0, 1)),
    st.tuples(st.just("back"), st.integers(0, 1)),
    st.tuples(st.just("unknown"), st.integers(0, 1)),
    st.tuples(st.just("kill"), st.integers(1, 9)),
    st.tuples(st.just("minutes"), st.integers(0, 90)),
    st.tuples(st.just("tick"), st.integers(0, len(NOTICES))),
)


def tick(url: str, channels: Sequence[DyingNotifier], now: datetime, notices: Sequence[Notice]) -> bool:
    """One round in a process of its own; whether it was not killed and all was told."""
    named = {f"channel{number}": Channel(one) for number, one in enumerate(channels)}
    teller = Teller(Correspondence(named, EmbeddedNoticeBook(url), People()), now, time.monotonic() + 60)
    try:
        teller.tell(notices)
    except Killed:
        return False
    return teller.has_told(notices)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=14))
def test_in_the_end_all_is_told_and_nothing_twice_without_saying_so(tmp_path_factory, actions) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('book')}/registry.db"
    channels = [DyingNotifier(each=False), DyingNotifier(each=True)]
    now, kills = NOW, 0
    for action, number in actions:
        if action == "minutes":
            now += timedelta(minutes=number)
        elif action == "kill":
            channels[number % 2].dies_in, kills = number, kills + 1
        elif action == "tick":
            tick(url, channels, now, NOTICES[:number])
        elif action == "unknown":
            channels[number].unknown = {"mia"}
        else:
            channels[number].is_away = action == "away"
    for one in channels:
        one.is_away, one.dies_in, one.unknown = False, 0, set()
    now += timedelta(hours=2)
    assert tick(url, channels, now, NOTICES)
    for one in channels:
        parts = [part for notice in NOTICES for part in (notice.to_each() if one.tells_each() else (notice,))]
        told = Counter(notice.key for notice in one.notices if AGAIN not in notice.text)
        again = [notice for notice in one.notices if AGAIN in notice.text]
        assert {part.key for part in parts} == {notice.key for notice in one.notices}
        assert max(told.values(), default=1) == 1
        assert len(again) <= kills
    before = [len(one.notices) for one in channels]
    assert tick(url, channels, now + timedelta(days=9), NOTICES)
    assert [len(one.notices) for one in channels] == before


def test_what_there_is_no_time_for_stays_due(tmp_path: Path) -> None:
    url, notifier = f"sqlite:///{tmp_path}/registry.db", FakeNotifier()
    office = Correspondence({"chat": Channel(notifier)}, EmbeddedNoticeBook(url), People())
    late = Teller(office, NOW, time.monotonic())
    late.tell(NOTICES)
    assert not late.has_told(NOTICES)
    assert notifier.notices == []
