"""Taking a snapshot of a chain of tags, to be stored with a job that reads them."""

from collections.abc import Sequence

from b2cal_core.errors import ConflictError, DataError
from b2cal_core.ports import ConditionsDB
from b2cal_core.ranges import IoV
from b2cal_core.snapshots import Snapshot, SnapshotLink, SnapshotTag
from resources.conditions.tag_reading import TagReading, read_tag

_EVERYTHING = IoV(0, 0, -1, -1)
_ATTEMPTS = 5


def take_snapshot(conditions: ConditionsDB, chain: Sequence[str], *, within: IoV = _EVERYTHING) -> Snapshot:
    """What the tags of ``chain``, the last with the highest priority, hold at this moment.

    Args:
        conditions: the database with the tags.
        chain: names of tags.
        within: only what is valid in these runs, ends included.

    Raises:
        ConfigurationError: there is no such tag.
        ConflictError: the tags kept changing while they were read.
    """
    for _ in range(_ATTEMPTS):
        try:
            readings = [read_tag(conditions, name, within) for name in chain]
        except ConflictError:
            continue
        # One moment for the whole chain, not one for each tag.
        if all(conditions.fingerprint(reading.tag.name) == reading.fingerprint for reading in readings):
            return Snapshot(tuple(_kept(conditions, reading) for reading in readings), within)
    raise ConflictError(f"the tags {', '.join(chain)} kept changing while a snapshot was taken; ask again")


def _kept(conditions: ConditionsDB, reading: TagReading) -> SnapshotTag:
    payloads = conditions.payloads_of({(link.name, link.revision) for link in reading.links})
    if lost := sorted({(link.name, link.revision) for link in reading.links} - payloads.keys()):
        listed = ", ".join(f"{name} revision {revision}" for name, revision in lost)
        raise DataError(f"tag {reading.tag.name} links payloads the database does not have: {listed}")
    links = (
        SnapshotLink(link.name, link.revision, payloads[link.name, link.revision].md5, link.iov)
        for link in reading.links
    )
    return SnapshotTag(reading.tag.name, reading.fingerprint, tuple(links))
