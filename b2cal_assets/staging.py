"""The staging tag of a bucket: filled by calibrations, read by those after them, and the source of what is published.

A calibration must not see what calibrations it does not depend on happen to have staged already, nor its own former
result: what it sees is fixed in an input tag. Its name is made of its content, so equal inputs are one tag, and work
that is started again sees the same constants as before.
"""

import hashlib
from collections.abc import Collection, Sequence

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV

_REOPENED = frozenset({TagState.TESTING, TagState.VALIDATED})


def upload(
    conditions: ConditionsDB, tag: str, payloads: Sequence[LocalPayload], *, replacing: Collection[str]
) -> tuple[TagIov, ...]:
    """Give the staging tag these payloads; what it had of ``replacing`` and of their names is dropped.

    Returns:
        The links of these payloads, by name and start. A tag that has them already is left as it is, in any state.
    """
    names = frozenset(replacing) | {payload.name for payload in payloads}
    stored = conditions.put_payloads([(payload.name, payload.file) for payload in payloads])
    wanted = sorted((made.name, made.revision, local.iov) for local, made in zip(payloads, stored, strict=True))
    _ensure_exists(conditions, tag)
    present = [link for link in conditions.list_iovs(tag) if link.name in names]
    if sorted((link.name, link.revision, link.iov) for link in present) != wanted:
        _reopen(conditions, tag)
        conditions.replace_iovs(tag, names, payloads)
    return links_of(conditions, tag, names)


def link(
    conditions: ConditionsDB, tag: str, links: Sequence[TagIov], *, replacing: Collection[str]
) -> tuple[TagIov, ...]:
    """Like ``upload``, of payloads that the database has; their files are read only where others are replaced."""
    names = frozenset(replacing) | {one.name for one in links}
    _ensure_exists(conditions, tag)
    present = [one.bare for one in links_of(conditions, tag, names)]
    if sorted(present, key=_order) != sorted(links, key=_order):
        _reopen(conditions, tag)
        if present:  # only with files can it be done in one change
            conditions.replace_iovs(tag, names, files_of(conditions, links))
        else:
            conditions.add_iovs(tag, links)
    return links_of(conditions, tag, names)


def files_of(conditions: ConditionsDB, links: Sequence[TagIov]) -> list[LocalPayload]:
    """The linked payloads with their files; ``IntegrityError`` when one is damaged."""
    known = conditions.payloads_of({(one.name, one.revision) for one in links})
    files = {key: conditions.payload_file(payload) for key, payload in known.items()}
    return [LocalPayload(one.name, files[one.name, one.revision], one.iov) for one in links]


def links_of(
    conditions: ConditionsDB, tag: str, names: Collection[str] | None = None, *, within: IoV | None = None
) -> tuple[TagIov, ...]:
    """The tag's links, of some names and runs or of all, by name and start; none when there is no such tag."""
    if conditions.get_tag(tag) is None:
        return ()
    found = (link for link in conditions.list_iovs(tag, within) if names is None or link.name in names)
    return tuple(sorted(found, key=_order))


def content_hash(conditions: ConditionsDB, links: Sequence[TagIov]) -> str:
    """A hash of the payloads' content and IoVs: the same constants give the same hash, whatever their revisions."""
    digest = hashlib.sha256()
    known = conditions.payloads_of({(link.name, link.revision) for link in links})
    for link in sorted(links, key=lambda link: (link.name, link.iov)):
        payload = known.get((link.name, link.revision))
        checksum = "missing" if payload is None else payload.md5
        digest.update(f"{link.name} {checksum} {link.iov}\n".encode())
    return digest.hexdigest()[:32]


def input_tag(conditions: ConditionsDB, staging: str, names: Collection[str]) -> str | None:
    """The tag with what ``staging`` has of these names now; ``None`` when it has nothing of them."""
    links = links_of(conditions, staging, names)
    if not links:
        return None
    name = input_tag_name(staging, content_hash(conditions, links)[:12])
    _ensure_exists(conditions, name, f"what calibrations of {staging} were given")
    tag = conditions.get_tag(name)
    if tag is not None and tag.state is TagState.OPEN:
        conditions.add_iovs(name, [TagIov(link.name, link.revision, link.iov) for link in links])
        _move(conditions, name, TagState.OPEN, TagState.TESTING)
    return name


def input_tag_name(staging: str, content: str) -> str:
    """How the tag is called that holds what calibrations of a staging tag were given."""
    return f"{staging}_in_{content}"


def freeze(conditions: ConditionsDB, tag: str) -> None:
    """Bring a staging tag to VALIDATED, from wherever a former attempt left it."""
    for state, following in ((TagState.OPEN, TagState.TESTING), (TagState.TESTING, TagState.VALIDATED)):
        found = conditions.get_tag(tag)
        if found is not None and found.state is state:
            _move(conditions, tag, state, following)


def ensure_running(conditions: ConditionsDB, tag: str, description: str) -> None:
    """Make the target tag when there is none, and bring it to RUNNING; another state is left for ``plan`` to refuse."""
    _ensure_exists(conditions, tag, description)
    found = conditions.get_tag(tag)
    if found is not None and found.state is TagState.OPEN:
        _move(conditions, tag, TagState.OPEN, TagState.RUNNING)


def _order(link: TagIov) -> tuple[str, IoV, int]:
    return link.name, link.iov, link.revision


def _ensure_exists(conditions: ConditionsDB, tag: str, description: str = "") -> None:
    if conditions.get_tag(tag) is None:
        try:
            conditions.create_tag(tag, description)
        except ConflictError:
            if conditions.get_tag(tag) is None:  # else another step of the bucket was faster, which is as well
                raise


def _reopen(conditions: ConditionsDB, tag: str) -> None:
    found = conditions.get_tag(tag)
    if found is not None and found.state in _REOPENED:
        _move(conditions, tag, found.state, TagState.OPEN)


def _move(conditions: ConditionsDB, tag: str, state: TagState, following: TagState) -> None:
    try:
        conditions.set_state(tag, expected=state, new=following)
    except ConflictError:
        found = conditions.get_tag(tag)
        if found is None or found.state is not following:  # else another step was faster
            raise
