from collections.abc import Iterator
from pathlib import Path

import pytest
from conditions_contract import ConditionsContract
from servers.rest_world import new_world

from resources.conditions.rest.adapter import RestConditionsDB


class TestRestAgainstOurServer(ConditionsContract):
    @pytest.fixture
    def conditions(self, tmp_path: Path) -> Iterator[RestConditionsDB]:
        with new_world(tmp_path / "world") as world:
            yield world.client
