"""Bringing the tables of a conditions database to the version this program knows, with Alembic."""

from pathlib import Path

import sqlalchemy as sa

from b2cal_core.errors import BackendError
from resources.conditions import schema
from resources.conditions.connections import Database

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(url: sa.URL) -> tuple[str, str]:
    """Bring the tables up to date in one transaction, and return their version before and after.

    Make a copy of the database first: the way back is the copy. Nothing else may use the database meanwhile.

    Raises:
        BackendError: there are no tables, or they are of a version that this program does not know.
    """
    upgraded = upgrade_if_made(url)
    if upgraded is None:
        raise BackendError(
            f"there is no conditions database {url.render_as_string()}; put back a copy of it", transient=False
        )
    return upgraded


def upgrade_if_made(url: sa.URL) -> tuple[str, str] | None:
    """The same, but ``None`` when there are no tables; they are made, in the newest version, when first used."""
    database = Database(url, create=False, any_revision=True)
    if database.stored_revision() is None:
        return None
    with database.upgrade_lock() as connection, connection.begin():
        before = database.revision(connection)
        if before != schema.REVISION:
            _migrate(connection, database, str(before))
    return str(before), schema.REVISION


def _migrate(connection: sa.Connection, database: Database, before: str) -> None:
    from alembic import command  # noqa: PLC0415 (takes a while, and only upgrades need it)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        if not sa.inspect(connection).has_table(schema.version.name):
            command.stamp(config, before)  # the first version wrote its number elsewhere
        command.upgrade(config, schema.REVISION)
    except CommandError as error:
        raise BackendError(
            f"the conditions database {database.address} has tables of version {before}, which this program does not"
            f" know ({error}); use the program that made it. Nothing was changed",
            transient=False,
        ) from error
