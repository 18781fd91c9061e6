"""The constants that collectors and algorithms read: a chain of local databases, the first that has a payload wins.

Source: basf2 CAF, database chaining; all databases of a chain are local, the global tags are exported beforehand.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from b2cal_caf.calibration import Columns, ConditionsReader
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import read_payload
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun

_KEPT_PAYLOADS = 256
ABSENT = "absent"
"""Stands for the checksum of a payload that a chain does not have."""


class ChainReader(ConditionsReader):
    """Reads payloads from local databases.

    Args:
        databases: directories, the first one has the highest priority.
        allowed: the only payloads that may be asked for, and who said so; by default all.
    """

    def __init__(self, databases: Iterable[Path], allowed: tuple[str, frozenset[str]] | None = None) -> None:
        self.databases = tuple(LocalDatabase(directory) for directory in databases)
        self._allowed = allowed
        self._kept: OrderedDict[Path, Columns] = OrderedDict()

    def columns(self, name: str, run: ExpRun) -> Columns:
        """The payload's columns, which the caller may change."""
        found = self.find(name, run)
        if found is None:
            chain = ", ".join(str(database.directory) for database in self.databases) or "empty"
            msg = f"payload {name} is not in the database chain for {run}; the chain, first match wins, is: {chain}"
            raise DataError(msg)
        if found.file not in self._kept:
            self._kept[found.file] = read_payload(found.file, name)
            if len(self._kept) > _KEPT_PAYLOADS:
                self._kept.popitem(last=False)
        return {column: values.copy() for column, values in self._kept[found.file].items()}

    def has(self, name: str, run: ExpRun) -> bool:
        """Whether a database of the chain has the payload in the run."""
        return self.find(name, run) is not None

    def find(self, name: str, run: ExpRun) -> LocalPayload | None:
        """The payload that ``columns`` would read."""
        if self._allowed is not None and name not in self._allowed[1]:
            declared = ", ".join(sorted(self._allowed[1])) or "none"
            msg = f"{self._allowed[0]} reads payload {name} but declares {declared} in `reads`; add it there"
            raise ConfigurationError(msg)
        return next((found for database in self.databases if (found := database.find(name, run)) is not None), None)


class ChainContent:
    """Identities of the payloads of a chain, by content."""

    def __init__(self, databases: Sequence[Path]) -> None:
        self._reader = ChainReader(databases)
        self._hashes: dict[Path, str] = {}

    def identity(self, names: Iterable[str], run: ExpRun) -> str:
        """A hash of what the names resolve to in the run; equal exactly when the constants are."""
        return constants_identity(self.checksums(names, run))

    def checksums(self, names: Iterable[str], run: ExpRun) -> dict[str, str]:
        """Name to the checksum of what it resolves to in the run, in order; ``absent`` where there is nothing."""
        found = {name: self._reader.find(name, run) for name in sorted(names)}
        return {name: ABSENT if payload is None else self._hash(payload.file) for name, payload in found.items()}

    def _hash(self, file: Path) -> str:
        if file not in self._hashes:
            self._hashes[file] = hashlib.sha256(file.read_bytes()).hexdigest()
        return self._hashes[file]


def constants_identity(checksums: Mapping[str, str]) -> str:
    """A hash of payloads given by name and checksum, in order; equal exactly when the constants are."""
    digest = hashlib.sha256()
    for name, checksum in checksums.items():
        digest.update(f"{name}={checksum}\n".encode())
    return digest.hexdigest()
