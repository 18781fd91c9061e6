"""The worlds in which the invariants are tried: embedded on SQLite, embedded on MariaDB, a server with its REST client.

A world lasts for a module of tests; every example gets names of its own in it. A client can be ended at each of its
points, and somebody can look on at each: steps of a change in the embedded database, requests and replies of the other.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grid import POINTS, Answers, Line

from b2cal_core.errors import BackendError, CalibrationError
from b2cal_core.payloads import LocalPayload, Payload, Release, TagState
from b2cal_core.plans import PlanDocument, PlanKind, moved
from b2cal_core.ports import ConditionsDB
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan, applied, plan_running_update
from b2cal_core.ranges import ExpRun
from b2cal_core.rights import Rights
from resources.conditions.embedded import EmbeddedConditionsDB

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
