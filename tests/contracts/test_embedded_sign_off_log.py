import sqlite3
from pathlib import Path

import pytest
from sign_off_log_contract import ACCEPTED, SignOffLogContract

from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.signoff.embedded import EmbeddedSignOffLog


class TestEmbeddedSignOffLog(SignOffLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> EmbeddedSignOffLog:
        return EmbeddedSignOffLog(Home(tmp_path).registry_url)


@pytest.mark.parametrize("statement", ["UPDATE reg_decisions SET decision = 'rejected'", "DELETE FROM reg_decisions"])
def test_the_database_itself_refuses_to_change_history(tmp_path: Path, statement: str) -> None:
    home = Home(tmp_path)
    log = EmbeddedSignOffLog(home.registry_url)
    log.record(ACCEPTED)
    connection = sqlite3.connect(home.registry)
    with pytest.raises(sqlite3.DatabaseError, match="only ever appended"):
        connection.execute(statement)
    connection.close()
    assert log.decisions("prompt") == (ACCEPTED,)


def test_log_and_registry_share_one_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    EmbeddedRunRegistry(home.registry_url).runs()
    EmbeddedSignOffLog(home.registry_url).record(ACCEPTED)
    assert EmbeddedRunRegistry(home.registry_url).runs() == ()
    assert EmbeddedSignOffLog(home.registry_url).decisions("prompt") == (ACCEPTED,)
