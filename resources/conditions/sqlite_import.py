"""Taking global tags over from a metadata file of basf2's and the payload files that belong to it.

Everything is read and checked before anything is written. The database gives the payloads its own revisions; what a
reader gets in a run, to the byte, is what the file says.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from b2cal_core.errors import (
    BackendError,
    CalibrationError,
    ConfigurationError,
    ConflictError,
    DataError,
    IntegrityError,
    in_short,
)
from b2cal_core.payloads import TRANSITIONS, GlobalTag, Payload, TagState, check_tag_name
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.payload_directories import find_file
from resources.conditions.sqlite_file import PayloadRevision, SqliteMetadata, TagContent


class Overlaps(StrEnum):
    """What is done with two payloads of one name in a run, of which basf2 reads the one with the highest revision.

    ``refuse`` imports nothing; ``settle`` leaves the payload that is read only; ``keep`` takes them over as they are,
    which the embedded database alone can do.
    """

    refuse = "refuse"
    settle = "settle"
    keep = "keep"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A tag to be: its name, its content with the revisions of the file, and the states it goes through, OPEN first."""

    name: str
    content: TagContent
    path: tuple[TagState, ...]

    @property
    def links(self) -> set[tuple[str, str, IoV]]:
        """Name, MD5 and IoV of the links, which do not depend on who numbers the revisions."""
        payloads = self.content.payloads
        return {(link.name, payloads[link.name, link.revision].md5, link.iov) for link in self.content.iovs}


def import_sqlite(
    conditions: ConditionsDB,
    file: Path,
    payload_dirs: Sequence[Path],
    *,
    tags: Sequence[str] | None = None,
    prefix: str = "",
    with_states: bool = False,
    overlaps: Overlaps = Overlaps.refuse,
) -> tuple[GlobalTag, ...]:
    """Take tags over from a metadata file, and return them; asked again, it completes what was broken off.

    Args:
        conditions: the database that gets the tags.
        file: the metadata file.
        payload_dirs: where the payload files are looked for, hashed before flat in each, in this order.
        tags: by default all of the file.
        prefix: put before the name of every tag.
        with_states: bring each tag to the state it has in the file; otherwise they stay OPEN.
        overlaps: what is done where two payloads of one name are valid in a run.

    Raises:
        ConfigurationError: a tag is not in the file, or the database cannot keep overlaps.
        ConflictError: a tag of that name has other content or is in another state.
        DataError: the file or a payload file is missing or damaged, or there are overlaps.
        IntegrityError: a payload file has another MD5.
        All of these come before anything is written.
    """
    with SqliteMetadata(file) as metadata:
        metadata.check()
        chosen = [tag.name for tag in metadata.tags()] if tags is None else list(dict.fromkeys(tags))
        contents = [metadata.content(tag) for tag in chosen]
    if overlaps is Overlaps.settle:
        contents = [_settled(content) for content in contents]
    elif overlaps is Overlaps.refuse or not isinstance(conditions, EmbeddedConditionsDB):
        _refuse_overlaps(contents, overlaps)
    wanted = [
        _Wanted(check_tag_name(prefix + content.name), content, _path(content) if with_states else (TagState.OPEN,))
        for content in contents
    ]
    missing = [tag for tag in wanted if not _is_present(conditions, tag)]
    files = _found_files({key: p for tag in missing for key, p in tag.content.payloads.items()}, payload_dirs)
    stored = _stored(conditions, files)
    for tag, links in [(tag, _links(tag, stored)) for tag in missing]:
        _fill(conditions, tag, links, overlaps)
    return tuple(_brought_to_state(conditions, tag) for tag in wanted)


def _settled(content: TagContent) -> TagContent:
    """The tag with one payload per name and run, and without those that are never read."""
    links = merge_tags([content.iovs])
    payloads = {(link.name, link.revision): content.payloads[link.name, link.revision] for link in links}
    return replace(content, iovs=links, payloads=payloads)


def _refuse_overlaps(contents: Iterable[TagContent], overlaps: Overlaps) -> None:
    found = [
        f"in tag {content.name}, {a.name} has revisions {a.revision} in {a.iov} and {b.revision} in {b.iov}"
        for content in contents
        for a, b in _overlapping(content.iovs)
    ]
    if not found:
        return
    listed = in_short(found)
    if overlaps is Overlaps.keep:
        raise ConfigurationError(f"this database does not keep overlaps ({listed}); settle them. Nothing was imported")
    raise DataError(f"two payloads in one run: {listed}; import with overlaps settled or kept. Nothing was imported")


