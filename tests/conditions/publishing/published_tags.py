"""Tags to publish from and into, and databases that behave in some way of their own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from b2cal_core.payloads import LocalPayload, Release, TagState
from b2cal_core.ports import SafeRunSource
from b2cal_core.provenance import Provenance
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB

RELEASE = Release("alice", "bob", "constants of the bucket")
COMPLETE = Provenance(
    code="release-09", inputs=("a.root",), runs=((1, 1),), tags=("main",), upstream=(), config={}, validation={"ok": 1}
)
FIRST = ExpRun(1, 10)
VALIDATED = (TagState.TESTING, TagState.VALIDATED)
START = [("p1", "one", "0,0,-1,-1"), ("p2", "two", "0,0,-1,-1")]
NEWER = [("p1", "three", "1,10,-1,-1")]

Line = tuple[str, str, str]
Kind = TypeVar("Kind", bound=EmbeddedConditionsDB)


class Processed(SafeRunSource):
    """Data were processed up to a run that may be moved."""

    def __init__(self, run: ExpRun | None = None) -> None:
        self.run = run

    def last_processed(self, target: str) -> tuple[ExpRun, str] | None:
        return None if self.run is None else (self.run, "the test says so")


def in_the_manner_of(kind: type[Kind], conditions: EmbeddedConditionsDB) -> Kind:
    """The same database behind a class that behaves differently."""
    view = object.__new__(kind)
    view.__dict__.update(conditions.__dict__)
    return view


def fill(
    conditions: EmbeddedConditionsDB, tag: str, lines: list[Line], *states: TagState, files: Path, recorded: bool = True
) -> None:
    """Make a tag of lines (name, content, IoV) and take it through states; with provenance of all that is in it."""
    conditions.create_tag(tag)
    local = [LocalPayload(name, _written(files, text), IoV(*map(int, iov.split(",")))) for name, text, iov in lines]
    conditions.replace_iovs(tag, {name for name, _, _ in lines}, local)
    if recorded:
        keys = {(p.name, hashlib.md5(p.file.read_bytes(), usedforsecurity=False).hexdigest()) for p in local}
        conditions.record_provenance(dict.fromkeys(keys, COMPLETE), author="alice")
    now = TagState.OPEN
    for state in states:
        conditions.set_state(tag, expected=now, new=state)
        now = state


def rows(conditions: EmbeddedConditionsDB, tag: str) -> set[tuple[str, int, str]]:
    return {(link.name, link.revision, str(link.iov)) for link in conditions.list_iovs(tag)}


def actions(conditions: EmbeddedConditionsDB, tag: str) -> list[str]:
    return [entry.action for entry in conditions.audit(tag)]


def answers(conditions: EmbeddedConditionsDB, tag: str, run: ExpRun) -> Mapping[str, int]:
    """The revision a reader gets, per name."""
    return {name: found.payload.revision for name, found in conditions.resolve([tag], run).items()}


def _written(directory: Path, text: str) -> Path:
    file = directory / hashlib.sha256(text.encode()).hexdigest()[:16]
    file.write_text(text)
    return file
