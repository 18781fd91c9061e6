"""Global tags as a metadata file that basf2 reads, with the payload files beside it.

Payload files come first, each verified, and the metadata last and in one step: whoever opens the file finds what was
in it before or all that was exported, and every payload of it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.plans import fingerprint_of
from b2cal_core.ports import ConditionsDB
from resources.conditions.payload_directories import keep_file
from resources.conditions.sqlite_file import TagContent
from resources.conditions.sqlite_writer import (
    MetadataSource,
    ServerIds,
    disk_errors,
    refuse_another_server,
    replace_tags,
    rewritten,
)

_ATTEMPTS = 3


def export_sqlite(
    conditions: ConditionsDB,
    tags: Sequence[str],
    file: Path,
    *,
    payloads: Path | None = None,
    base_url: str = "",
    ids: ServerIds | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Path:
    """Put tags into a metadata file, and the payload files they need into a directory; returns the file.

    Tags that the file has already are replaced as a whole, others stay. Payload files that are there are not written
    again. A tag in any state is exported, but basf2 does not read one that is OPEN or INVALID.

    Args:
        conditions: the database the tags are in.
        tags: each is taken as it is at one moment, not all of them at the same one.
        file: made when there is none.
        payloads: gets the payload files in the hashed layout; by default the directory of ``file``.
        base_url: address of the server the tags are from, where basf2 asks for payload files it finds nowhere else;
            blank for a database without one.
        ids: those of the server; needed only when b2conditionsdb is to add tags to the file later.
        on_step: told the name of each step before it is taken, and ``exported``.

    Raises:
        ConfigurationError: a tag is unknown.
        ConflictError: the file has tags of another database, a payload file with other content is in the way, or a tag
            was changed each time it was read.
        DataError: the file cannot be read, or a payload is missing.
        IntegrityError: a payload of the database is damaged.
        BackendError: the disk did not take it.
        All of them leave the file as it was.
    """
    contents = [_content(conditions, tag) for tag in dict.fromkeys(tags)]
    source = MetadataSource(base_url, ids or ServerIds())
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            refuse_another_server(file, contents, source)
            for payload in {key: payload for content in contents for key, payload in content.payloads.items()}.values():
                on_step("payload file")
                keep_file(payload, partial(conditions.payload_file, payload), payloads or file.parent)
            on_step("payload files in place")
            with rewritten(file, on_step) as connection:
                replace_tags(connection, contents, source)
    return file


def _content(conditions: ConditionsDB, name: str) -> TagContent:
    """State and links as they were at one moment, which is what the fingerprint is for."""
    for _ in range(_ATTEMPTS):
        tag = conditions.get_tag(name)
        if tag is None:
            raise ConfigurationError(f"there is no tag {name} to be exported; check its name")
        links = conditions.list_iovs(name)
        if fingerprint_of(tag.state, links) == conditions.fingerprint(name):
            break
    else:
        raise ConflictError(f"tag {name} was changed each time it was read; export it when nobody works on it")
    wanted = {(link.name, link.revision) for link in links}
    payloads = conditions.payloads_of(wanted)
    if missing := sorted(wanted - payloads.keys()):
        listed = ", ".join(f"{payload} revision {revision}" for payload, revision in missing[:5])
        raise DataError(f"tag {name} has payloads that its database does not know: {listed}; the administrator acts")
    return TagContent(name, tag.state.value, links, {key: payloads[key] for key in sorted(wanted)})
