from pathlib import Path

import pytest
from conditions_contract import ConditionsContract

from resources.conditions.embedded import EmbeddedConditionsDB


class TestEmbedded(ConditionsContract):
    @pytest.fixture
    def conditions(self, tmp_path: Path) -> EmbeddedConditionsDB:
        return EmbeddedConditionsDB(tmp_path / "conditions")
