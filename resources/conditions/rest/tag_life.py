"""Making, copying and bringing tags from state to state: each a few requests, completed when asked for again."""

import re
from collections.abc import Sequence
from typing import Any

from b2cal_core.errors import BackendError, ConfigurationError, ConflictError
from b2cal_core.payloads import TRANSITIONS, GlobalTag, TagState
from b2cal_core.plans import fingerprint_of
from resources.conditions.rest.connection import Connection
from resources.conditions.rest.shapes import LinkRecord, TagRecord

# From OPEN, through states that each allow the next.
_WAYS: dict[TagState, tuple[TagState, ...]] = {
    TagState.OPEN: (),
    TagState.TESTING: (TagState.TESTING,),
    TagState.VALIDATED: (TagState.TESTING, TagState.VALIDATED),
    TagState.PUBLISHED: (TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED),
    TagState.RUNNING: (TagState.RUNNING,),
    TagState.INVALID: (TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED, TagState.INVALID),
}


def create(connection: Connection, tag: GlobalTag) -> GlobalTag:
    """Make an OPEN tag; one that was begun just so and not ended is taken for it."""
    detail = {"description": tag.description, "type": tag.type}
    name = tag.name
    connection.rights().require_administer(name, "make")
    found = connection.calls.tag(name)
    if found is not None and not (found.tag == tag and connection.journal.unfinished(name, "create_tag") == detail):
        raise ConflictError(f"there is a global tag {name} already; use it, or choose another name")
    if found is None:
        types = connection.calls.tag_types()
        if tag.type not in types:
            raise ConfigurationError(f"a global tag is of the type {' or '.join(types)}, not {tag.type!r}")
        connection.journal.begin(name, "create_tag", detail)
        made = connection.settle(
            lambda: connection.calls.create_tag(name, type=tag.type, description=tag.description, user=connection.user),
            lambda: connection.calls.tag(name),
        )
        _require_same(made.tag, tag)
    connection.journal.end(name, "create_tag", detail)
    return tag


def set_state(connection: Connection, name: str, *, expected: TagState, new: TagState) -> GlobalTag:
    """Bring a tag from one state to another; a change that was begun and shows is only noted."""
    _require_allowed(name, expected, new)
    connection.rights().require_administer(name, f"bring to {new}")
    detail = {"from": expected.value, "to": new.value}
    now = connection.require_tag(name).tag
    if not (now.state is new and connection.journal.unfinished(name, "set_state") == detail):
        if now.state is not expected:
            raise ConflictError(
                f"tag {name} is {now.state}, but must be {expected} before it goes to {new}; nothing was changed"
            )
        connection.journal.begin(name, "set_state", detail)
        now = _bring(connection, name, new)
    connection.journal.end(name, "set_state", detail)
    return now


def clone(connection: Connection, source: str, name: str, *, state: TagState, description: str) -> GlobalTag:
    """Copy a tag. The server names the copy itself; renaming it and bringing it to its state are further requests."""
    connection.rights(8).require_administer(name, "make")
    wanted = {"source": source, "state": state.value, "description": description}
    begun = connection.journal.unfinished(name, "clone_tag")
    resumed = begun if begun is not None and {key: begun.get(key) for key in wanted} == wanted else None
    found = connection.calls.tag(name)
    if found is not None and (resumed is None or found.tag.state not in {TagState.OPEN, *_WAYS[state]}):
        raise ConflictError(f"there is a global tag {name} already; use it, or choose another name")
    if found is None:
        copy, content = _copy(connection, source, name, wanted=wanted, resumed=resumed)
        changes = {"name": name, "description": description}
        connection.settle(lambda: connection.calls.change_tag(copy, changes), lambda: connection.calls.tag(name))
        resumed = {"content": content}
    return _finish_clone(connection, name, wanted=wanted, content=(resumed or {}).get("content"))


def _copy(
    connection: Connection, source: str, name: str, *, wanted: dict[str, Any], resumed: dict[str, Any] | None
) -> tuple[TagRecord, str]:
    """The copy under the name the server gave it, and its content; one that was made before is found again."""
    original = connection.require_tag(source)
    if resumed is not None:
        left = _new_copies(connection, source, resumed["copies"])
        if left:
            return left[0], _content(connection.links(left[0].name))
    before = [record.name for record in _copies(connection, source)]
    if (left_over := f"{original.id}_copy_of_{source}") in before:
        raise ConflictError(
            f"{left_over} was left by a clone of {source} that was broken off; ask for that clone again, or rename the"
            " copy. Nothing was changed"
        )
    content = _content(connection.links(source))
    connection.journal.begin(name, "clone_tag", {**wanted, "copies": before, "content": content})
    copy = connection.settle(
        lambda: connection.calls.clone_tag(original),
        lambda: next(iter(_new_copies(connection, source, before)), None),
    )
    found = _content(connection.links(copy.name))
    if found not in {content, _content(connection.links(source))}:
        raise BackendError(f"{copy.name} is not what {source} is; look at both, then ask again", transient=False)
    return copy, found


def _finish_clone(connection: Connection, name: str, *, wanted: dict[str, Any], content: str | None) -> GlobalTag:
    state = TagState(wanted["state"])
    now = connection.require_tag(name).tag
    way = _WAYS[state]
    for step in way[way.index(now.state) + 1 if now.state in way else 0 :]:
        now = _bring(connection, name, step)
    if now.state is not state or now.description != wanted["description"]:
        raise BackendError(f"the clone {name} is {now.state}, {now.description!r}; report this", transient=False)
    found = _content(connection.links(name))
    if content is not None and found != content:
        raise BackendError(f"the clone {name} has other content than was copied; report this", transient=False)
    detail = {"source": wanted["source"], "state": state.value, "fingerprint": found}
    connection.journal.end(name, "clone_tag", detail)
    return now


def _new_copies(connection: Connection, source: str, before: Sequence[str]) -> list[TagRecord]:
    return [record for record in _copies(connection, source) if record.name not in before]


def _copies(connection: Connection, source: str) -> list[TagRecord]:
    """Tags that have the name the server gives to copies of ``source``, first made first."""
    pattern = re.compile(rf"\d+_copy_of_{re.escape(source)}")
    found = (record for record in connection.calls.tags() if pattern.fullmatch(record.name))
    return sorted(found, key=lambda record: record.id)


def _content(links: Sequence[LinkRecord]) -> str:
    return fingerprint_of(TagState.OPEN, (one.link for one in links))


def _bring(connection: Connection, name: str, new: TagState) -> GlobalTag:
    def look() -> GlobalTag | None:
        tag = connection.require_tag(name).tag
        return tag if tag.state is new else None

    return connection.settle(lambda: connection.calls.set_state(name, new), look)


def _require_allowed(name: str, expected: TagState, new: TagState) -> None:
    if new not in TRANSITIONS[expected]:
        allowed = ", ".join(sorted(TRANSITIONS[expected])) or "no other state"
        raise ConflictError(f"tag {name} is {expected} and may go to {allowed}, not to {new}")


def _require_same(made: GlobalTag, wanted: GlobalTag) -> None:
    if made != wanted:
        raise ConflictError(
            f"global tag {wanted.name} was made by somebody else just now ({made.description!r}); use it"
        )
