"""The kinds of worlds: an embedded database on SQLite or MariaDB, and a server with its REST client."""

import os
from collections.abc import Callable
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from servers.conditions_server import ThreadedConditionsServer
from servers.faults import Fault, Faults, Request, lose_reply, lose_request
from starlette.types import ASGIApp, Receive, Scope, Send
from worlds import EVERYTHING, SERVED, Crash, Work, World

from b2cal_core.payloads import TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.rights import Rights
from resources.conditions.book import Book, utc_now
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.tokens import TokenFile

Clock = Callable[[], datetime]


class EmbeddedWorld(World):
    """An embedded database; ``url`` is that of an empty database on a server, or none for SQLite."""

    def __init__(self, root: Path, url: str | None = None) -> None:
        super().__init__(root)
        self.backend, self._url = ("MariaDB" if url else "SQLite"), url
        self.conditions = self.truth = EmbeddedConditionsDB(
            root / "conditions", url=url, pooled=True, rights=EVERYTHING
        )
        self._clients: list[EmbeddedConditionsDB] = []
        self._step: Callable[[str], None] = lambda _step: None
        self._watched = self._open(on_step=self._tell)
        self._connections: list[sa.Connection] = []
        sa.event.listen(self._watched.engine, "before_cursor_execute", self._statement)
        sa.event.listen(self._watched.engine, "commit", self._commit)

    def _open(self, rights: Rights = EVERYTHING, **options: Any) -> EmbeddedConditionsDB:
        return EmbeddedConditionsDB(self.root / "conditions", url=self._url, pooled=True, rights=rights, **options)

    def _tell(self, step: str) -> None:
        self._step(step)

    def _statement(self, connection: sa.Connection, *_rest: object) -> None:
        self._connections.append(connection)
        self._step("statement")

    def _commit(self, connection: sa.Connection) -> None:
        self._step("commit")

    def client(self, rights: Rights = EVERYTHING, **options: Any) -> ConditionsDB:
        if not options:
            return self.truth.seen_by(rights)
        made = self._open(rights, **options)
        self._clients.append(made)
        return made

    def dying(self, point: int) -> ConditionsDB:
        steps = iter(range(1 << 30))

        def step(name: str) -> None:
            if next(steps) >= point:
                raise Crash(name)

        self._step = step
        return self._watched

    def failing(self, point: int) -> ConditionsDB:
        """A client whose database stops working at this point: its connection breaks, or its disk stops answering."""
        steps = iter(range(1 << 30))

        def step(name: str) -> None:
            if next(steps) >= point and name == "statement":
                self._break(self._connections[-1].connection.dbapi_connection)

        self._step = step
        return self._watched

    def _break(self, connection: Any) -> None:
        if self.backend == "SQLite":
            answers = iter([1])
            connection.set_progress_handler(lambda: next(answers, 0), 1)  # interrupts one statement
            return
        with self.truth.engine.connect() as other:
            other.exec_driver_sql(f"KILL {connection.thread_id()}")

    def revive(self) -> None:
        self._step = lambda _step: None

    def points(self, work: Work) -> list[int]:
        seen: list[str] = []
        self._step = seen.append
        work(self._watched)
        self.revive()
        return list(range(len(seen)))

    def observe(self, look: Callable[[], None], work: Work) -> None:
        self._step = lambda _step: look()
        try:
            work(self._watched)
        finally:
            self.revive()

    def writes(self, work: Work) -> int:
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if statement.split(maxsplit=1)[0].upper() in {"INSERT", "UPDATE", "DELETE", "REPLACE"}:
                seen.append(statement)

        sa.event.listen(self.truth.engine, "before_cursor_execute", note)
        try:
            work(self.conditions)
        finally:
            sa.event.remove(self.truth.engine, "before_cursor_execute", note)
        return len(seen)

    def close(self) -> None:
        for client in (self.truth, self._watched, *self._clients):
            client.engine.dispose()


class RestWorld(World):
    """A server in a thread of this process, with faults in front of it, and its client."""

    backend = "REST"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.faults: Faults

        def wrap(app: ASGIApp) -> ASGIApp:
            self.faults = Faults(app)
            return self.faults

        self.server = ThreadedConditionsServer(root / "conditions", wrap=wrap)
        self.truth = EmbeddedConditionsDB(root / "conditions", pooled=True, rights=EVERYTHING)
        self._tables = Database(sa.URL.create("sqlite", database=str(root / "book.db")), create=True, pooled=True)
        self._clients: list[RestConditionsDB] = []
        self._tokens = count()
        self.conditions = self.client()

    def client(
        self,
        rights: Rights = EVERYTHING,
        *,
        clock: Clock = utc_now,
        attempts: int = 3,
        seconds: float = 3600,
        cache: str = "cache",
        served: frozenset[TagState] = SERVED,
    ) -> RestConditionsDB:
        token = self.root / f"token{next(self._tokens)}"
        text = self.server.token(rights.user, admin=rights.admin, create_iov=rights.create_iov, seconds=seconds)
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        made = RestConditionsDB(
            self.server.url,
            book=Book(self._tables, author=rights.user, clock=clock),
            cache=self.root / cache,
            token=TokenFile(token),
            user=rights.user,
            timeout=(10.0, 10.0),
            patience=Patience(attempts=attempts, sleep=lambda _seconds: None),
            served=served,
        )
        self._clients.append(made)
        return made

    def dying(self, point: int) -> ConditionsDB:
        self.faults.at(point // 2, _ended(lose_reply if point % 2 else lose_request), times=1 << 30)
        return self.client(attempts=1)

    def revive(self) -> None:
        self.faults.reset()

    def points(self, work: Work) -> list[int]:
        client = self.client(attempts=1)
        self.faults.reset()
        work(client)
        lost_requests = range(0, 2 * len(self.faults.requests), 2)
        lost_replies = [2 * i + 1 for i, request in enumerate(self.faults.requests) if changes(request)]
        return sorted([*lost_requests, *lost_replies])

    def observe(self, look: Callable[[], None], work: Work) -> None:
        async def looked_at(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
            look()
            await app(scope, receive, send)
            look()

        self.faults.at(0, looked_at, times=1 << 30)
        try:
            work(self.conditions)
        finally:
            self.revive()

    def writes(self, work: Work) -> int:
        self.faults.reset()
        work(self.conditions)
        return sum(map(changes, self.faults.requests))

    def close(self) -> None:
        for client in self._clients:
            client._calls.transport._session.close()
        self.server.stop()
        self.truth.engine.dispose()
        self._tables.engine.dispose()


def changes(request: Request) -> bool:
    """Whether a request asks for a change; one question is too long for an address and comes as a POST."""
    return request.method not in {"GET", "HEAD"} and not request.path.endswith("/checkPayloads")


def _ended(first: Fault) -> Fault:
    """The first request meets this, all after it are lost: the client is gone."""
    met: list[Fault] = [first]

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await (met.pop() if met else lose_request)(app, scope, receive, send)

    return fault


def new_world(kind: str, root: Path, url: str | None = None) -> World:
    """An empty world below a directory; ``url`` is that of an empty database on a MariaDB server."""
    root.mkdir(parents=True, exist_ok=True)
    if kind == "rest":
        return RestWorld(root)
    return EmbeddedWorld(root, url if kind == "mariadb" else None)
