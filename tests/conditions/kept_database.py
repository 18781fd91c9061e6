"""An embedded conditions database that can be brought back, as often as wanted, to a state it had before."""

import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from resources.conditions import schema
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB, database_address


class KeptDatabase:
    """An embedded database below ``root``; ``url`` is that of an empty database on a server, or none for SQLite."""

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.root, self.url = root, url
        self.directory = root / "conditions"
        self._kept = root / "kept"
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._restoring: Database | None = None

    def open(self, **options: Any) -> EmbeddedConditionsDB:
        """The database in the hands of a process that just started."""
        conditions = EmbeddedConditionsDB(self.directory, url=self.url, **options)
        if self.url is None:  # processes are killed here, not computers: nothing need be on the disk
            sa.event.listen(conditions.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        return conditions

    def keep(self) -> None:
        """Remember everything in it."""
        shutil.copytree(self.directory, self._kept)
        if self.url:
            self._restoring = Database(sa.make_url(self.url), create=False)
            self._rows = rows_of(self._restoring)

    def restore(self) -> None:
        """Bring everything back to what was kept, ids of rows included."""
        shutil.rmtree(self.directory)
        shutil.copytree(self._kept, self.directory)
        if self._restoring is None:
            return
        with self._restoring.engine.begin() as connection:
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS=0")
            connection.exec_driver_sql(f"TRUNCATE {schema.audit.name}")  # its triggers let no line be deleted
            for table in schema.metadata.sorted_tables:
                connection.execute(sa.delete(table))
            for table in schema.metadata.sorted_tables:
                if rows := self._rows[table.name]:
                    connection.execute(sa.insert(table), rows)
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS=1")

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of all tables."""
        return rows_of(Database(database_address(self.directory, self.url), create=False))

    def payload_files(self) -> list[Path]:
        """What lies in the directory of the payload files, complete or not."""
        below = self.directory / "payloads"
        return sorted(path.relative_to(below) for path in below.rglob("*") if path.is_file())


def rows_of(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, seen in one transaction."""
    with database.read() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in schema.metadata.sorted_tables
        }
