import pytest
from notifier_contract import NotifierContract
from servers.fake_notifier import FakeNotifier


class TestFakeNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self) -> FakeNotifier:
        self.fake = FakeNotifier()
        return self.fake

    def received(self) -> list[tuple[str, str]]:
        return [(notice.title, notice.text) for notice in self.fake.notices]
