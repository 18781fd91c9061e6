"""``b2cal notify``: a test over every channel, and what has not arrived."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import yaml
from cli_answers import CommandLine
from servers.fake_gitlab import PROJECT, FakeGitLab
from servers.mail_server import MailServer

from b2cal_core.ports import Delivery
from resources.home import Home
from resources.notify.book import EmbeddedNoticeBook


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    server = MailServer()
    address = f"mailto://127.0.0.1:{server.port}?from=b2cal@example.org&to={{email}}&smtp=127.0.0.1&mode=insecure"
    monkeypatch.setenv("MAIL_OF_THE_TESTS", address)
    yield server
    server.stop()


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitLab]:
    server = FakeGitLab()
    monkeypatch.setenv("GITLAB_TOKEN_OF_THE_TESTS", server.token)
    yield server
    server.stop()


def deploy(home: Home, **sections: object) -> None:
    home.create()
    (home.path / "deployment.yaml").write_text(yaml.safe_dump(sections))


def test_a_test_goes_over_every_channel_and_asks_for_the_tickets(
    home: Home, b2cal: CommandLine, mail: MailServer, gitlab: FakeGitLab
) -> None:
    deploy(
        home,
        people={"cdc-expert": {"email": "ada@example.org"}},
        notify={"channels": {"mail": {"address": "env:MAIL_OF_THE_TESTS"}}},
        tickets={"server": gitlab.url, "project": PROJECT, "token": "env:GITLAB_TOKEN_OF_THE_TESTS"},
    )
    answer = b2cal.ok("notify", "test", "--to", "cdc-expert", "--json").json
    assert {row["channel"]: row["arrived"] for row in answer} == {"log": True, "mail": True, "tickets": True}
    assert [one.to for one in mail.mails] == [("ada@example.org",)]
    assert gitlab.issues == []


def test_what_does_not_work_is_named_and_the_command_fails(
    home: Home, b2cal: CommandLine, mail: MailServer, gitlab: FakeGitLab
) -> None:
    gitlab.stop()
    deploy(
        home,
        notify={"log": False, "channels": {"mail": {"address": "env:MAIL_OF_THE_TESTS"}}},
        tickets={"server": gitlab.url, "project": PROJECT, "token": "env:GITLAB_TOKEN_OF_THE_TESTS"},
    )
    answer = b2cal("notify", "test", "--to", "ben")
    gitlab.start()
    assert answer.code == 1
    assert "of ben no e-mail address is known" in answer.out
    assert "does not answer" in answer.out
    assert "people are not reached by mail, tickets" in answer.err
    assert b2cal("notify", "test", "--channel", "nothing").code == 2
    assert gitlab.token not in answer.out + answer.err


def test_an_account_that_nobody_has_is_named(home: Home, b2cal: CommandLine, gitlab: FakeGitLab) -> None:
    deploy(
        home,
        people={"cdc-expert": {"gitlab": "adda"}, "manager": {"gitlab": "mia"}, "other": {"email": "o@example.org"}},
        tickets={"server": gitlab.url, "project": PROJECT, "token": "env:GITLAB_TOKEN_OF_THE_TESTS"},
    )
    answer = b2cal("notify", "test", "--channel", "tickets", "--json")
    assert answer.code == 1
    assert "nobody has the account 'adda', so tickets are not assigned" in answer.json[0]["problem"]


def test_without_settings_the_log_is_the_only_channel(home: Home, b2cal: CommandLine) -> None:
    home.create()
    assert "log" in b2cal.ok("notify", "test").out
    assert "a test of the notices" in (home.path / "logs" / "notices.log").read_text()


def test_what_has_not_arrived_is_listed_with_the_reason(home: Home, b2cal: CommandLine) -> None:
    home.create()
    assert "has arrived" in b2cal.ok("notify", "pending").out
    book, one = EmbeddedNoticeBook(home.registry_url), Delivery("prompt/b:failed:0123", "mail")
    book.begin(one)
    book.failed(one, "the mail server is away", datetime.now(UTC))
    answer = b2cal.ok("notify", "pending", "--json").json
    assert answer == [{"notice": one.key, "channel": "mail", "reason": "the mail server is away"}]


@pytest.mark.parametrize(
    "section",
    [
        {"notify": {"channels": {"mail": {"address": "mailto://user:pass-word@example.org"}}}},
        {"notify": {"channels": {"log": {"address": "env:A"}}}},
        {"notify": {"channels": {"mail": {"address": "env:A", "kinds": ["nothing"]}}}},
        {"tickets": {"server": "https://gitlab.example.org"}},
        {"tickets": {"server": "http://gitlab.example.org", "project": "a", "token": "env:A"}},
        {"tickets": {"server": "https://user:pass-word@example.org", "project": "a", "token": "env:A"}},
        {"tickets": {"server": "https://gitlab.example.org", "project": "a", "token": "glpat-pass-word"}},
        {"people": {"ada": {"mail": "ada@example.org"}}},
    ],
)
def test_settings_that_are_wrong_are_named_and_no_secret_is_repeated(
    home: Home, b2cal: CommandLine, section: dict[str, object]
) -> None:
    deploy(home, **section)
    answer = b2cal("notify", "test")
    assert answer.code == 1
    assert next(iter(section)) in answer.err
    assert "pass-word" not in answer.err
