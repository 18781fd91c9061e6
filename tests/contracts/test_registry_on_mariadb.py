"""The registry's ports on a real MariaDB: what holds on SQLite holds there too."""

import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from campaign_store_contract import CampaignStoreContract, small_catalogue
from run_registry_contract import RunRegistryContract, a_run
from servers.mariadb import MariaDBServer
from sign_off_log_contract import ACCEPTED, SignOffLogContract

from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError, ConflictError
from b2cal_core.ranges import ExpRun
from resources.campaigns.embedded_book import BucketBook
from resources.campaigns.files import FileCampaignStore
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.signoff.embedded import EmbeddedSignOffLog


@pytest.fixture
def url(mariadb: MariaDBServer) -> str:
    return mariadb.new_database()


class TestRunRegistryOnMariaDB(RunRegistryContract):
    @pytest.fixture
    def registry(self, url: str) -> EmbeddedRunRegistry:
        return EmbeddedRunRegistry(url)


class TestSignOffLogOnMariaDB(SignOffLogContract):
    @pytest.fixture
    def log(self, url: str) -> EmbeddedSignOffLog:
        return EmbeddedSignOffLog(url)


class TestCampaignStoreOnMariaDB(CampaignStoreContract):
    @pytest.fixture
    def store(self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileCampaignStore:
        home = Home(tmp_path / "home").create()
        (home.path / "deployment.yaml").write_text("storage: {database: 'env:STORAGE_OF_TEST'}\n")
        monkeypatch.setenv("STORAGE_OF_TEST", url)
        store = FileCampaignStore(home)
        (tmp_path / "scripts").mkdir()
        store.save_catalogue("r1", small_catalogue(), scripts=tmp_path / "scripts")
        return store


def in_processes(works: list[object]) -> list[int]:
    """The exit codes of processes that each do one of the works at the same time; 3 for a conflict."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except ConflictError:
                code = 3
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_writers_of_several_processes_neither_lose_changes_nor_make_tables_twice(url: str) -> None:
    def register(exp: int) -> None:
        registry = EmbeddedRunRegistry(url)
        assert sum(registry.add([a_run(exp, n)]) for n in range(10)) == 10

    assert in_processes([lambda exp=exp: register(exp) for exp in range(4)]) == [0] * 4
    records, cursor = EmbeddedRunRegistry(url).changes(0)
    assert len(records) == cursor == 40


def test_of_buckets_that_share_runs_one_is_booked_whoever_comes_first(url: str) -> None:
    def book(first: int) -> None:
        BucketBook(url).add("prompt", Bucket(ExpRun(12, first), ExpRun(12, 20)), closed_by="mia")

    codes = in_processes([lambda first=first: book(first) for first in range(1, 6)])
    assert sorted(codes) == [0, 3, 3, 3, 3]
    assert len(BucketBook(url).entries("prompt")) == 1


@pytest.mark.parametrize("statement", ["UPDATE reg_decisions SET decision = 'rejected'", "DELETE FROM reg_decisions"])
def test_the_server_itself_refuses_to_change_decisions(url: str, statement: str) -> None:
    log = EmbeddedSignOffLog(url)
    log.record(ACCEPTED)
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.DBAPIError, match="only ever appended"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
    assert log.decisions("prompt") == (ACCEPTED,)


def test_tables_left_half_made_by_a_killed_process_are_completed(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE reg_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE reg_last_change (id INT PRIMARY KEY, change_number BIGINT NOT NULL)")
    engine.dispose()
    assert EmbeddedRunRegistry(url).add([a_run(12, 1)]) == 1


def test_a_server_that_went_away_is_a_passing_failure_and_nothing_is_lost(url: str, mariadb: MariaDBServer) -> None:
    registry = EmbeddedRunRegistry(url)
    registry.add([a_run(12, 1)])
    mariadb.kill()
    try:
        with pytest.raises(BackendError, match="does not answer; check that it runs, then ask again") as raised:
            registry.add([a_run(12, 2)])
    finally:
        mariadb.restart()
    assert raised.value.transient
    assert registry.runs() == (a_run(12, 1),)
    assert registry.add([a_run(12, 2)]) == 1


def test_a_database_that_does_not_hold_every_text_as_it_is_is_refused(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {engine.url.database} CHARACTER SET latin1")
    engine.dispose()
    with pytest.raises(BackendError, match=r"collation latin1_swedish_ci.*utf8mb4_bin") as raised:
        EmbeddedRunRegistry(url).runs()
    assert not raised.value.transient


def test_a_user_without_rights_is_told_what_to_grant(url: str) -> None:
    address = url.replace("//root@", "//nobody:wrong@")
    with pytest.raises(BackendError, match=r"docs/production\.md") as raised:
        EmbeddedRunRegistry(address).runs()
    assert not raised.value.transient
    assert "wrong" not in str(raised.value)
