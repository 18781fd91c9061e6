"""Dagster's event log of a home, for a process that writes many events: connections are kept.

Dagster's own storage makes an engine, compiles every statement and opens a connection per event and file, which is most
of what a small step costs. Files and tables are Dagster's own, so both may be used on one home, also at the same time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

_BUSY_SECONDS = 5 * 60


class KeptConnectionsEventLog(SqliteEventLogStorage):
    """Keeps one connection per file; for processes that end, since every Dagster run has a file of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 (Dagster's own, handed through)
        self._engines: dict[str, sa.Engine] = {}
        super().__init__(*arguments, **options)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "KeptConnectionsEventLog":
        """The storage that ``dagster.yaml`` or an override asks for; not Dagster's own class."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        with self._db_lock:
            if shard not in self._engines:
                self._engines[shard] = _engine(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(self._engines[shard])
                self._initialized_dbs.add(shard)
            with self._engines[shard].begin() as connection:
                yield connection

    def dispose(self) -> None:
        """Close the files."""
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
        super().dispose()


def _engine(address: str) -> sa.Engine:
    """One connection, lent to one thread at a time."""
    options = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    engine = sa.create_engine(address, poolclass=sa.StaticPool, connect_args=options)
    sa.event.listen(engine, "connect", _spare_the_disk)
    return engine


def _spare_the_disk(connection: Any, _record: object) -> None:  # noqa: ANN401 (the driver's connection)
    """Wait for the disk at checkpoints only: no kill loses an event, and a power cut loses the last ones at most."""
    connection.execute("PRAGMA synchronous=NORMAL")
