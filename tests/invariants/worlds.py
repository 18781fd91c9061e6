"""The worlds in which the invariants are tried: embedded on SQLite, embedded on MariaDB, a server with its REST client.

A world lasts for a module of tests; every example gets names of its own in it. A client can be ended at each of its
points, and somebody can look on at each: steps of a change in the embedded database, requests and replies of the other.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from grid import POINTS, Answers, Line
from servers.conditions_server import ThreadedConditionsServer
from servers.faults import Fault, Faults, Request, lose_reply, lose_request
from starlette.types import ASGIApp, Receive, Scope, Send

from b2cal_core.errors import BackendError, CalibrationError
from b2cal_core.payloads import LocalPayload, Payload, Release, TagState
from b2cal_core.plans import PlanDocument, PlanKind, moved
from b2cal_core.ports import ConditionsDB
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan, applied, plan_running_update
from b2cal_core.ranges import ExpRun
from b2cal_core.rights import Rights
from resources.conditions.book import Book, utc_now
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.tokens import TokenFile

RELEASE = Release("anna", "bert", "the bucket is good")
RECORD = Provenance(
    code="release-09, caf_p.py 1a2b3c",
    inputs=("run1.root",),
    runs=((1, 1),),
    tags=("online",),
    upstream=(),
    config={},
    validation={"verdict": "pass"},
)
PATHS: dict[TagState, tuple[TagState, ...]] = {
    TagState.OPEN: (),
    TagState.TESTING: (TagState.TESTING,),
    TagState.VALIDATED: (TagState.TESTING, TagState.VALIDATED),
    TagState.PUBLISHED: (TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED),
    TagState.RUNNING: (TagState.RUNNING,),
    TagState.INVALID: (TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED, TagState.INVALID),
}
EVERYTHING = Rights.everything("anna")
SERVED = frozenset(TagState) - {TagState.INVALID}

Clock = Callable[[], datetime]
Work = Callable[[ConditionsDB], object]


class Crash(Exception):  # noqa: N818 (an event, not an error of the code under test)
    """The client ends at this point."""


class World(ABC):
    """A conditions database, the truth behind it, and payload files.

    Attributes:
        conditions: the adapter that is tried.
        truth: the embedded database at the bottom, to make things ready and to see what became of them.
        death: what a client raises that was ended at a point.
    """

    backend: str
    conditions: ConditionsDB
    truth: EmbeddedConditionsDB
    death: tuple[type[Exception], ...] = (Crash, BackendError)

    def __init__(self, root: Path) -> None:
        self.root = root
        self.texts: dict[str, str] = {}
        self._cases = 0

    @abstractmethod
    def client(self, rights: Rights = EVERYTHING, **options: Any) -> ConditionsDB:
        """The adapter as a new process has it, in the hands of a user; it may be given ``clock`` and ``served``."""

    @abstractmethod
    def dying(self, point: int) -> ConditionsDB:
        """An adapter that ends at this point; ``revive`` is to be called before anybody else works."""

    @abstractmethod
    def revive(self) -> None:
        """End the disturbance."""

    @abstractmethod
    def points(self, work: Work) -> list[int]:
        """Do the work, undisturbed, and return the points at which it could have been ended."""

    @abstractmethod
    def observe(self, look: Callable[[], None], work: Work) -> None:
        """Do the work while somebody looks on at each point."""

    @abstractmethod
    def writes(self, work: Work) -> int:
        """Do the work and count what it wrote: statements, or requests that change something."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""

    def case(self) -> "Case":
        """Names of its own for one example."""
        self._cases += 1
        return Case(self, self._cases)

    def file(self, text: str) -> Path:
        """A payload file with this text."""
        md5 = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        self.texts[md5] = text
        path = self.root / f"{md5}.root"
        if not path.exists():
            path.write_text(text)
        return path

    def stored(self, payload: Payload) -> Path:
        """The file in which the database keeps a payload."""
        sha256 = self.truth.payloads_of([(payload.name, payload.revision)])[payload.name, payload.revision].sha256
        assert sha256 is not None
        return self.root / "conditions" / "payloads" / sha256[:2] / sha256


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
        token = self.root / f"token{len(self._clients)}"
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