def _overlapping(links: Iterable[TagIov]) -> Iterator[tuple[TagIov, TagIov]]:
    """Pairs of links of one name that share a run."""
    before: list[TagIov] = []
    for link in sorted(links, key=lambda link: (link.name, link.iov)):
        before = [other for other in before if other.name == link.name and other.iov.stop > link.iov.start]
        yield from ((other, link) for other in before)
        before.append(link)


def _path(content: TagContent) -> tuple[TagState, ...]:
    """The shortest way from OPEN to the state of the tag."""
    try:
        final = TagState(content.status)
    except ValueError as error:
        known = ", ".join(TagState)
        raise DataError(
            f"tag {content.name} is {content.status!r} in the file, which is none of {known}; import it without states"
        ) from error
    paths: dict[TagState, tuple[TagState, ...]] = {TagState.OPEN: (TagState.OPEN,)}
    waiting = deque(paths)
    while final not in paths:
        here = waiting.popleft()
        further = sorted(TRANSITIONS[here] - paths.keys())
        paths |= {new: (*paths[here], new) for new in further}
        waiting += further
    return paths[final]


def _is_present(conditions: ConditionsDB, tag: _Wanted) -> bool:
    """Whether the tag has the content already; ``ConflictError`` when it cannot get it."""
    known = conditions.get_tag(tag.name)
    if known is None:
        return False
    links = conditions.list_iovs(tag.name)
    payloads = conditions.payloads_of({(link.name, link.revision) for link in links})
    present = {(link.name, payloads[link.name, link.revision].md5, link.iov) for link in links}
    if known.state in tag.path and present == tag.links:
        return True
    if known.state is TagState.OPEN and present < tag.links:
        return False
    raise ConflictError(
        f"there is a tag {tag.name}, {known.state} and with other content than in the file or in a later state; import"
        " with a prefix. Nothing was imported"
    )


def _found_files(
    payloads: Mapping[PayloadRevision, Payload], directories: Sequence[Path]
) -> dict[PayloadRevision, tuple[Payload, Path]]:
    """The payloads with their files, by name and revision; all that are not found are named together."""
    found: dict[PayloadRevision, tuple[Payload, Path]] = {}
    failures: list[CalibrationError] = []
    for key in sorted(payloads):
        try:
            found[key] = payloads[key], find_file(payloads[key], directories)
        except (DataError, IntegrityError) as error:
            failures.append(error)
    if failures:
        kind = IntegrityError if any(isinstance(error, IntegrityError) for error in failures) else DataError
        raise kind(f"{in_short(list(map(str, failures)))}. Nothing was imported")
    return found


def _stored(
    conditions: ConditionsDB, files: Mapping[PayloadRevision, tuple[Payload, Path]]
) -> dict[PayloadRevision, Payload]:
    """What the database has for each payload of the file; stored in the order of the file's revisions."""
    stored = conditions.put_payloads([(payload.name, path) for payload, path in files.values()])
    for own, (payload, path) in zip(stored, files.values(), strict=True):
        if own.md5 != payload.md5:
            raise IntegrityError(f"{path} was changed while it was imported; get it again, then import again")
    return dict(zip(files, stored, strict=True))


def _links(tag: _Wanted, stored: Mapping[PayloadRevision, Payload]) -> list[TagIov]:
    """The links with the database's own revisions; where two overlap, the same one must win."""
    for a, b in _overlapping(tag.content.iovs):
        own = stored[a.name, a.revision].revision, stored[b.name, b.revision].revision
        if own[0] != own[1] and (a.revision < b.revision) != (own[0] < own[1]):
            raise ConflictError(
                f"{a.name} revisions {a.revision} and {b.revision} overlap in tag {tag.name}, and are {own[0]} and"
                f" {own[1]} here, so that the other one would be read; settle overlaps instead of keeping them"
            )
    return [replace(link, revision=stored[link.name, link.revision].revision) for link in tag.content.iovs]


def _fill(conditions: ConditionsDB, tag: _Wanted, links: Sequence[TagIov], overlaps: Overlaps) -> None:
    if conditions.get_tag(tag.name) is None:
        conditions.create_tag(tag.name)
    if overlaps is Overlaps.keep and isinstance(conditions, EmbeddedConditionsDB):
        conditions.add_iovs(tag.name, links, allow_overlaps=True)
    else:
        conditions.add_iovs(tag.name, links)
    if not _is_present(conditions, tag):
        raise BackendError(
            f"tag {tag.name} does not have all of its content after the import; import again", transient=True
        )


def _brought_to_state(conditions: ConditionsDB, tag: _Wanted) -> GlobalTag:
    known = conditions.get_tag(tag.name)
    if known is None:
        raise BackendError(f"tag {tag.name} is gone after the import; import again", transient=True)
    for expected, new in pairwise(tag.path[tag.path.index(known.state) :]):
        known = conditions.set_state(tag.name, expected=expected, new=new)
    return known
