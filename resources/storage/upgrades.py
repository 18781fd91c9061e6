"""Bringing the tables of the registry to the version this program knows, with Alembic."""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from b2cal_core.errors import BackendError
from resources.sql_database import FIRST_REVISION, REVISION, VERSION, SqlDatabase, revision_of

_MIGRATIONS = Path(__file__).parent / "migrations"
_OF_DAGSTER = Table("alembic_version", MetaData(), Column("version_num", String(32)))


def looked_at(url: str) -> SqlDatabase:
    """The registry's database, whatever the version of its tables; none are made."""
    return SqlDatabase(url, MetaData(), what="the registry", any_revision=True)


def dagster_revision(url: str) -> str | None:
    """Which migration Dagster's own tables in a database are of; ``None`` when there are none, and none are made."""
    database = SqlDatabase(url, MetaData(), what="Dagster's record", any_revision=True)
    if database.file is not None and not database.file.exists():
        return None
    with database.reading() as connection:
        if not inspect(connection).has_table(_OF_DAGSTER.name):
            return None
        revision: str | None = connection.scalar(select(_OF_DAGSTER))
        return revision


def upgrade(url: str) -> tuple[str, str] | None:
    """Bring the tables up to date, on SQLite in one transaction, and return their version before and after.

    Make a copy of the database first: the way back is the copy. Nothing else may use the database meanwhile.

    Returns:
        ``None`` when there are no tables yet; they are made, in the newest version, when they are first used.

    Raises:
        BackendError: they are of a version that this program does not know.
    """
    database = looked_at(url)
    if database.revision() is None:
        return None
    with database.changing_tables() as connection, connection.begin():
        before = revision_of(connection) or FIRST_REVISION
        if before != REVISION:
            _migrate(connection, database.address, before)
    return before, REVISION


def _migrate(connection: Connection, address: str, before: str) -> None:
    from alembic import command  # noqa: PLC0415 (takes a while, and only upgrades need it)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        if not inspect(connection).has_table(VERSION.name):
            command.stamp(config, before)  # the first version kept no number
        command.upgrade(config, REVISION)
    except CommandError as error:
        raise BackendError(
            f"the registry {address} has tables of version {before}, which this program does not know ({error}); use"
            " the program that made it. Nothing was changed",
            transient=False,
        ) from error
