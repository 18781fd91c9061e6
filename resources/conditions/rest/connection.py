"""What every change of a tag on a server needs: the calls, the token's rights, the journal, and no one in the way."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from b2cal_core.errors import BackendError, ConfigurationError, RightsError
from b2cal_core.rights import Rights
from resources.conditions.rest.calls import Calls
from resources.conditions.rest.journal import Journal
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.replies import OutcomeUnknown
from resources.conditions.rest.shapes import LinkRecord, TagRecord
from resources.conditions.rest.tokens import TokenFile

_LOCK_SECONDS = 600.0
_SECONDS_PER_WRITE = 0.5
_SECONDS_FOR_THE_REST = 30.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Connection:
    """One server in the hands of one user.

    Attributes:
        locks: directory of lock files: processes of this computer change a tag one after the other.
    """

    calls: Calls
    journal: Journal
    patience: Patience
    token: TokenFile | None
    user: str
    locks: Path

    def rights(self, writes: int = 1) -> Rights:
        """What the user's token lets them do; it lasts for so many changes.

        Raises:
            RightsError: there is no such token.
        """
        if self.token is None:
            raise RightsError(f"{self.user} has no token for {self.calls.transport.server}; configure a token file")
        return self.token.token(_SECONDS_FOR_THE_REST + _SECONDS_PER_WRITE * writes).rights

    def require_tag(self, name: str) -> TagRecord:
        """The tag; ``ConfigurationError`` with similar names when there is none."""
        found = self.calls.tag(name)
        if found is None:
            near = get_close_matches(name, [record.name for record in self.calls.tags()], n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; `b2cal cdb tags` lists those there are"
            raise ConfigurationError(f"there is no global tag {name!r} on {self.calls.transport.server}{hint}")
        return found

    def links(self, tag: str) -> tuple[LinkRecord, ...]:
        """All links of a tag that is there."""
        found = self.calls.links(tag)
        if found is None:
            raise BackendError(f"global tag {tag} is there, but cannot be listed; ask again", transient=True)
        return found

    def send(self, send: Callable[[], object], look: Callable[[], object]) -> None:
        """Send a change; after a lost reply it is sent again only when ``look`` does not find it for a while.

        Raises:
            OutcomeUnknown: the reply is lost every time.
        """
        for number in range(self.patience.attempts):
            try:
                send()
            except OutcomeUnknown:
                if number + 1 == self.patience.attempts:
                    raise
            else:
                return
            if self.shown(lambda: look() or None) is not None:
                return

    def settle(self, send: Callable[[], object], look: Callable[[], _T | None]) -> _T:
        """Like ``send``, and return what ``look`` finds afterwards; ``BackendError`` when it finds nothing."""
        self.send(send, look)
        found = self.shown(look)
        if found is None:
            raise BackendError("the server said yes to a change that does not show; ask again", transient=True)
        return found

    def shown(self, look: Callable[[], _T | None]) -> _T | None:
        """What is looked for, as soon as it is there; ``None`` when it does not come for a while."""
        for number in range(self.patience.attempts):
            if (found := look()) is not None:
                return found
            if number + 1 < self.patience.attempts:
                self.patience.pause(number)
        return None

    @contextmanager
    def alone(self, tag: str) -> Iterator[None]:
        """Wait until no other process of this computer changes the tag; the end of a process frees it."""
        name = hashlib.sha256(f"{self.calls.transport.server} {tag}".encode()).hexdigest()[:32]
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.locks / f"{name}.lock", timeout=_LOCK_SECONDS)
            lock.acquire()
        except Timeout:
            raise BackendError(f"tag {tag} is being changed for too long; ask again", transient=True) from None
        except OSError as error:
            message = f"cannot write below {self.locks}: {error.strerror}; check the directory"
            raise BackendError(message, transient=False) from error
        try:
            yield
        finally:
            lock.release()
