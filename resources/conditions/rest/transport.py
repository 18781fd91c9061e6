"""Requests to one server: what is safe is asked again, what changes something is sent once.

Replies are JSON or they are errors: nothing that a proxy, a broken connection or a wrong address can give is taken for
an answer. Redirects are not followed, certificates always verified, and what the environment says of proxies or
passwords is not heeded.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from b2cal_core.errors import BackendError, RightsError
from resources.conditions.rest.addresses import checked_file, checked_server
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.replies import OutcomeUnknown, Trouble, answer_of, trouble_of
from resources.conditions.rest.tokens import Bearer, TokenFile

_CHUNK = 1 << 20
_HEADERS = {
    "Accept": "application/json",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "User-Agent": "b2cal-assets",
}


class Transport:
    """One server.

    Args:
        server: its address; a host other than this computer must be among ``allowed_hosts`` and use https.
        token: what lets the user write; without it every change is refused before it is sent.
        proxies: scheme to address of a proxy.
        timeout: seconds to connect, and without a byte of the reply.
        certificates: file of the authorities to trust; by default those that ``requests`` trusts.
    """

    def __init__(
        self,
        server: str,
        *,
        token: TokenFile | None = None,
        allowed_hosts: AbstractSet[str] = frozenset(),
        proxies: Mapping[str, str] | None = None,
        timeout: tuple[float, float] = (10.0, 120.0),
        patience: Patience | None = None,
        certificates: Path | None = None,
    ) -> None:
        self.server = checked_server(server, allowed_hosts)
        self._allowed_hosts, self._token, self._timeout = allowed_hosts, token, timeout
        self._patience = patience or Patience()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(certificates) if certificates else True
        self._session.proxies.update(proxies or {})
        self._session.headers.update(_HEADERS)
        self._found, self._finding = False, threading.Lock()

    def probe(self) -> None:
        """Make sure, once, that the server is there; ``BackendError`` when it is not."""
        with self._finding:
            if not self._found:
                self._safe("looking for the conditions server", "HEAD", "globalTagStatus")
                self._found = True

    def close(self) -> None:
        """Give up the connections that are kept open; the next request opens new ones."""
        self._session.close()

    def read(self, step: str, path: str, **params: str | int) -> Any:  # noqa: ANN401 (JSON)
        """What is at a path; asked again when there is no proper answer.

        ``step`` is what is being done, for messages: "listing global tag x".
        """
        self.probe()
        return self._safe(step, "GET", path, params=params)

    def ask(self, step: str, path: str, body: object) -> Any:  # noqa: ANN401 (JSON)
        """The answer to a question that is too long for an address; asked again like ``read``."""
        self.probe()
        return self._safe(step, "POST", path, json=body)

    def write(
        self,
        step: str,
        method: str,
        path: str,
        *,
        body: object = None,
        content: tuple[bytes, str] | None = None,
        params: Mapping[str, int] | None = None,
    ) -> Any:  # noqa: ANN401 (JSON)
        """Send a change, once: again only when it certainly did not reach the server.

        ``body`` goes as JSON; ``content`` is bytes and their type instead.

        Raises:
            OutcomeUnknown: it may have been made or not.
            RightsError: there is no token that lasts, or the server does not accept it.
        """
        if self._token is None:
            raise RightsError(f"{step} needs a token, and none is configured; nothing was changed")
        self.probe()
        options: dict[str, Any] = {"auth": Bearer(self._token.token()), "params": params}
        if content is not None:
            options |= {"data": content[0], "headers": {"Content-Type": content[1]}}
        elif body is not None:
            options["json"] = body
        return self._repeat(step, lambda: self._once(step, method, path, **options), writes=True)

    @contextmanager
    def download(self, step: str, url: str) -> Iterator[Iterator[bytes]]:
        """The content of a file; no token is sent, and only hosts that may be asked are."""
        address = checked_file(url, self._allowed_hosts)
        try:
            with self._session.get(address, stream=True, allow_redirects=False, timeout=self._timeout) as reply:
                if reply.status_code != HTTPStatus.OK:
                    passing = reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
                    raise BackendError(f"{step} failed: the server answers {reply.status_code}", transient=passing)
                yield reply.iter_content(_CHUNK)
        except requests.RequestException as error:
            trouble = trouble_of(error)
        else:
            return
        raise BackendError(f"{step} failed: {trouble.why}", transient=trouble.passing)

    def _safe(self, step: str, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 (JSON)
        return self._repeat(step, lambda: self._once(step, method, path, **options), writes=False)

    def _repeat(self, step: str, once: Callable[[], tuple[Any, Trouble | None]], *, writes: bool) -> Any:  # noqa: ANN401
        for number in range(self._patience.attempts):
            answer, trouble = once()
            if trouble is None:
                return answer
            if trouble.error is not None:
                raise trouble.error
            if not trouble.passing or (writes and trouble.sent):
                break
            if number + 1 < self._patience.attempts:
                self._patience.pause(number)
        message = f"{step} at {self.server} failed: {trouble.why}" if trouble else step
        if writes and trouble is not None and trouble.sent:
            raise OutcomeUnknown(f"{message}; whether the change was made is not known", transient=True)
        raise BackendError(f"{message}; check the server, then ask again", transient=trouble is None or trouble.passing)

    def _once(self, step: str, method: str, path: str, **options: Any) -> tuple[Any, Trouble | None]:  # noqa: ANN401
        """One request; what went wrong is returned and not raised, since the raised error would hold the headers."""
        writes = "auth" in options
        url = f"{self.server}/v2/{path}"
        try:
            reply = self._session.request(method, url, allow_redirects=False, timeout=self._timeout, **options)
        except requests.RequestException as error:
            return None, trouble_of(error)
        return answer_of(reply, step, writes=writes)
