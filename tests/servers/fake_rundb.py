"""A run registry of the tests: pages of runs over real HTTP, as Belle II's gives them. It is changed from outside."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from servers.faults import Faults
from servers.threaded import ThreadedServer
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from b2cal_core.runs import RunRecord

PATH = "/rest/v1"
Entry = dict[str, Any]


class FakeRunDb:
    """One server.

    Args:
        newest_first: the order of its lists; a real one promises none.
        elsewhere: what it calls itself in the addresses of next pages, as behind a proxy.
    """

    def __init__(self, *, newest_first: bool = False, elsewhere: str = "") -> None:
        self.token = "rundb-of-the-tests-0123456789"  # noqa: S105 (of no real server)
        self.entries: dict[tuple[int, int], Entry] = {}
        self.faults = Faults(self._serve)
        self._newest_first, self._elsewhere = newest_first, elsewhere
        self._server = ThreadedServer(self.faults)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}{PATH}"

    def stop(self) -> None:
        self._server.stop()

    def put(self, records: Iterable[RunRecord]) -> None:
        """Let it know of runs, or of what changed about them."""
        self.entries |= {record.run.edge: entry_of(record) for record in records}

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        if headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"detail": "Invalid token."}, 401)
        if (scope["method"], scope["path"]) != ("GET", f"{PATH}/runs/"):
            return JSONResponse({"detail": "Not found."}, 404)
        query = dict(parse_qsl(scope["query_string"].decode()))
        chosen = [self.entries[run] for run in sorted(self.entries, reverse=self._newest_first)]
        return self._page([entry for entry in chosen if _passes(entry, query)], query)

    def _page(self, chosen: list[Entry], query: dict[str, str]) -> Response:
        limit, offset = int(query.get("limit", "100")), int(query.get("offset", "0"))
        page = chosen[offset : offset + limit]
        whole = page if query.get("expand") == "true" else [{k: e[k] for k in ("experiment", "run")} for e in page]
        following = None
        if offset + limit < len(chosen):
            following = f"{self._elsewhere or self.url}/runs/?{urlencode(query | {'offset': str(offset + limit)})}"
        return JSONResponse({"count": len(chosen), "next": following, "previous": None, "results": whole})


def entry_of(record: RunRecord) -> Entry:
    """The run as the server tells it; its expert flags say what the record's quality says."""
    flags = {"Good": "GOOD", "Good Or Recoverable": "RECOVERABLE"}
    flag = next((flags[tag] for tag in flags if tag in record.quality), "BAD")
    return {
        "experiment": record.run.exp,
        "run": record.run.run,
        "run_type": record.run_type,
        "time_start": record.started.isoformat(),
        "time_stop": record.ended.isoformat(),
        "detectors": {"magnet_solenoid_field": 15000.0 if record.magnet == "On" else 0.0},
        "quality_expert": {"pxd": flag, "cdc": flag, "ecl": None},
        "beam_energy": record.beam_energy,
    }


def _passes(entry: Entry, query: Mapping[str, str]) -> bool:
    """Every filter by itself: run numbers are compared whatever the experiment."""
    if entry["time_start"][:10] < query.get("min_date", ""):
        return False
    return all(
        int(query.get(f"min_{name}", entry[name])) <= entry[name] <= int(query.get(f"max_{name}", entry[name]))
        for name in ("experiment", "run")
    )
