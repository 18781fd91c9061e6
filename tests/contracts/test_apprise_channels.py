import json
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from notifier_contract import ASKED, NotifierContract
from servers.mail_server import MailServer
from servers.threaded import ThreadedServer
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from b2cal_core.errors import BackendError, CalibrationError, ConfigurationError
from b2cal_core.notices import People, Person
from resources.notify.channel import AppriseNotifier
from resources.secret_values import Secret

PEOPLE = People([Person("cdc-expert", "ada@example.org"), Person("mia", "mia@example.org")])
PASSWORD = "pass-word-of-the-tests"  # noqa: S105 (of a server of the tests)


class ChatServer:
    """Takes JSON messages, as chats do."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.server = ThreadedServer(self)

    @property
    def address(self) -> str:
        return f"json://bot:{PASSWORD}@127.0.0.1:{self.server.port}/hooks/{PASSWORD}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.messages.append(json.loads(await Request(scope, receive).body()))
        await Response(status_code=self.status)(scope, receive, send)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.server.stop()


def channel(directory: Path, address: str) -> AppriseNotifier:
    """A channel whose address is kept in a file."""
    file = directory / "address"
    file.touch(0o600)
    file.write_text(address + "\n")
    return AppriseNotifier("chat", Secret(f"file:{file}", "the address of the channel chat"), PEOPLE)


def mail_address(server: MailServer, to: str = "{email}") -> str:
    return f"mailto://127.0.0.1:{server.port}?from=b2cal@example.org&to={to}&smtp=127.0.0.1&mode=insecure"


class TestMail(NotifierContract):
    @pytest.fixture
    def notifier(self, mail: MailServer, tmp_path: Path) -> AppriseNotifier:
        self.mail = mail
        return channel(tmp_path, mail_address(mail))

    def received(self) -> list[tuple[str, str]]:
        return [(mail.subject, mail.text) for mail in self.mail.mails]


class TestChat(NotifierContract):
    @pytest.fixture
    def notifier(self, chat: ChatServer, tmp_path: Path) -> AppriseNotifier:
        self.chat = chat
        return channel(tmp_path, chat.address)

    def received(self) -> list[tuple[str, str]]:
        return [(message["title"], message["message"]) for message in self.chat.messages]


def test_mail_goes_to_those_who_are_to_hear(mail: MailServer, tmp_path: Path) -> None:
    notifier = channel(tmp_path, mail_address(mail))
    assert notifier.tells_each()
    notifier.tell(replace(ASKED, to=("cdc-expert", "mia", "x@example.org")))
    assert {to for one in mail.mails for to in one.to} == {"ada@example.org", "mia@example.org", "x@example.org"}


def test_a_fixed_address_hears_everything(mail: MailServer, tmp_path: Path) -> None:
    notifier = channel(tmp_path, mail_address(mail, "list@example.org"))
    assert not notifier.tells_each()
    notifier.tell(replace(ASKED, to=()))
    assert mail.mails[0].to == ("list@example.org",)


def test_without_an_address_of_anybody_it_says_whose_is_missing(mail: MailServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="of ben no e-mail address is known"):
        channel(tmp_path, mail_address(mail)).tell(replace(ASKED, to=("ben",)))


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_a_chat_that_refuses_is_tried_again_later(chat: ChatServer, tmp_path: Path, status: int) -> None:
    chat.status = status
    with pytest.raises(BackendError, match="chat did not take the notice") as error:
        channel(tmp_path, chat.address).tell(ASKED)
    assert error.value.transient


def test_a_server_that_is_away_or_refuses_is_tried_again_later(mail: MailServer, tmp_path: Path) -> None:
    notifier = channel(tmp_path, mail_address(mail))
    mail.refuse_everybody()
    with pytest.raises(BackendError):
        notifier.tell(ASKED)
    with pytest.raises(BackendError):
        channel(tmp_path, "json://127.0.0.1:9/").tell(ASKED)


def all_of(error: BaseException) -> str:
    """The error as a debugger shows it, with the variables on the way, but for those of the test itself."""
    assert error.__traceback__ is not None
    shown = traceback.TracebackException(type(error), error, error.__traceback__.tb_next, capture_locals=True)
    return "".join(shown.format())


def test_the_address_is_told_to_nobody(
    chat: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    told = []
    addresses = (chat.address, f"json://bot:{PASSWORD}@127.0.0.1:9/{PASSWORD}", f"nothing://{PASSWORD}", PASSWORD)
    for status, address in zip((500, 200, 200, 200), addresses, strict=True):
        chat.status = status
        notifier = channel(tmp_path, address)
        with pytest.raises(CalibrationError) as caught:
            notifier.tell(ASKED)
        told += [all_of(caught.value), repr(notifier), repr(vars(notifier))]
    output = capfd.readouterr()
    assert PASSWORD not in "".join([*told, caplog.text, output.out, output.err])


def test_an_address_that_others_can_read_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    notifier = channel(tmp_path, "json://127.0.0.1:9/")
    (tmp_path / "address").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        notifier.tell(ASKED)
    (tmp_path / "address").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        notifier.tell(ASKED)
    with pytest.raises(ConfigurationError, match="NOT_SET_IN_THE_TESTS, which is not set"):
        AppriseNotifier("chat", Secret("env:NOT_SET_IN_THE_TESTS", "the address"), PEOPLE).tell(ASKED)
