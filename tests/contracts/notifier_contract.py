"""What every notifier must do."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from b2cal_core.notices import Notice, NoticeKind
from b2cal_core.ports import Notifier

ASKED = Notice(
    "prompt/e0012r00001-e0012r00020/cdc_tracking:needs_sign_off:0123456789abcdef",
    NoticeKind.needs_sign_off,
    ("cdc-expert",),
    "[prompt e0012r00001-e0012r00020] CDC Tracking needs a sign-off, its verdict is warn",
    "Look at them, then `b2cal signoff accept|reject`. χ²/ndf is high.",
)


class NotifierContract:
    @pytest.fixture
    def notifier(self) -> Iterator[Notifier]:
        raise NotImplementedError

    def received(self) -> list[tuple[str, str]]:
        """Title and text of what has arrived, in order."""
        raise NotImplementedError

    def test_a_notice_arrives_with_its_title_and_its_text(self, notifier: Notifier) -> None:
        notifier.tell(ASKED)
        ((title, text),) = self.received()
        assert ASKED.title in title
        assert "b2cal signoff accept|reject" in text
        assert "χ²/ndf is high" in text

    @pytest.mark.parametrize("kind", list(NoticeKind))
    def test_every_kind_arrives(self, notifier: Notifier, kind: NoticeKind) -> None:
        notifier.tell(replace(ASKED, kind=kind))
        assert len(self.received()) == 1

    def test_each_call_is_one_message(self, notifier: Notifier) -> None:
        for number in range(3):
            notifier.tell(replace(ASKED, title=f"number {number}"))
        assert [f"number {number}" in title for number, (title, _) in enumerate(self.received())] == [True] * 3
