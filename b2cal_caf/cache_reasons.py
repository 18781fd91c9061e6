"""Why an input file of a request was collected, or was not: each hit and miss of the collector cache, with its reason.

A miss is told against the last time the file was planned with the same collector, in whatever version; where several
such times differ from now, against the one that differs least. Of times later than the plan nothing is said.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json
from b2cal_caf.cache_index import (
    RECORDS_SINCE,
    RecordedFile,
    RecordedOutput,
    RecordedPlan,
    last_plan,
    note,
    outputs_over,
    plans_numbered,
    recorded_files,
    recorded_outputs,
)
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.conditions import ABSENT
from b2cal_caf.layout import RESULTS
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun

_LONGEST_VALUE = 60
_SHORT_HASH = 12


class Why(StrEnum):
    """What became of a file's look-up in the cache."""

    hit = "hit"
    vanished = "vanished"
    """It was in the cache, but went before it was taken."""
    new = "new"
    changed = "changed"
    removed = "removed"
    bundled = "bundled"
    """It was collected, but in one output with files that are not wanted, or that another output has."""
    unfinished = "unfinished"
    """Another plan asked for it before, but its output was not there yet."""
    unrecorded = "unrecorded"


class Aspect(StrEnum):
    """What a key is made of."""

    run = "run"
    file = "file"
    code = "code"
    configuration = "configuration"
    payload = "payload"
    platform = "platform"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was; ``name`` is that of the field or payload, where there are several."""

    aspect: Aspect
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FileReason:
    """What the cache did for one input file.

    Attributes:
        changes: against the former time, for ``changed``.
        sentence: the reason, the same for all files that share it.
        detail: what is particular to this file; may be empty.
    """

    calibration: str
    iteration: int
    collection: str
    subjob: int
    file: str
    run: ExpRun
    why: Why
    sentence: str
    detail: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def is_hit(self) -> bool:
        """Whether it was not collected for this request."""
        return self.why is Why.hit


@dataclass(frozen=True, slots=True)
class ReasonLine:
    """All files of a collection that share a reason: how many, in how many sub-jobs, and the first of them."""

    example: FileReason
    files: int
    subjobs: int


def plans_of(
    directory: Path, *, calibration: str | None = None, collection: str | None = None, iteration: int | None = None
) -> list[Path]:
    """The plans of a request, by calibration, iteration and collection.

    Args:
        directory: the request's directory, or its ``calibration_results``.
        calibration: only of this one; of all by default.
        collection: only of those of this name.
        iteration: only of this one.

    Raises:
        DataError: there is no request, or nothing was planned yet.
        ConfigurationError: there is nothing of the name or number asked for.
    """
    results = directory if directory.name == RESULTS else directory / RESULTS
    if not results.is_dir():
        msg = f"{directory} holds no {RESULTS}; is it the working directory of a CAF request that was started?"
        raise DataError(msg)
    found = sorted(results.glob("*/*/collector_input/*/collector_job.json"), key=_order)
    if not found:
        msg = f"in {directory} nothing was collected yet; ask again when a calibration has begun to collect"
        raise DataError(msg)
    for what, wanted, place in (
        ("calibration", calibration, 0),
        ("iteration", iteration, 1),
        ("collection", collection, 2),
    ):
        there = {_order(path)[place] for path in found}
        if wanted is not None and wanted not in there:
            msg = f"{directory} has no {what} {wanted}; there is {', '.join(map(str, sorted(there)))}"
            raise ConfigurationError(msg)
        found = [path for path in found if wanted is None or _order(path)[place] == wanted]
    return found


def explain(plans: Sequence[Path], cache: CollectorCache) -> list[FileReason]:
    """Every file of the plans, with its reason.

    Raises:
        DataError: a plan cannot be read.
    """
    return [reason for path in plans for reason in _Explanation(path, cache).reasons()]


def in_lines(reasons: Iterable[FileReason]) -> list[ReasonLine]:
    """One line for each reason of a collection, those of most files first."""
    groups: dict[tuple[str, int, str, str], list[FileReason]] = {}
    for reason in reasons:
        place = reason.calibration, reason.iteration, reason.collection
        groups.setdefault((*place, reason.sentence), []).append(reason)
    lines = [ReasonLine(group[0], len(group), len({reason.subjob for reason in group})) for group in groups.values()]
    return sorted(
        lines,
        key=lambda line: (line.example.calibration, line.example.iteration, line.example.collection, -line.files),
    )


class _Explanation:
    """What is known about one plan: as it was written, and as the index has it."""

    def __init__(self, path: Path, cache: CollectorCache) -> None:
        self.calibration, self.iteration, self.collection = _order(path)
        self.jobs = _subjobs(path)
        self.wanted = {key for job in self.jobs for key in job["keys"]}
        self.taken = {key for job in self.jobs if job["cached"] for key in job["keys"]}
        missed = [key for job in self.jobs if not job["cached"] for key in job["keys"]]
        paths = [file[0] for job in self.jobs if not job["cached"] for file in job["files"]]
        with cache.index.read() as connection:
            self.plan = last_plan(connection, path.resolve())
            self.hits = recorded_outputs(connection, [job["output"] for job in self.jobs if job["cached"]])
            self.outputs = outputs_over(connection, missed)
            self.states = recorded_files(connection, paths)
            self.plans = _plans(connection, self.states)
            self.since = note(connection, RECORDS_SINCE)

    def reasons(self) -> Iterator[FileReason]:
        """One for every file, in the order of the sub-jobs."""
        for number, job in enumerate(self.jobs):
            for key, (file, exp, run, _events) in zip(job["keys"], job["files"], strict=True):
                if job["cached"]:
                    why, sentence, detail = self._hit(self.hits.get(job["output"]))
                    changes: tuple[Change, ...] = ()
                else:
                    why, sentence, detail, changes = self._miss(key, file)
                place = self.calibration, self.iteration, self.collection
                yield FileReason(*place, number, file, ExpRun(exp, run), why, sentence, detail, changes)

    def _hit(self, output: RecordedOutput | None) -> tuple[Why, str, str]:
        if output is None:
            return Why.hit, "in the cache", "the index of the cache does not know the output any more"
        if (
            self.plan is not None
            and output.request == str(self._request(self.plan))
            and output.made > self.plan.planned
        ):
            why = output.why or "it was removed"
            return Why.vanished, f"in the cache when planned, but gone before it was taken: {why}", "collected again"
        detail = f"collected {_time(output.made)}"
        if not output.here:
            detail += f"; gone from the cache since: {output.why}"
        return Why.hit, f"in the cache, collected by {output.request or 'an unknown request'}", detail

    def _miss(self, key: str, file: str) -> tuple[Why, str, str, tuple[Change, ...]]:
        now = next((state for state in self.states.get(file, ()) if state.parts.key == key), None)
        if self.plan is None or now is None:
            return Why.unrecorded, "the index of the cache has no record of this plan", "", ()
        found = self._kept_once(self.outputs.get(key, []), self.plan)
        if found is not None:
            return *found, ()
        first = self.plans[now.plan]
        own = first.path == self.plan.path
        if not own and first.number < self.plan.number:
            sentence = f"asked for before by {self._request(first)}, but not collected by then"
            return Why.unfinished, sentence, f"first planned {_time(first.planned)}", ()
        before = first.number if own else self.plan.number
        former = [
            state
            for state in self.states[file]
            if state.collector.kind == now.collector.kind and state.plan < before and state.parts.key != key
        ]
        if not former:
            sentence = f"not planned before with collector {now.collector.kind}"
            return Why.new, sentence, f"records of the cache begin {_time(self.since)}", ()
        nearest = min(former, key=lambda state: (len(_changes(state, now)), -state.plan))
        changes = _changes(nearest, now)
        detail = "; ".join(
            [*filter(None, map(_detail, changes)), f"planned before {_time(self.plans[nearest.plan].planned)}"]
        )
        return Why.changed, _sentence(changes), detail, changes

    def _kept_once(self, outputs: Sequence[RecordedOutput], plan: RecordedPlan) -> tuple[Why, str, str] | None:
        """What hindered that an output over the file, which there was before the plan, was taken."""
        for output in outputs:
            if output.files <= self.wanted and _was_gone(output, plan.planned):
                detail = f"gone {_time(output.removed or 0.0)}"
                return Why.removed, f"the output was removed from the cache: {output.why}", detail
        for output in outputs:
            if not _existed(output, plan.planned):
                continue
            if more := len(output.files - self.wanted):
                return (
                    Why.bundled,
                    "collected before in one output with files that are not asked for",
                    f"{more} of them",
                )
            if output.files & self.taken:
                return Why.bundled, "collected before in one output with files that another output has too", ""
        return None

    @staticmethod
    def _request(plan: RecordedPlan) -> Path:
        return plan.path.parents[5]


def _plans(connection: sqlite3.Connection, states: Mapping[str, Sequence[RecordedFile]]) -> dict[int, RecordedPlan]:
    return plans_numbered(connection, {state.plan for found in states.values() for state in found})


def _existed(output: RecordedOutput, when: float) -> bool:
    """Whether the output was ever kept until then; of several times that it was made only the last is known."""
    return output.made <= when or output.removed is not None


def _was_gone(output: RecordedOutput, when: float) -> bool:
    """Whether the output had been in the cache, but was not then."""
    removed = output.removed is not None and output.removed <= when
    return removed and (output.made > when or output.made <= (output.removed or 0.0))


def _subjobs(path: Path) -> list[dict[str, Any]]:
    written = read_json(path)
    if not isinstance(written, dict) or "identity" not in written:
        msg = f"{path} is no plan of the embedded CAF; only what that collects goes through the collector cache"
        raise DataError(msg)
    jobs: list[dict[str, Any]] = written["subjobs"]
    return jobs


def _order(path: Path) -> tuple[str, int, str]:
    """Calibration, iteration and collection of a plan's file."""
    calibration, iteration, _, collection = path.parts[-5:-1]
    return calibration, int(iteration), collection


