from pathlib import Path

import pytest
from caf_workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setenv("SYNTHETIC_DIARY", str(tmp_path / "diary"))
    return Workbench(tmp_path)
