"""Where it is known from which data were processed, so that their constants must not change any more."""

import json
from collections.abc import Collection
from fnmatch import fnmatchcase

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import AuditEntry, Release
from b2cal_core.ports import ConditionsDB, RunRegistry, SafeRunSource
from b2cal_core.ranges import ExpRun
from resources.conditions.publish_log import PROCESSED


class RegistryProcessed(SafeRunSource):
    """The last run of which the registry has files that are made with published constants.

    Only what is new in the registry is read when asked again. A run whose files were taken out again still counts.

    Args:
        formats: data formats that are made after publishing.
        targets: shell pattern of the tags such files are made with.
    """

    def __init__(
        self, registry: RunRegistry, formats: Collection[str] = ("mdst", "udst"), *, targets: str = "*"
    ) -> None:
        self._registry, self._formats, self._targets = registry, frozenset(formats), targets
        self._cursor = 0
        self._last: tuple[ExpRun, str] | None = None

    def last_processed(self, target: str) -> tuple[ExpRun, str] | None:
        """The last run with such files, when the tag is one of the targets."""
        while True:
            records, cursor = self._registry.changes(self._cursor)
            for record in records:
                made = sorted({file.data_format for file in record.files} & self._formats)
                if made and (self._last is None or record.run > self._last[0]):
                    self._last = record.run, f"the run registry has its {made[0]} files"
            if cursor == self._cursor or not records:
                break
            self._cursor = cursor
        return self._last if fnmatchcase(target, self._targets) else None


class NotedProcessed(SafeRunSource):
    """The last run that the audit log of the conditions database says was processed with the tag."""

    def __init__(self, conditions: ConditionsDB) -> None:
        self._conditions = conditions
        self._found: dict[str, tuple[int, tuple[ExpRun, str] | None]] = {}

    def last_processed(self, target: str) -> tuple[ExpRun, str] | None:
        """The last of the runs noted by ``note_processed``."""
        seen, last = self._found.get(target, (0, None))
        for entry in self._conditions.audit(target, since=seen):
            seen = entry.id
            if entry.action == PROCESSED:
                run = _run_of(entry)
                if last is None or run > last[0]:
                    last = run, f"noted by {entry.author} on {entry.when:%Y-%m-%d %H:%M} UTC"
        self._found[target] = seen, last
        return last


def note_processed(conditions: ConditionsDB, tag: str, run: ExpRun, *, release: Release) -> AuditEntry:
    """Note that data up to this run were processed with the tag; plans that change them are refused from now on."""
    detail = json.dumps({"exp": run.exp, "run": run.run})
    return conditions.note(tag, action=PROCESSED, release=release, detail=detail)


def _run_of(entry: AuditEntry) -> ExpRun:
    try:
        detail = json.loads(entry.detail)
        return ExpRun(detail["exp"], detail["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"line {entry.id} of the audit log of {entry.tag} says that data were processed, but not which ({error!r});"
            " note the run again, and ask the administrator who wrote the line"
        ) from error
