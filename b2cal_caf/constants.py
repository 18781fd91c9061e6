"""The constants a request starts from: global tags of a conditions database, or testing payload storages on disk.

In a chain the last entry has the highest priority; whatever the order, storages on disk come before all tags.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from b2cal_caf.local_database import TEXT_FILE
from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import ConditionsDB
from b2cal_core.ranges import IoV


class ConstantsSource:
    """Turns a database chain into local databases.

    Args:
        conditions: where the tags are; without it a chain may hold storages on disk only.
    """

    def __init__(self, conditions: ConditionsDB | None) -> None:
        self._conditions = conditions

    def identity(self, chain: Sequence[str], *, within: IoV) -> str:
        """A hash of what the chain holds in the IoV; how tags are called does not count, only their order."""
        local, tags = _sorted_out(chain)
        digest = hashlib.sha256()
        for storage in local:
            digest.update(b"storage\n" + (storage / TEXT_FILE).read_bytes())
        for tag in tags:
            links = self._tags(tag).list_iovs(tag, within)
            lines = sorted(f"{link.name} {link.revision} {link.iov}" for link in links)
            digest.update("\n".join(["tag", *lines]).encode())
        return digest.hexdigest()

    def provide(self, chain: Sequence[str], directory: Path, *, within: IoV) -> tuple[Path, ...]:
        """The local databases of the chain, the first has the highest priority; the tags are exported once, as one."""
        local, tags = _sorted_out(chain)
        if not tags:
            return tuple(reversed(local))
        if not (directory / TEXT_FILE).exists():
            part = directory.with_name(f".{directory.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            for tag in tags:
                self._tags(tag)
            self._tags(tags[0]).export(tags, part, within=within)
            shutil.rmtree(directory, ignore_errors=True)
            part.replace(directory)
        return *reversed(local), directory

    def _tags(self, tag: str) -> ConditionsDB:
        if self._conditions is None:
            msg = (
                f"database_chain names {tag!r}, which is no directory with a {TEXT_FILE}, and there is no conditions "
                "database to look for a global tag in; give a path or start from an installation with one"
            )
            raise ConfigurationError(msg)
        if self._conditions.get_tag(tag) is None:
            msg = f"database_chain names the global tag {tag!r}, which the conditions database does not have"
            raise ConfigurationError(msg)
        return self._conditions


def _sorted_out(chain: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Storages on disk and global tags, in the order of the chain."""
    local: list[Path] = []
    tags: list[str] = []
    for entry in chain:
        path = Path(entry).parent if Path(entry).name == TEXT_FILE else Path(entry)
        if (path / TEXT_FILE).is_file():
            local.append(path.resolve())
        else:
            tags.append(entry)
    return local, tags
