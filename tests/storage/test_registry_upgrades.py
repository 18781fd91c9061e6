"""A registry of the first version comes to the present one with everything in it."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from servers.mariadb import MariaDBServer

from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from b2cal_core.verdicts import Decision, SignOff
from resources import sql_database
from resources.campaigns import embedded_book
from resources.campaigns.embedded_book import BucketBook
from resources.home import Home
from resources.runs import embedded as embedded_runs
from resources.runs.embedded import EmbeddedRunRegistry
from resources.signoff import embedded as embedded_log
from resources.signoff.embedded import EmbeddedSignOffLog
from resources.storage import upgrades
from resources.storage.migrations.versions import m0001_first_tables as first

OLD_HOME = Path(__file__).parents[1] / "data" / "registry_0001.db"
"""Written by the program when it had the first tables: runs 1 to 3 of experiment 12, a bucket and two decisions."""
ALL = (first.make_runs, first.make_buckets, first.make_decisions)
PARTS = (embedded_runs, embedded_book, embedded_log)


def a_run(run: int, quality: str = "Good") -> RunRecord:
    started = datetime(2026, 3, 1, 12, run, tzinfo=UTC)
    file = DataFile(f"/data/e0012/r{run:05d}/hadron_calib/raw/f.root", "hadron_calib", "raw", 100, 4096, "ab" * 32)
    return RunRecord(ExpRun(12, run), "physics", "4S", "On", frozenset({quality}), started, started, (file,))


def decision(author: str, verdict: Decision, day: int) -> SignOff:
    when = datetime(2026, 3, day, tzinfo=UTC)
    return SignOff("prompt", "e0012r00001-e0012r00002", "CDC Tracking", verdict, author, "größer ☢", "ab" * 32, when)


RUNS = (a_run(1, "Bad For Alignment"), a_run(2), a_run(3))
BUCKET = Bucket(ExpRun(12, 1), ExpRun(12, 2), "first light")
DECISIONS = (decision("mia", Decision.rejected, 5), decision("rule:all_pass", Decision.accepted, 4))


@pytest.fixture
def old_home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    shutil.copy(OLD_HOME, home.registry)
    return home


def made_old(home: Home, *parts: Callable[[], None]) -> None:
    """Tables of the first version, of these parts only: each was made when it was first used."""
    engine = sa.create_engine(home.registry_url)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for make in parts:
            make()
    engine.dispose()


def test_an_old_registry_says_how_it_is_brought_up_to_date_and_is_left_as_it_is(old_home: Home) -> None:
    before = old_home.registry.read_bytes()
    with pytest.raises(BackendError, match=r"0001.*copy.*b2cal storage upgrade") as raised:
        EmbeddedRunRegistry(old_home.registry_url).runs()
    assert not raised.value.transient
    assert old_home.registry.read_bytes() == before


def test_an_upgrade_keeps_everything_and_is_harmless_twice(old_home: Home) -> None:
    url = old_home.registry_url
    assert upgrades.upgrade(url) == ("0001", sql_database.REVISION)
    assert upgrades.upgrade(url) == (sql_database.REVISION, sql_database.REVISION)
    registry = EmbeddedRunRegistry(url)
    assert registry.runs() == RUNS
    assert registry.changes(3) == ((RUNS[0],), 4)  # the first run was changed after the others were registered
    assert registry.add([a_run(4)]) == 1
    assert registry.changes(4) == ((a_run(4),), 5)
    (entry,) = BucketBook(url).entries("prompt")
    assert (entry.bucket, entry.closed_by) == (BUCKET, "mia")
    log = EmbeddedSignOffLog(url)
    assert log.decisions("prompt") == DECISIONS
    log.record(DECISIONS[0])
    assert log.decisions("prompt") == (*DECISIONS, DECISIONS[0])


def test_decisions_cannot_be_changed_after_an_upgrade_either(old_home: Home) -> None:
    upgrades.upgrade(old_home.registry_url)
    engine = sa.create_engine(old_home.registry_url)
    for statement in ("UPDATE reg_decisions SET decision = 'rejected'", "DELETE FROM reg_decisions"):
        with pytest.raises(sa.exc.DBAPIError, match="only ever appended"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.parametrize("parts", [(first.make_runs,), (first.make_buckets,), (first.make_decisions,)])
def test_what_an_old_home_never_used_is_made_when_it_is(tmp_path: Path, parts: tuple[Callable[[], None], ...]) -> None:
    home = Home(tmp_path)
    made_old(home, *parts)
    upgrades.upgrade(home.registry_url)
    assert EmbeddedRunRegistry(home.registry_url).add([a_run(1)]) == 1
    BucketBook(home.registry_url).add("prompt", BUCKET, closed_by="mia")
    EmbeddedSignOffLog(home.registry_url).record(DECISIONS[0])
    assert EmbeddedSignOffLog(home.registry_url).decisions("prompt") == DECISIONS[:1]


def test_a_home_without_a_registry_needs_no_upgrade_and_gets_no_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert upgrades.upgrade(home.registry_url) is None
    assert not home.registry.exists()


def test_an_upgrade_that_breaks_off_leaves_the_old_tables(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made_old(home, *ALL)
    engine = sa.create_engine(home.registry_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER decisions_no_delete")  # the last thing that the upgrade looks for
    with pytest.raises(BackendError, match="decisions_no_delete"):
        upgrades.upgrade(home.registry_url)
    found = sa.inspect(engine).get_table_names()
    engine.dispose()
    assert set(found) == {"runs", "last_run_change", "buckets", "decisions"}


def test_a_registry_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    EmbeddedRunRegistry(home.registry_url).add([a_run(1)])
    engine = sa.create_engine(home.registry_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE reg_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(BackendError, match=r"9999.*newer program"):
        EmbeddedRunRegistry(home.registry_url).runs()
    with pytest.raises(BackendError, match=r"9999.*use the program that made it"):
        upgrades.upgrade(home.registry_url)


def test_the_newest_migration_is_the_version_of_new_tables() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(upgrades.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [sql_database.REVISION]


def test_upgraded_tables_are_those_made_anew(old_home: Home) -> None:
    upgrades.upgrade(old_home.registry_url)
    EmbeddedRunRegistry(old_home.registry_url).runs()  # each part makes what is new of it when it is used
    BucketBook(old_home.registry_url).entries("prompt")
    EmbeddedSignOffLog(old_home.registry_url).decisions("prompt")
    declared = sa.MetaData()
    for part in (*(part._METADATA for part in PARTS), sql_database.OWN_TABLES):
        for table in part.sorted_tables:
            if table is not sql_database.VERSION:  # Alembic does not compare its own
                table.to_metadata(declared)
    engine = sa.create_engine(old_home.registry_url)
    with engine.connect() as connection:
        options = {"version_table": sql_database.VERSION.name, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), declared) == []
    engine.dispose()


SERVED_0002 = """
CREATE TABLE reg_version (version_num VARCHAR(32) PRIMARY KEY);
CREATE TABLE reg_tables (name VARCHAR(64) PRIMARY KEY);
CREATE TABLE reg_decisions (
    id INTEGER AUTO_INCREMENT PRIMARY KEY, campaign VARCHAR(64) NOT NULL, bucket VARCHAR(64) NOT NULL,
    calibration VARCHAR(64) NOT NULL, decision VARCHAR(16) NOT NULL, author VARCHAR(200) NOT NULL, reason TEXT NOT NULL,
    evidence VARCHAR(200) NOT NULL, decided_at VARCHAR(32) NOT NULL,
    INDEX reg_decisions_subject (campaign, bucket, calibration)
);
INSERT INTO reg_decisions VALUES (
    1, 'prompt', 'e0012r00001-e0012r00002', 'CDC Tracking', 'rejected', 'mia', 'größer ☢', REPEAT('ab', 32),
    '2026-03-05T00:00:00.000000+00:00'
);
INSERT INTO reg_tables VALUES ('reg_decisions');
INSERT INTO reg_version VALUES ('0002')
"""
"""The decisions as the first version for servers kept them."""


def test_a_registry_on_mariadb_is_brought_up_to_date_by_the_same_migrations(mariadb: MariaDBServer) -> None:
    url = mariadb.new_database()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in SERVED_0002.split(";"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    with pytest.raises(BackendError, match=r"0002.*b2cal storage upgrade"):
        EmbeddedSignOffLog(url).decisions("prompt")
    assert upgrades.upgrade(url) == ("0002", sql_database.REVISION)
    assert upgrades.upgrade(url) == (sql_database.REVISION, sql_database.REVISION)
    assert EmbeddedSignOffLog(url).decisions("prompt") == DECISIONS[:1]
    EmbeddedSignOffLog(url).record(DECISIONS[1])
    assert EmbeddedSignOffLog(url).decisions("prompt") == DECISIONS
    assert EmbeddedRunRegistry(url).add([a_run(1)]) == 1
