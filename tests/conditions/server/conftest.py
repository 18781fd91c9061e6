"""A conditions server in its own process for the tests of this folder, on either database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from belle2_client import Belle2Client
from servers.conditions_server import ConditionsServer


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("mariadb").new_database()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, url: str | None) -> Path:
    """Of the database, one for each kind; the tables are in it or at ``url``."""
    return tmp_path_factory.mktemp("conditions") / "database"


@pytest.fixture(scope="module")
def server(directory: Path, url: str | None) -> Iterator[ConditionsServer]:
    running = ConditionsServer(directory, url)
    yield running
    running.stop()


@pytest.fixture
def client(server: ConditionsServer) -> Iterator[Belle2Client]:
    """A client that may do everything."""
    made = Belle2Client(server.url, server.token())
    yield made
    made.session.close()
