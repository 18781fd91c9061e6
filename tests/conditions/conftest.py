from collections.abc import Callable
from pathlib import Path

import pytest
from kept_database import KeptDatabase
from servers.mariadb import MariaDBServer

Open = Callable[[Path], KeptDatabase]


@pytest.fixture(params=["SQLite", "MariaDB"])
def new_database(request: pytest.FixtureRequest) -> Open:
    """Gives a new database below a directory, first on SQLite, then on MariaDB."""
    if request.param == "SQLite":
        return KeptDatabase
    server: MariaDBServer = request.getfixturevalue("mariadb")
    return lambda root: KeptDatabase(root, server.new_database())


@pytest.fixture
def database(new_database: Open, tmp_path: Path) -> KeptDatabase:
    """An empty database in the directory of the test."""
    return new_database(tmp_path)
