"""Tables that are only ever appended to: the database itself refuses to change, replace or remove a row."""

from collections.abc import Callable

from sqlalchemy import Table

_EVERY_ROW = {"update": "BEFORE UPDATE ON {table}", "delete": "BEFORE DELETE ON {table}"}
# SQLite removes the row that INSERT OR REPLACE collides with, and asks no trigger; MariaDB asks one of the above.
_ON_SQLITE = {"replace": "BEFORE INSERT ON {table} WHEN NEW.id IN (SELECT id FROM {table})"}


def refusing_changes(refusal: str, *tables: Table) -> Callable[[str], tuple[str, ...]]:
    """The statements that make triggers against changes, by the name of a dialect; each is safe to repeat.

    Args:
        refusal: what somebody is told who tries, without quotes, at most 128 characters.
        tables: each with a primary key ``id`` of its own.
    """

    def statements(dialect: str) -> tuple[str, ...]:
        events = _EVERY_ROW | (_ON_SQLITE if dialect == "sqlite" else {})
        return tuple(
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{what} {event.format(table=table)} {_action(dialect, refusal)}"
            for table in tables
            for what, event in events.items()
        )

    return statements


def _action(dialect: str, refusal: str) -> str:
    if dialect == "sqlite":
        return f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
    return f"FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{refusal}'"