def _changes(before: RecordedFile, now: RecordedFile) -> tuple[Change, ...]:
    pairs: list[tuple[Aspect, Mapping[str, str], Mapping[str, str]]] = [
        (Aspect.run, {"": str(before.parts.run)}, {"": str(now.parts.run)}),
        (Aspect.file, {"": before.parts.identity}, {"": now.parts.identity}),
        (Aspect.code, {"": before.collector.code}, {"": now.collector.code}),
        (Aspect.configuration, _values(before.collector.configuration), _values(now.collector.configuration)),
        (Aspect.payload, before.parts.payloads, now.parts.payloads),
    ]
    changes = tuple(
        Change(aspect, name, old.get(name, ABSENT), new.get(name, ABSENT))
        for aspect, old, new in pairs
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )
    return changes or (Change(Aspect.platform, "", "", ""),)


def _values(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Name to value as JSON; fields of fields are named with dots."""
    found: dict[str, str] = {}
    for name, value in {**configuration["fields"], "granularity": configuration["granularity"]}.items():
        found |= dict(_flat(name, value))
    return found


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 (JSON)
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, json.dumps(value, sort_keys=True)


def _sentence(changes: Sequence[Change]) -> str:
    """The changes without what is particular to a file."""
    words = {
        Aspect.run: "the file is given for another run",
        Aspect.file: "the file changed",
        Aspect.code: "the collector's code changed",
        Aspect.platform: "the platform writes collected files in another format",
    }
    said = [words[change.aspect] for change in changes if change.aspect in words]
    fields = [
        f"{change.name} {_short(change.before)} → {_short(change.after)}"
        for change in changes
        if change.aspect is Aspect.configuration
    ]
    payloads = [change.name for change in changes if change.aspect is Aspect.payload]
    said += [f"the collector's configuration changed: {', '.join(fields)}"] if fields else []
    said += [f"payloads it reads changed: {', '.join(payloads)}"] if payloads else []
    return "; ".join(said)


def _detail(change: Change) -> str:
    """What a change is in a file, where the sentence did not say it."""
    match change.aspect:
        case Aspect.run:
            return f"run {change.before} → {change.after}"
        case Aspect.file:
            return f"{_size_and_time(change.before)} → {_size_and_time(change.after)}"
        case Aspect.code:
            return f"code {change.before[:_SHORT_HASH]} → {change.after[:_SHORT_HASH]}"
        case Aspect.payload:
            return f"{change.name} {change.before[:_SHORT_HASH]} → {change.after[:_SHORT_HASH]}"
        case _:
            return ""


def _size_and_time(identity: str) -> str:
    size, _, nanoseconds = identity.partition(" ")
    return f"{size} bytes of {_time(int(nanoseconds) / 1e9)}"


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
