"""Mail and chats through apprise. A channel is one apprise address, which holds passwords and is shown to nobody."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote, unquote

import apprise

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.notices import Notice, People
from b2cal_core.ports import Notifier
from resources.secret_values import Secret

EMAIL = "{email}"
"""Stands in an address for the e-mail addresses of those who are to hear the notice."""
_SHORTEST_SECRET = 3


class AppriseNotifier(Notifier):
    """Tells notices on one channel.

    Args:
        name: of the channel, for messages.
        address: an apprise address, such as ``mailtos://user:password@smtp.example.org?to={email}``.
        people: who is behind the names in a notice.
    """

    def __init__(self, name: str, address: Secret, people: People) -> None:
        self._name, self._address, self._people = name, address, people

    def tell(self, notice: Notice) -> None:
        """Send the notice, to all addressees in one call."""
        emails = self._emails(notice) if self.tells_each() else ()
        known, sent, said = self._sent(notice, emails)
        if not known:
            raise ConfigurationError(
                f"the address of the channel {self._name} is none that apprise knows ({said}); "
                f"mend it in {self._address.source}"
            )
        if not sent:
            raise BackendError(f"the channel {self._name} did not take the notice: {said}", transient=True)

    def tells_each(self) -> bool:
        """Whether it writes to people: then a mailbox that is full costs nobody else a second mail."""
        return EMAIL in self._address.read()

    def _emails(self, notice: Notice) -> tuple[str, ...]:
        emails = self._people.emails(notice.to)
        if not emails:
            names = ", ".join(notice.to) or "nobody"
            raise ConfigurationError(
                f"the channel {self._name} writes to people, but of {names} no e-mail address is known; "
                "give it in deployment.yaml: people: {NAME: {email: …}}"
            )
        return emails

    def _sent(self, notice: Notice, emails: Sequence[str]) -> tuple[bool, bool, str]:
        """Whether the address is one, whether the notice was taken, and what apprise says of it.

        Errors are raised elsewhere, so that none has the address among the variables it was raised with.
        """
        address = self._address.read()
        sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="b2cal", app_desc="calibration", async_mode=False))
        with _words_of_apprise() as words:
            known = sender.add(address.replace(EMAIL, ",".join(quote(email) for email in emails)))
            sent = known and sender.notify(
                body=notice.text,
                title=notice.title,
                notify_type=apprise.NotifyType.WARNING if notice.kind.is_urgent else apprise.NotifyType.INFO,
                body_format=apprise.NotifyFormat.MARKDOWN,
            )
        return known, bool(sent), _scrubbed("; ".join(words), address) or "it says nothing"


class _Words(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        self._words.append(record.getMessage())


@contextmanager
def _words_of_apprise() -> Iterator[list[str]]:
    """What apprise says in this block. Nobody else gets to read it: at some levels, addresses are logged."""
    words: list[str] = []
    loggers, handler = [logging.getLogger(name) for name in ("apprise", "urllib3")], _Words(words)
    former = [logger.propagate for logger in loggers]
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.propagate = False
    try:
        yield words
    finally:
        loggers[0].removeHandler(handler)
        for logger, propagate in zip(loggers, former, strict=True):
            logger.propagate = propagate


def _scrubbed(text: str, address: str) -> str:
    """The text without any part of the address but the names that everybody knows."""
    parts = {part for raw in (address, unquote(address)) for part in re.split(r"[^A-Za-z0-9_-]+", raw)}
    public = {"http", "https", "com", "org", "localhost"}
    for part in sorted(parts - public, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = text.replace(part, "…")
    return text
