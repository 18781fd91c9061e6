from pathlib import Path

import pytest
from conditions_contract import ConditionsContract
from servers.mariadb import MariaDBServer

from resources.conditions.embedded import EmbeddedConditionsDB


class TestEmbeddedOnSQLite(ConditionsContract):
    @pytest.fixture
    def conditions(self, tmp_path: Path) -> EmbeddedConditionsDB:
        return EmbeddedConditionsDB(tmp_path / "conditions")


class TestEmbeddedOnMariaDB(ConditionsContract):
    @pytest.fixture
    def conditions(self, tmp_path: Path, mariadb: MariaDBServer) -> EmbeddedConditionsDB:
        return EmbeddedConditionsDB(tmp_path / "conditions", url=mariadb.new_database())
