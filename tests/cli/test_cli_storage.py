"""One key in the deployment file says where everything is kept, and Dagster's own file follows it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from cli_answers import CommandLine
from servers.mariadb import MariaDBServer

from b2cal_assets.bucket_runs import quiet_instance
from b2cal_assets.instance_settings import SETTINGS, prepare_dagster_home, store_dagster_in
from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.ranges import ExpRun
from resources.campaigns.files import FileCampaignStore
from resources.conditions.deployed import tables_of
from resources.deployment import registry_address
from resources.home import Home
from resources.sql_database import REVISION

OLD_REGISTRY = Path(__file__).parents[1] / "data" / "registry_0001.db"


def deployed(home: Home, **settings: Any) -> Home:
    """The home, made, with these settings."""
    home.create()
    (home.path / "deployment.yaml").write_text(yaml.safe_dump(settings))
    return home


@pytest.fixture
def on_mariadb(home: Home, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A home whose one key names a database of a server; the address."""
    address = f"{mariadb.new_database()}&ssl_disabled=true"
    monkeypatch.setenv("B2CAL_STORAGE", address)
    deployed(home, storage={"database": "env:B2CAL_STORAGE"})
    return address


def dagster_storage(home: Home) -> Any:
    return yaml.safe_load((home.dagster_home / "dagster.yaml").read_text()).get("storage")


def rows(address: str, table: str) -> int:
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one())


def test_one_key_puts_runs_buckets_conditions_and_dagsters_record_into_one_database(
    home: Home, b2cal: CommandLine, on_mariadb: str
) -> None:
    b2cal.ok("cdb", "create", "a")
    b2cal.ok("runs", "simulate", "--count", "2", "--scale", "0.1", "--register")
    FileCampaignStore(home).add_bucket("prompt", Bucket(ExpRun(12, 1), ExpRun(12, 2)), closed_by="mia")
    with quiet_instance(home.dagster_home) as instance:
        instance.add_dynamic_partitions("p", ["x"])
    found = {name: rows(on_mariadb, name) for name in ("cdb_tags", "reg_runs", "reg_buckets", "dynamic_partitions")}
    assert found == {"cdb_tags": 1, "reg_runs": 2, "reg_buckets": 1, "dynamic_partitions": 1}
    assert not list(home.path.rglob("*.db"))
    assert len(b2cal.ok("runs", "list", "--json").json) == 2


def test_the_password_is_in_no_file_of_the_home(home: Home, b2cal: CommandLine, on_mariadb: str) -> None:
    b2cal.ok("cdb", "create", "a")
    assert dagster_storage(home) == {"mysql": {"mysql_url": {"env": "B2CAL_STORAGE"}}}
    for file in home.path.rglob("*"):
        assert not file.is_file() or b"mysql+pymysql" not in file.read_bytes()


