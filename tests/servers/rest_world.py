"""A conditions server with faults in front of it, and a client of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from servers.conditions_server import ThreadedConditionsServer
from servers.faults import Faults
from starlette.types import ASGIApp

from b2cal_core.payloads import LocalPayload, Release, TagState
from b2cal_core.plans import PlanDocument, PlanKind, fingerprint_of
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan, applied, plan_running_update
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.book import Book
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.tokens import TokenFile

ALWAYS = IoV(0, 0, -1, -1)
RELEASE = Release("anna", "bert", "bucket 12 is good")
RECORD = Provenance(
    code="script 1", inputs=("f",), runs=((0, 1),), tags=("t",), upstream=(), config={}, validation={"verdict": "pass"}
)


def keep_token(path: Path, token: str) -> str:
    """Keep a token in a file as people do, and return it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"{token}\n")
    return token


@dataclass
class World:
    """A server, the truth behind it, and a client.

    Attributes:
        truth: the database that is served, to make things ready and to see what became of them.
        pauses: how long the client waited, in seconds; it does not really wait.
    """

    root: Path
    server: ThreadedConditionsServer
    faults: Faults
    truth: EmbeddedConditionsDB
    pauses: list[float] = field(default_factory=list)
    clients: list[RestConditionsDB] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.token = self.write_token()
        url = sa.URL.create("sqlite", database=str(self.root / "book.db"))
        self.book = Book(Database(url, create=True), author="anna")
        self.client = self.new_client()

    def write_token(self, *, seconds: float = 3600, admin: tuple[str, ...] = (".*",)) -> str:
        """Give the client's user a token in the place where the client looks for it, and return it."""
        return keep_token(self.root / "token", self.server.token("anna", admin=admin, seconds=seconds))

    def new_client(self, *, token: TokenFile | None = None, anonymous: bool = False) -> RestConditionsDB:
        """A client as a new process has it."""
        file = None if anonymous else token or TokenFile(self.root / "token")
        client = RestConditionsDB(
            self.server.url,
            book=self.book,
            cache=self.root / "cache",
            token=file,
            user="anna",
            timeout=(2.0, 2.0),
            patience=Patience(attempts=3, sleep=self.pauses.append),
        )
        self.clients.append(client)
        return client

    def close(self) -> None:
        """End the server, and the connections to it and to the databases."""
        for client in self.clients:
            client.close()
        self.server.stop()
        self.truth.engine.dispose()

    def file(self, text: str) -> Path:
        """A payload file with this text."""
        path = self.root / f"{text}.root"
        path.write_text(text)
        return path

    def local(self, name: str, text: str, iov: IoV = ALWAYS) -> LocalPayload:
        """A line of a testing payload storage."""
        return LocalPayload(name, self.file(text), iov)

    def make(self, tag: str, *lines: LocalPayload, state: TagState = TagState.OPEN) -> None:
        """Make a tag behind the client's back."""
        self.truth.create_tag(tag)
        self.truth.replace_iovs(tag, {line.name for line in lines}, lines)
        ways = {TagState.VALIDATED: (TagState.TESTING, TagState.VALIDATED), TagState.RUNNING: (TagState.RUNNING,)}
        now = TagState.OPEN
        for new in ways.get(state, ()):
            self.truth.set_state(tag, expected=now, new=new)
            now = new

    def contents(self, tag: str) -> set[tuple[str, int, str]]:
        """What the tag really has."""
        return {(link.name, link.revision, str(link.iov)) for link in self.truth.list_iovs(tag)}

    def plan(self, tag: str, *operations: Operation, kind: PlanKind, first_run: ExpRun | None = None) -> PlanDocument:
        """A plan for the tag as it really is."""
        before, plan = self.truth.list_iovs(tag), UpdatePlan(operations)
        state = TagState.OPEN if kind is PlanKind.edit else TagState.RUNNING
        created = [(op.name, op.revision) for op in operations if op.kind == "create"]
        known = self.truth.payloads_of(created)
        self.book.record_provenance({(one.name, one.md5): RECORD for one in known.values()}, author="anna")
        return PlanDocument(
            kind,
            tag,
            (),
            fingerprint_of(state, before),
            fingerprint_of(state, applied(before, plan)),
            plan,
            first_run=first_run,
            checksums=tuple((one.name, one.revision, one.md5) for one in known.values()),
        )

    def update(self, tag: str, *staged: TagIov, first_run: ExpRun) -> PlanDocument:
        """The plan of a running update."""
        plan = plan_running_update(self.truth.list_iovs(tag), staged, first_run, UpdateMode.allow_closed)
        return self.plan(tag, *plan.operations, kind=PlanKind.running_update, first_run=first_run)


@contextmanager
def new_world(root: Path) -> Iterator[World]:
    """A world below a directory."""
    put_around: list[Faults] = []

    def wrap(app: ASGIApp) -> Faults:
        put_around.append(Faults(app))
        return put_around[0]

    server = ThreadedConditionsServer(root / "conditions", wrap=wrap)
    world = World(root, server, put_around[0], EmbeddedConditionsDB(root / "conditions"))
    try:
        yield world
    finally:
        world.close()
