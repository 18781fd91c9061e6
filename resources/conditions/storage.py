"""From testing payload storages, as calibrations leave them, into a tag."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import BackendError, DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import IoV
from resources.conditions.payload_store import content_of


def read_storages(
    databases: Iterable[Path], within: IoV | None = None, *, last_line_wins: bool = False
) -> tuple[LocalPayload, ...]:
    """The lines of all storages; of equal (name, IoV) only the last, clipped to ``within``, by name and start.

    Args:
        databases: text files, or directories with a ``database.txt``.
        within: payloads outside are left out; both ends belong to it.
        last_line_wins: where lines overlap, cut the earlier one down to the runs in which it is read; otherwise they
            are refused.

    Raises:
        DataError: a storage is missing, has a malformed line or lacks a payload file, or two of its lines are valid in
            the same run; everything is read before this is said.
    """
    entries = [entry for database in databases for entry in _entries(database)]
    if last_line_wins:
        entries = _as_read(entries)
    last = {(entry.name, entry.iov): entry for entry in entries}
    clipped = (
        LocalPayload(entry.name, entry.file, iov)
        for entry in last.values()
        if (iov := entry.iov if within is None else entry.iov & within) is not None
    )
    ordered = tuple(sorted(clipped, key=lambda entry: (entry.name, entry.iov)))
    _refuse_overlaps(ordered)
    return ordered


def upload(
    conditions: ConditionsDB,
    tag: str,
    databases: Iterable[Path],
    *,
    within: IoV | None = None,
    names: Iterable[str] = (),
    last_line_wins: bool = False,
) -> tuple[TagIov, ...]:
    """Give an OPEN tag the payloads of testing payload storages, and return its links of their names.

    What the tag had under these names, and under ``names``, is dropped in the same transaction. Asked again with the
    same content, nothing is changed. The other arguments are those of ``read_storages``.

    Raises:
        DataError: as ``read_storages``; nothing was written.
        ConflictError: the tag is not OPEN; nothing was changed in it.
        BackendError: the tag does not have what was uploaded.
    """
    entries = read_storages(databases, within, last_line_wins=last_line_wins)
    links = conditions.replace_iovs(tag, {entry.name for entry in entries} | set(names), entries)
    _verify(conditions, tag, entries=entries, links=links)
    return links


def _entries(database: Path) -> tuple[LocalPayload, ...]:
    storage = LocalDatabase(database)
    if not storage.text_file.exists():
        raise DataError(f"there is no testing payload storage {storage.text_file}; check that the calibration wrote it")
    return storage.entries()


def _as_read(entries: Sequence[LocalPayload]) -> list[LocalPayload]:
    """Lines without overlaps that give a reader what these do: in a merge the highest revision wins, here the line."""
    lines = merge_tags([[TagIov(entry.name, line, entry.iov) for line, entry in enumerate(entries)]])
    return [LocalPayload(line.name, entries[line.revision].file, line.iov) for line in lines]


def _refuse_overlaps(entries: Sequence[LocalPayload]) -> None:
    found = [
        f"{a.name} is valid in {a.iov} ({a.file.parent}) and in {b.iov} ({b.file.parent})"
        for a, b in pairwise(entries)
        if a.name == b.name and a.iov.overlaps(b.iov)
    ]
    if found:
        raise DataError(f"two payloads for one run: {'; '.join(found)}; shorten one of each pair. Nothing was uploaded")


def _verify(conditions: ConditionsDB, tag: str, *, entries: Sequence[LocalPayload], links: Sequence[TagIov]) -> None:
    """Compare what the tag has with the files, by checksum."""
    wanted = {(entry.name, entry.iov): content_of(entry.file).md5 for entry in entries}
    payloads = conditions.find_payloads({(name, md5) for (name, _), md5 in wanted.items()})
    found = {(link.name, link.revision, link.iov) for link in links}
    for (name, iov), md5 in wanted.items():
        payload = payloads.get((name, md5))
        if payload is None or (name, payload.revision, iov) not in found:
            raise BackendError(
                f"tag {tag} does not have payload {name} with MD5 {md5} in {iov} after the upload; upload again",
                transient=True,
            )
