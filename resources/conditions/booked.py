"""What conditions databases share whose audit log, provenance and leases are kept in a ``Book``."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import AuditEntry, Lease, Release, TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.provenance import PayloadKey, Provenance
from b2cal_core.rights import Rights
from resources.conditions.book import Book

SERVED = frozenset(TagState) - {TagState.INVALID}
"""States in which a tag may be read; OPEN is among them because calibrations read what is staged for their bucket."""


def check_served(states: frozenset[TagState]) -> frozenset[TagState]:
    """The states, when INVALID is not among them; else ``ConfigurationError``."""
    if TagState.INVALID in states:
        raise ConfigurationError("a tag that is INVALID is never served; leave INVALID out of the served states")
    return states


class BookedConditionsDB(ConditionsDB):
    """The half of the port that is the same wherever the tags are."""

    _book: Book

    @abstractmethod
    def _rights_now(self) -> Rights:
        """What the user may do at this moment; ``RightsError`` when the user has not shown who they are."""

    def lease(self, tag: str, *, holder: str, seconds: float) -> Lease:
        """Take or prolong the lease of a tag, which those heed who change it through our tables."""
        self._rights_now().require_fill(tag, "change")
        return self._book.lease(tag, holder=holder, seconds=seconds)

    def end_lease(self, lease: Lease) -> None:
        """Give a lease back."""
        self._book.end_lease(lease)

    def record_provenance(self, records: Mapping[PayloadKey, Provenance], *, author: str) -> None:
        """Keep where payloads come from."""
        self._book.record_provenance(records, author=author)

    def provenance(self, wanted: Iterable[PayloadKey]) -> Mapping[PayloadKey, Provenance]:
        """(name, md5) to the last record, for those that have one."""
        return self._book.provenance(wanted)

    def note(self, tag: str, *, action: str, release: Release, detail: str, plan_hash: str | None = None) -> AuditEntry:
        """Append a line to the audit log that changes nothing else."""
        return self._book.note(tag, action=action, release=release, detail=detail, plan_hash=plan_hash)

    def audit(self, tag: str | None = None, *, since: int = 0) -> tuple[AuditEntry, ...]:
        """The log of what was done through our tables, or its lines about one tag, oldest first."""
        return self._book.audit(tag, since=since)