@dataclass
class Case:
    """One example: names that nobody else uses, written short in the test."""

    world: World
    number: int
    made: int = field(default=0)

    def name(self, short: str) -> str:
        """The payload name that is meant."""
        return f"{short}{self.number}"

    def tag(self) -> str:
        """A name for a tag."""
        self.made += 1
        return f"tag{self.number}_{self.made}"

    def local(self, lines: Iterable[Line]) -> list[LocalPayload]:
        """The lines as a testing payload storage has them."""
        return [LocalPayload(self.name(name), self.world.file(text), iov) for name, text, iov in lines]

    def make(self, lines: Iterable[Line] = (), state: TagState = TagState.OPEN, *, vouched: bool = False) -> str:
        """Make a tag behind the back of the client, and record where its payloads come from."""
        tag, local, truth = self.tag(), self.local(lines), self.world.truth
        truth.create_tag(tag)
        if local:
            truth.replace_iovs(tag, {one.name for one in local}, local)
        self.bring(tag, state)
        if vouched:
            self.vouch(tag)
        return tag

    def bring(self, tag: str, state: TagState) -> None:
        """Take an OPEN tag to a state, behind the back of the client."""
        now = TagState.OPEN
        for new in PATHS[state]:
            self.world.truth.set_state(tag, expected=now, new=new)
            now = new

    def vouch(self, tag: str) -> None:
        """Record complete provenance of everything in a tag."""
        known = self.world.truth.payloads_of({(link.name, link.revision) for link in self.world.truth.list_iovs(tag)})
        records = {(payload.name, payload.md5): RECORD for payload in known.values()}
        self.world.conditions.record_provenance(records, author="anna")

    def answers(self, tag: str, conditions: ConditionsDB | None = None, *, as_of: int | None = None) -> Answers:
        """What a listing of the tag says, run by run; two payloads for one run are an error."""
        links = (conditions or self.world.conditions).list_iovs(tag, as_of=as_of)
        return self.answers_in(links)

    def answers_in(self, links: Sequence[TagIov]) -> Answers:
        """What links say, run by run."""
        known = self.world.truth.payloads_of({(link.name, link.revision) for link in links})
        found: Answers = {}
        for link in links:
            runs = found.setdefault(self.short(link.name), {})
            for run in filter(link.iov.contains, POINTS):
                assert run not in runs, f"{link.name} has two payloads for {run}"
                runs[run] = self.world.texts[known[link.name, link.revision].md5]
        return {name: runs for name, runs in found.items() if runs}

    def short(self, name: str) -> str:
        """The short form of a payload name."""
        return name.removesuffix(str(self.number))

    def look_up(self, chain: Sequence[str], run: ExpRun, *, as_of: int | None = None) -> dict[str, str]:
        """Name to content, as the adapter resolves it."""
        found = self.world.conditions.resolve(chain, run, as_of=as_of)
        return {self.short(name): self.world.texts[one.payload.md5] for name, one in found.items()}

    def revisions(self) -> dict[str, int]:
        """How many revisions there are of each name that was used."""
        wanted = {(self.name(name), revision) for name in ("p", "q", "r") for revision in range(1, 20)}
        found: dict[str, int] = {}
        for name, _ in self.world.truth.payloads_of(wanted):
            found[self.short(name)] = found.get(self.short(name), 0) + 1
        return found

    def update(self, target: str, staging: str, first: ExpRun, mode: UpdateMode) -> PlanDocument:
        """The plan of a running update."""
        truth = self.world.truth
        plan = plan_running_update(truth.list_iovs(target), truth.list_iovs(staging), first, mode)
        return self.document(target, plan.operations, first=first)

    def document(
        self,
        target: str,
        operations: Iterable[Operation],
        *,
        first: ExpRun | None = None,
        kind: PlanKind = PlanKind.running_update,
    ) -> PlanDocument:
        """A plan of these operations for the target as it is now, whatever the rules say of them."""
        truth, plan = self.world.truth, UpdatePlan(tuple(operations))
        before, fingerprint = truth.list_iovs(target), truth.fingerprint(target)
        old, new = (
            {TagIov(link.name, link.revision, link.iov) for link in links} for links in (before, applied(before, plan))
        )
        known = truth.payloads_of({(op.name, op.revision) for op in plan.operations if op.kind == "create"})
        return PlanDocument(
            kind,
            target,
            (),
            fingerprint,
            moved(fingerprint, added=new - old, dropped=old - new),
            plan,
            first_run=first,
            checksums=tuple((one.name, one.revision, one.md5) for one in known.values()),
        )


def attempt(work: Callable[[], object]) -> CalibrationError | None:
    """Why the work was refused; ``None`` when it was done."""
    try:
        work()
    except CalibrationError as error:
        return error
    return None


def new_world(kind: str, root: Path, url: str | None = None) -> World:
    """An empty world below a directory; ``url`` is that of an empty database on a MariaDB server."""
    root.mkdir(parents=True, exist_ok=True)
    if kind == "rest":
        return RestWorld(root)
    return EmbeddedWorld(root, url if kind == "mariadb" else None)
