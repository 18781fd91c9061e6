"""The conditions database that an installation's settings name."""

from collections.abc import Callable

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import ConditionsDB, SafeRunSource
from b2cal_core.rights import Rights
from resources.conditions.book import Book
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB, database_address
from resources.conditions.publisher import Publisher
from resources.conditions.safe_runs import NotedProcessed, RegistryProcessed
from resources.deployment import (
    ConditionsSettings,
    from_environment,
    read_deployment,
    registry_address,
    storage_address,
)
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry


def open_conditions(home: Home, *, user: str = "b2cal") -> ConditionsDB:
    """The database, in the hands of this user."""
    settings = read_deployment(home).conditions
    if settings.kind == "belle2":
        return _belle2(home, settings, user)
    return open_embedded(home, user=user)


def open_publisher(home: Home, conditions: ConditionsDB) -> Publisher:
    """What plans and publishes in the database, guarded as the installation says."""
    guarded = read_deployment(home).publishing
    sources: list[SafeRunSource] = [NotedProcessed(conditions)]
    if guarded.processed_formats:
        registry = EmbeddedRunRegistry(registry_address(home))
        sources.append(RegistryProcessed(registry, guarded.processed_formats, targets=guarded.processed_targets))
    return Publisher(conditions, sources, four_eyes=guarded.four_eyes)


def open_embedded(
    home: Home, *, user: str = "b2cal", on_step: Callable[[str], None] = lambda _step: None
) -> EmbeddedConditionsDB:
    """The embedded database, which tells its steps; ``ConfigurationError`` when the installation uses another."""
    settings = read_deployment(home).conditions
    if settings.kind != "embedded":
        raise ConfigurationError(
            f"this installation uses the conditions database {settings.server}; the command works on the embedded one"
            " only"
        )
    rights = Rights.everything(user)
    return EmbeddedConditionsDB(home.conditions_dir, rights=rights, url=tables_of(home), on_step=on_step)


def tables_of(home: Home) -> sa.URL:
    """Where the tables of an installation's conditions database are."""
    deployment = read_deployment(home)
    settings = deployment.conditions
    database = from_environment(settings.database) if settings.database else storage_address(deployment)
    return sa.make_url(database) if database else tables_in(home)


def tables_in(home: Home) -> sa.URL:
    """Where they are, or were, when no database is named: in the home itself."""
    if read_deployment(home).conditions.kind == "belle2":
        return sa.URL.create("sqlite", database=str(home.conditions_dir / "book.db"))
    return database_address(home.conditions_dir, None)


def _belle2(home: Home, settings: ConditionsSettings, user: str) -> ConditionsDB:
    from resources.conditions.rest.adapter import RestConditionsDB  # noqa: PLC0415 (loaded where it is used)
    from resources.conditions.rest.tokens import TokenFile  # noqa: PLC0415

    return RestConditionsDB(
        str(settings.server),
        book=Book(Database(tables_of(home), create=True), author=user),
        cache=home.cache / "payloads",
        token=TokenFile(settings.token_file) if settings.token_file else None,
        user=user,
        allowed_hosts=settings.allowed_hosts,
    )
