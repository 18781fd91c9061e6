"""Databases of former versions come to the present one with everything in them."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from servers.mariadb import MariaDBServer

from b2cal_core.errors import BackendError
from b2cal_core.payloads import LocalPayload, TagState, broken_link
from b2cal_core.plans import fingerprint_of
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import schema, upgrades
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB, database_address
from resources.conditions.migrations.versions import m0001_first_tables

ROWS = (
    "INSERT INTO tags VALUES (4, 'online', 'RUNNING', 'DEV', 'constants'), (7, 'empty', 'OPEN', 'DEV', '')",
    "INSERT INTO names VALUES (1, 'p', 2)",
    "INSERT INTO payloads VALUES (1, 1, 1, '{md5a}', '{a}', 1, '2025-01-01', 'anna')",
    "INSERT INTO payloads VALUES (2, 1, 2, '{md5b}', '{b}', 1, '2025-01-01', 'anna')",
    "INSERT INTO tag_names VALUES (4, 1, 1)",
    "INSERT INTO iovs VALUES (11, 4, 1, 0, 4294967296, 1)",
    "INSERT INTO iovs VALUES (12, 4, 1, 4294967296, 9223372036854775807, 2)",
    "INSERT INTO audit VALUES (1, '2025-01-01T00:00:00+00:00', 'anna', 'create_tag', 'online', '{{}}', '', NULL)",
    "INSERT INTO audit VALUES (2, '2025-01-02T00:00:00+00:00', 'bert', 'apply', 'online', '{{}}', 'x', 'abc')",
)


@pytest.fixture
def old_home(tmp_path: Path) -> Path:
    """The directory of a database as the first version left it: two payloads, one RUNNING tag."""
    directory = tmp_path / "conditions"
    scratch = EmbeddedConditionsDB(tmp_path / "scratch")
    for text in "ab":
        (tmp_path / text).write_text(text)
    stored = scratch.put_payloads([("p", tmp_path / text) for text in "ab"])
    (tmp_path / "scratch" / "payloads").rename(directory.with_name("payloads"))
    directory.mkdir()
    directory.with_name("payloads").rename(directory / "payloads")
    engine = sa.create_engine(database_address(directory, None))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        with context.begin_transaction(), _operations(context):
            m0001_first_tables.upgrade()
        sums = {"a": stored[0].sha256, "b": stored[1].sha256, "md5a": stored[0].md5, "md5b": stored[1].md5}
        for row in ROWS:
            connection.exec_driver_sql(row.format(**sums))
    engine.dispose()
    return directory


def _operations(context: MigrationContext) -> object:
    from alembic.operations import Operations  # noqa: PLC0415 (a context in which `op` works outside Alembic)

    return Operations.context(context)


def test_an_old_database_says_how_it_is_brought_up_to_date(old_home: Path) -> None:
    with pytest.raises(BackendError, match=r"0001.*b2cal cdb upgrade"):
        EmbeddedConditionsDB(old_home)


def test_an_upgrade_keeps_everything_and_is_harmless_twice(old_home: Path, tmp_path: Path) -> None:
    address = database_address(old_home, None)
    assert upgrades.upgrade(address) == ("0001", schema.REVISION)
    assert upgrades.upgrade(address) == (schema.REVISION, schema.REVISION)
    conditions = EmbeddedConditionsDB(old_home)
    links = (TagIov("p", 1, IoV(0, 0, 1, -1), id=11), TagIov("p", 2, IoV(2, 0, -1, -1), id=12))
    assert conditions.list_iovs("online") == links
    assert conditions.fingerprint("online") == fingerprint_of(TagState.RUNNING, links)
    found = conditions.resolve(["online"], ExpRun(3, 1))["p"]
    assert conditions.payload_file(found.payload).read_text() == "b"
    log = conditions.audit()
    assert [entry.action for entry in log] == ["create_tag", "apply", "upgrade"]
    assert broken_link(log) is None
    conditions.replace_iovs("empty", ["p"], [LocalPayload("p", tmp_path / "a", IoV(0, 0, -1, -1))])
    assert conditions.list_iovs("online", as_of=log[-1].id) == links


def test_an_upgrade_that_breaks_off_leaves_the_old_tables(old_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = database_address(old_home, None)
    with sa.create_engine(address).begin() as connection:
        connection.exec_driver_sql("UPDATE tags SET state='NONSENSE' WHERE id=7")
    with pytest.raises(ValueError, match="NONSENSE"):
        upgrades.upgrade(address)
    found = sa.inspect(sa.create_engine(address)).get_table_names()
    assert "iovs" in found
    assert not [name for name in found if name.startswith("cdb_")]


def test_tables_from_the_future_are_left_alone(tmp_path: Path) -> None:
    EmbeddedConditionsDB(tmp_path)
    address = database_address(tmp_path, None)
    with sa.create_engine(address).begin() as connection:
        connection.exec_driver_sql("UPDATE cdb_version SET version_num='9999'")
    with pytest.raises(BackendError, match="9999"):
        upgrades.upgrade(address)
    with pytest.raises(BackendError, match="9999"):
        EmbeddedConditionsDB(tmp_path)


def test_the_newest_migration_is_the_version_of_new_tables() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(upgrades.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


def test_migrated_tables_are_those_made_anew(old_home: Path) -> None:
    upgrades.upgrade(database_address(old_home, None))
    with sa.create_engine(database_address(old_home, None)).connect() as connection:
        options = {"version_table": schema.version.name, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), _without_version()) == []


def test_new_tables_on_mariadb_are_as_declared(tmp_path: Path, mariadb: MariaDBServer) -> None:
    database = Database(sa.make_url(mariadb.new_database()), create=True)
    with database.read() as connection:
        options = {"version_table": schema.version.name, "compare_type": False}  # long texts have their own name there
        assert compare_metadata(MigrationContext.configure(connection, opts=options), _without_version()) == []


def _without_version() -> sa.MetaData:
    """What Alembic compares: its own table of versions is not among them."""
    metadata = sa.MetaData()
    for table in schema.metadata.sorted_tables:
        if table is not schema.version:
            table.to_metadata(metadata)
    return metadata
