"""Belle II's run registry over REST: read only, page by page.

It tells what runs there are, and their type, times, magnet and quality; files are not among it. The token goes to the
server that the deployment names and to no other: redirects are refused, and so are next pages elsewhere.
"""

import logging
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from b2cal_core.errors import BackendError, ConfigurationError, DataError, RightsError
from b2cal_core.ports import RunSource
from b2cal_core.ranges import IoV
from b2cal_core.runs import RunRecord
from resources.conditions.rest.addresses import is_loopback
from resources.conditions.rest.patience import Patience
from resources.runs.rundb_records import run_of
from resources.secret_values import Secret

_LOG = logging.getLogger("b2cal")
_SECONDS = (5.0, 20.0)
_PATIENCE = Patience(attempts=3, longest=4.0)
"""A tick of a sensor has a minute."""
_OK, _REFUSED, _OVERLOADED, _BROKEN = 200, {401, 403}, {408, 429}, 500
Filters = dict[str, str | int]


class RunDb(RunSource):
    """One run registry.

    Args:
        server: address below which ``runs/`` is, for example ``https://rundb.example.org/rest/v1``.
        token: sent with every request; none where the server asks for none.
        page: runs asked for at a time.
        patience: how often, and how far apart, a page is asked for.

    Raises:
        ConfigurationError: the address is none, has a password in it, or would send the token in the clear.
    """

    def __init__(
        self, server: str, token: Secret | None = None, *, page: int = 200, patience: Patience = _PATIENCE
    ) -> None:
        self._address = f"{_checked(server)}/runs/"
        self._token, self._page, self._patience = token, page, patience

    def page(
        self, within: IoV | None = None, *, started_since: datetime | None = None, token: str = ""
    ) -> tuple[tuple[RunRecord, ...], str]:
        """Some of the runs and the token of the next page; runs that go on or cannot be read are left out.

        A range of several experiments is asked for in parts, since the server compares run numbers whatever the
        experiment. A token is the number of the part, and where in it the next page is.
        """
        parts = _parts(within)
        number, _, place = token.partition(" ")
        part = int(number or 0)
        filters = parts[part] | ({} if started_since is None else {"min_date": started_since.date().isoformat()})
        first = {} if place else {**filters, "expand": "true", "limit": self._page}
        entries, following = self._entries(urljoin(self._address, place), first)
        records = tuple(record for entry in entries if (record := _read(entry)) is not None)
        if following:
            return records, f"{part} {following}"
        return records, f"{part + 1} " if part + 1 < len(parts) else ""

    def _entries(self, address: str, filters: Filters) -> tuple[list[Any], str]:
        answer = self._asked(address, filters)
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise self._failure("answers with something that is no page of runs", transient=False)
        following = answer.get("next")
        return answer["results"], self._place(str(following)) if following else ""

    def _place(self, following: str) -> str:
        """The query of the next page; its address is ours whatever name the server goes by behind a proxy."""
        parts = urlsplit(urljoin(self._address, following))
        if parts.path != urlsplit(self._address).path or not parts.query:
            raise self._failure("names a next page that is none of its runs", transient=False)
        return f"?{parts.query}"

    def _asked(self, address: str, filters: Filters) -> Any:  # noqa: ANN401 (JSON)
        for number in range(self._patience.attempts):
            answer, trouble = self._once(address, filters)
            if trouble is None:
                return answer
            if number + 1 < self._patience.attempts:
                self._patience.pause(number)
        raise self._failure(trouble or "was not asked", transient=True)

    def _once(self, address: str, filters: Filters) -> tuple[Any, str | None]:
        """An answer, or a trouble that may pass; what went wrong is told without the headers, which hold the token."""
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.read()}"
        try:
            with requests.Session() as session:
                session.trust_env = False
                reply = session.get(address, params=filters, headers=headers, timeout=_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            return None, f"gives no reply ({type(error).__name__})"
        status = reply.status_code
        if status in _OVERLOADED or status >= _BROKEN:
            return None, f"answers {status}"
        if status in _REFUSED:
            source = "none is configured" if self._token is None else f"it is read from {self._token.source}"
            raise RightsError(f"the run registry at {self._address} refuses our token ({status}); {source}")
        if status != _OK:
            raise self._failure(f"answers {status}; check runs.server in deployment.yaml", transient=False)
        try:
            return reply.json(), None
        except ValueError:
            return None, "answers with something that is no JSON, which may come from a proxy"

    def _failure(self, why: str, *, transient: bool) -> BackendError:
        return BackendError(f"the run registry at {self._address} {why}; nothing was registered", transient=transient)


def _read(entry: Any) -> RunRecord | None:  # noqa: ANN401 (JSON)
    """The run; one that cannot be read is left out with a warning, or it would keep all others out."""
    try:
        return run_of(entry)
    except DataError as error:
        _LOG.warning("a run is left out: %s", error)
        return None


def _parts(within: IoV | None) -> list[Filters]:
    """Filters that together ask for just these runs, each for a range of experiments or of runs of one."""
    if within is None:
        return [{}]
    first, last = within.exp_low, within.exp_high
    if first == last:
        return [_one_experiment(first, within.run_low, within.run_high)]
    before = [_one_experiment(first, within.run_low, -1)] if within.run_low else []
    after = [] if within.run_high == -1 else [_one_experiment(last, 0, within.run_high)]
    low = first + 1 if before else first
    high = last - 1 if after else last
    up_to: Filters = {} if last == -1 else {"max_experiment": high}
    between: list[Filters] = [{"min_experiment": low, **up_to}] if last == -1 or low <= high else []
    return [*before, *between, *after]


def _one_experiment(exp: int, first: int, last: int) -> Filters:
    up_to: Filters = {} if last == -1 else {"max_run": last}
    return {"min_experiment": exp, "max_experiment": exp, "min_run": first, **up_to}


def _checked(server: str) -> str:
    try:
        parts = urlsplit(server)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ConfigurationError("runs.server must be an address like https://rundb.example.org/rest/v1, and is none")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"the address of {host} in runs.server has a user or password in it; use runs.token")
    if parts.scheme != "https" and not is_loopback(host):
        raise ConfigurationError(f"{host} is asked over https only, since a token would be readable; mend runs.server")
    return server.rstrip("/")