def test_the_conditions_may_have_a_database_of_their_own(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2CAL_STORAGE", "mysql+pymysql://b2cal@127.0.0.1/everything")
    other = "mysql+pymysql://b2cal@127.0.0.1/conditions"
    deployed(home, storage={"database": "env:B2CAL_STORAGE"}, conditions={"database": other})
    assert tables_of(home).database == "conditions"
    assert registry_address(home).endswith("/everything")


def test_a_variable_that_is_not_set_is_named(home: Home, b2cal: CommandLine) -> None:
    deployed(home, storage={"database": "env:B2CAL_STORAGE"})
    for command in (("runs", "list"), ("cdb", "tags"), ("up",)):
        answer = b2cal(*command)
        assert answer.code == 1
        assert "B2CAL_STORAGE, which is not set" in answer.err


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("mysql+pymysql://b2cal:secret@host/name", "put it into an environment variable"),
        ("mysql+pymysql://b2cal:secret@host:3306/name?charset=utf8mb4", "put it into an environment variable"),
        ("mysql+mysqlconnector://b2cal:secret@host/name", "must be mysql.pymysql://user@host/name"),
        ("mysql+pymysql://b2cal:secret@host", "must be mysql.pymysql://user@host/name"),
        ("sqlite:////secret/other.db", "must be mysql.pymysql://user@host/name"),
    ],
)
def test_an_address_that_will_not_do_is_refused_and_its_password_not_shown(
    home: Home, b2cal: CommandLine, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    deployed(home, storage={"database": address})
    answer = b2cal("runs", "list")
    assert answer.code == 1
    assert "secret" not in answer.err
    assert says.replace("mysql.pymysql", "mysql+pymysql") in answer.err
    assert "deployment.yaml is wrong: storage" in answer.err


def test_an_address_from_the_environment_is_checked_too(
    home: Home, b2cal: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B2CAL_STORAGE", "postgresql://b2cal:secret@host/name")
    deployed(home, storage={"database": "env:B2CAL_STORAGE"})
    answer = b2cal("runs", "list")
    assert answer.code == 1
    assert "storage.database must be mysql+pymysql://" in answer.err
    assert "env:B2CAL_STORAGE" in answer.err
    assert "secret" not in answer.err


def test_dagsters_file_follows_the_key_and_keeps_what_people_wrote(home: Home) -> None:
    file = prepare_dagster_home(home.dagster_home) / "dagster.yaml"
    file.write_text(before := file.read_text() + "# agreed on Monday\nretention: {}\n")
    store_dagster_in(home.dagster_home, "env:FIRST")
    store_dagster_in(home.dagster_home, "mysql+pymysql://b2cal@host/name")
    assert file.read_text().startswith(before)
    assert dagster_storage(home) == {"mysql": {"mysql_url": "mysql+pymysql://b2cal@host/name"}}
    store_dagster_in(home.dagster_home, None)
    assert file.read_text() == before


def test_without_the_key_dagsters_file_is_as_it_always_was(home: Home, b2cal: CommandLine) -> None:
    home.create()
    b2cal.ok("runs", "list")
    assert not (home.dagster_home / "dagster.yaml").exists()
    assert yaml.safe_load((prepare_dagster_home(home.dagster_home) / "dagster.yaml").read_text()) == SETTINGS


def test_two_answers_to_where_dagster_keeps_its_record_are_refused(home: Home) -> None:
    (prepare_dagster_home(home.dagster_home) / "dagster.yaml").write_text("storage: {sqlite: {base_dir: /somewhere}}\n")
    with pytest.raises(ConfigurationError, match=r"storage where Dagster.*remove one of them"):
        store_dagster_in(home.dagster_home, "env:B2CAL_STORAGE")
    store_dagster_in(home.dagster_home, None)  # what people wrote stands while the key is not set


def test_a_server_that_went_away_with_dagsters_record_is_told(
    home: Home, b2cal: CommandLine, on_mariadb: str, mariadb: MariaDBServer
) -> None:
    b2cal.ok("cdb", "create", "a")

    def add_while_the_server_is_away() -> None:
        with quiet_instance(home.dagster_home) as instance:
            instance.add_dynamic_partitions("p", ["x"])
            mariadb.kill()
            try:
                instance.add_dynamic_partitions("p", ["y"])
            finally:
                mariadb.restart()

    with pytest.raises(BackendError, match=r"Dagster's record cannot be used.*then ask again") as raised:
        add_while_the_server_is_away()
    assert raised.value.transient
    with quiet_instance(home.dagster_home) as instance:
        assert instance.get_dynamic_partitions("p") == ["x"]


def test_an_old_home_is_brought_up_to_date_by_one_command(home: Home, b2cal: CommandLine) -> None:
    shutil.copy(OLD_REGISTRY, home.create().registry)
    b2cal.ok("cdb", "create", "a")
    answer = b2cal("runs", "list")
    assert answer.code == 1
    assert "b2cal storage upgrade" in answer.err
    done = b2cal.ok("storage", "upgrade", "--json").json
    assert done["registry"] == {"before": "0001", "after": REVISION}
    assert done["conditions"]["before"] == done["conditions"]["after"]
    assert done["dagster"] is None
    assert [run["run"] for run in b2cal.ok("runs", "list", "--json").json] == [1, 2, 3]


def test_the_version_of_dagsters_record_is_shown_and_none_is_made_for_it(home: Home, b2cal: CommandLine) -> None:
    home.create()
    assert shown_version(b2cal) is None
    assert not (home.dagster_home / "history").exists()
    with quiet_instance(home.dagster_home) as instance:
        assert instance.get_runs_count() == 0
    before = b2cal.ok("storage", "upgrade", "--json").json["dagster"]["before"]
    assert shown_version(b2cal) == before
    assert before in b2cal.ok("storage", "show").out


def shown_version(b2cal: CommandLine) -> str | None:
    shown = {row["part"]: row["version"] for row in b2cal.ok("storage", "show", "--json").json}
    version: str | None = shown["dagster"]
    return version


def test_everything_on_mariadb_is_brought_up_to_date_by_the_same_command(
    home: Home, b2cal: CommandLine, on_mariadb: str
) -> None:
    assert b2cal.ok("storage", "upgrade", "--json").json["registry"] is None
    b2cal.ok("cdb", "create", "a")
    b2cal.ok("runs", "list")
    done = json.loads(b2cal.ok("storage", "upgrade", "--json").out)
    assert all(step["before"] == step["after"] for step in done.values())
    assert "were of version" in b2cal.ok("storage", "upgrade").out
    assert shown_version(b2cal) == done["dagster"]["after"]
