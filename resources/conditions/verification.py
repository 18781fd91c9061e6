"""Looking whether a tag became what a plan says: by listing, by look-up, and by the content of the files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from b2cal_core.errors import DataError, IntegrityError, in_short
from b2cal_core.payloads import Payload
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import Operation, TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.publish_log import PlanRecord, PublishLog

_LAST_RUN = 999_999
"""Stands for the last run of an experiment, which nobody knows."""
_LATER_EXPERIMENT = 1000
"""This many experiments on is the far future."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found when a plan was read back.

    Attributes:
        discrepancies: sentences; none when the tag holds what the plan says.
        latest: the tag is, to the last IoV, as the plan predicted it; otherwise it was changed again since.
        visibility: who sees this already.
    """

    discrepancies: tuple[str, ...]
    latest: bool
    visibility: str


def verified(conditions: ConditionsDB, document: PlanDocument, log: PublishLog) -> Verification:
    """Read the plan back; a target that was changed again since is judged by what the plan itself did."""
    latest = conditions.fingerprint(document.target) == document.predicted
    record = log.plans(document.target).get(document.hash)
    found = tuple(_ReadBack(conditions, document, record, log).complaints(latest=latest))
    return Verification(found, latest, visibility(conditions))


def visibility(conditions: ConditionsDB) -> str:
    """Who sees what this client has just read."""
    delay = conditions.capabilities.cache_delay_seconds
    if not delay:
        return "read back from the database itself, as every reader sees it from now on"
    return (
        f"read back from the database itself; readers behind a cache or a copy may see the state before for up to"
        f" {delay:g} s"
    )


@dataclass(frozen=True, slots=True)
class _ReadBack:
    conditions: ConditionsDB
    document: PlanDocument
    record: PlanRecord | None
    log: PublishLog

    def complaints(self, *, latest: bool) -> Iterator[str]:
        """What is not as the plan says."""
        target, short = self.document.target, self.document.hash[:12]
        if self.record is None or self.record.applied is None:
            yield f"plan {short} was never applied to {target}"
            return
        if self.record.undone_by is not None:
            yield f"plan {short} was taken back from {target} by plan {self.record.undone_by[:12]}"
            return
        applied = self.record.applied
        if not latest and not self.log.changed_since(target, applied):
            yield f"tag {target} is not as plan {short} predicted it, though the log tells of no change since"
        remembered = self.conditions.capabilities.time_machine
        as_of = None if latest or not remembered else applied.id
        links = self._links(as_of)
        # Without a memory, an open IoV may have been ended by a later update, rightly.
        yield from _misplaced(self.document, links, ended_since=not latest and as_of is None)
        yield from self._wrong_answers(links, as_of)
        yield from _wrong_files(self.conditions, self.document)

    def _links(self, as_of: int | None) -> tuple[TagIov, ...]:
        """What the target has of the touched names from just before the first touched run on."""
        within, names = self.document.affected, self.document.names
        if within is None:
            return ()
        links = self.conditions.list_iovs(self.document.target, within, as_of=as_of)
        return tuple(link for link in links if link.name in names)

    def _wrong_answers(self, links: Sequence[TagIov], as_of: int | None) -> Iterator[str]:
        if self.document.kind is PlanKind.edit:  # an OPEN tag is not served to readers
            return
        target = self.document.target
        for run, names in _probes(self.document.plan.operations).items():
            found = self.conditions.resolve([target], run, as_of=as_of)
            expected = _answers((link for link in links if link.name in names), run)
            for name in sorted(names):
                answer = found[name].payload.revision if name in found else None
                if answer != expected.get(name):
                    yield f"{name} in {run} is looked up as {_said(answer)}, listed as {_said(expected.get(name))}"


def _misplaced(document: PlanDocument, links: Sequence[TagIov], *, ended_since: bool) -> Iterator[str]:
    """Operations whose effect is not in the listing, and runs with two payloads."""
    present = {(link.name, link.revision, link.iov.start): link.iov for link in links}
    for operation in document.plan.operations:
        found = present.get((operation.name, operation.revision, operation.iov.start))
        what = f"{operation.name} revision {operation.revision}"
        if operation.kind == "drop":
            if found == operation.iov:
                yield f"{what} is still valid in {operation.iov}"
        elif found != operation.iov and not (ended_since and found is not None and operation.iov.covers(found)):
            yield f"{what} is valid in {found or 'no run'}, not in {operation.iov}"
    reaching: dict[str, TagIov] = {}
    for link in sorted(links, key=lambda link: (link.name, link.iov.start)):
        other = reaching.get(link.name)
        if other is not None and (both := other.iov & link.iov) is not None:
            yield f"{link.name} has revisions {other.revision} and {link.revision} in {both}"
        reaching[link.name] = max(other or link, link, key=lambda one: one.iov.stop)


def _wrong_files(conditions: ConditionsDB, document: PlanDocument) -> Iterator[str]:
    """Payloads of the plan whose files are not what it says."""
    payloads = conditions.payloads_of((name, revision) for name, revision, _ in document.checksums)
    for name, revision, md5 in document.checksums:
        payload = payloads.get((name, revision))
        if payload is None or payload.md5 != md5:
            yield f"{name} revision {revision} has MD5 {payload.md5 if payload else 'unknown'}, not {md5}"
        elif complaint := _file_complaint(conditions, payload):
            yield complaint


def _file_complaint(conditions: ConditionsDB, payload: Payload) -> str | None:
    try:
        with conditions.payload_file(payload).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (IntegrityError, DataError) as error:
        return str(error)
    if found != payload.md5:
        return f"the file of {payload.name} revision {payload.revision} has MD5 {found}, not {payload.md5}"
    return None


def _probes(operations: Iterable[Operation]) -> dict[ExpRun, set[str]]:
    """Runs to look names up in: the first, middle and last of each operation, and those just outside."""
    probes: dict[ExpRun, set[str]] = {}
    for operation in operations:
        for run in _runs_of(operation):
            probes.setdefault(run, set()).add(operation.name)
    return probes


def _runs_of(operation: Operation) -> Iterator[ExpRun]:
    iov = operation.iov
    first = ExpRun(*iov.start)
    if operation.kind == "close":  # only its end changed, and of runs before that the plan says nothing
        yield _last_of(iov)
        yield ExpRun(*iov.stop)
        return
    before = _before(iov.start)
    if before is not None:
        yield ExpRun(*before)
    yield first
    if iov.is_open:
        yield ExpRun(first.exp + _LATER_EXPERIMENT, 0)
        return
    last = _last_of(iov)
    middle = (first.run + last.run) // 2 if first.exp == last.exp else last.run // 2
    yield ExpRun(last.exp, middle)
    yield last
    yield ExpRun(*iov.stop)


def _last_of(iov: IoV) -> ExpRun:
    return ExpRun(iov.exp_high, iov.run_high if iov.run_high >= 0 else max(_LAST_RUN, iov.run_low))


def _before(edge: tuple[int, int]) -> tuple[int, int] | None:
    """The run before, or one late in the experiment before; nothing comes before the very first."""
    exp, run = edge
    if run > 0:
        return exp, run - 1
    return (exp - 1, _LAST_RUN) if exp > 0 else None


def _answers(links: Iterable[TagIov], run: ExpRun) -> dict[str, int]:
    valid = sorted((link for link in links if link.iov.contains(run)), key=lambda link: link.revision)
    return {link.name: link.revision for link in valid}


def _said(revision: int | None) -> str:
    return "nothing" if revision is None else f"revision {revision}"


def refuse_discrepancies(document: PlanDocument, found: Verification) -> None:
    """Raise ``IntegrityError`` when the tag does not hold what the plan says."""
    if found.discrepancies:
        raise IntegrityError(
            f"tag {document.target} is not what plan {document.hash[:12]} says: {in_short(found.discrepancies)}. The"
            " administrator must look; `b2cal cdb verify` asks again"
        )
