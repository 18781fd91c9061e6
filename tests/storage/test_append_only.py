"""The logs of the registry: the database refuses whatever would change or remove a line, by any kind of statement."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from servers.mariadb import MariaDBServer

from b2cal_core.campaign_states import CampaignChange, CampaignState, CampaignVersion
from b2cal_core.verdicts import Decision, SignOff
from resources.campaigns.embedded_states import CampaignStates
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog

NOW = datetime(2026, 3, 5, tzinfo=UTC)
DECISION = SignOff("prompt", "e0012r00001-e0012r00002", "A", Decision.rejected, "mia", "hot", "ab" * 32, NOW)
CHANGE = CampaignChange("prompt", CampaignState.paused, "mia", "shutdown", NOW)
VERSION = CampaignVersion("prompt", "mia", "name: prompt  # größer ☢\n", NOW)
FORBIDDEN = (
    "UPDATE {table} SET author = 'eve'",
    "DELETE FROM {table}",
    "REPLACE INTO {table} SELECT * FROM {table}",
)
LOGS = ("reg_decisions", "reg_campaign_states", "reg_campaign_files")
BEFORE = ("reg_decisions_no_replace", "reg_campaign_states_no_update", "reg_campaign_states_no_delete")
"""Triggers that the first homes with these tables did not have."""


def write(url: str) -> None:
    EmbeddedSignOffLog(url).record(DECISION)
    CampaignStates(url).record(CHANGE)
    CampaignStates(url).record_file(VERSION)


def require_as_written(url: str) -> None:
    assert EmbeddedSignOffLog(url).decisions("prompt") == (DECISION,)
    assert CampaignStates(url).changes("prompt") == (CHANGE,)
    assert CampaignStates(url).files("prompt") == (VERSION,)


def require_guarded(engine: sa.Engine) -> None:
    for table in LOGS:
        for statement in FORBIDDEN:
            with pytest.raises(sa.exc.DBAPIError, match="only ever appended"), engine.begin() as connection:
                connection.exec_driver_sql(statement.format(table=table))


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        return Home(tmp_path_factory.mktemp("home")).registry_url
    server: MariaDBServer = request.getfixturevalue("mariadb")
    return server.new_database()


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    write(url)
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


def test_no_line_of_a_log_is_changed_removed_or_replaced(url: str, engine: sa.Engine) -> None:
    require_guarded(engine)
    require_as_written(url)


def test_a_log_of_an_older_home_is_guarded_as_soon_as_it_is_used(url: str, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for trigger in BEFORE:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}")
        connection.exec_driver_sql("DROP TABLE reg_campaign_files")
        connection.exec_driver_sql(
            "DELETE FROM reg_tables WHERE name IN ('reg_decisions_no_replace', 'reg_campaign_files')"
        )
    CampaignStates(url).record_file(VERSION)
    require_as_written(url)
    require_guarded(engine)
    require_as_written(url)
