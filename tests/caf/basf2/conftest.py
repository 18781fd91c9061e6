import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from basf2_workbench import Basf2Workbench, process_ids


@pytest.fixture
def basf2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Basf2Workbench]:
    """A release of named fakes; whatever still works below the test's directory at the end is ended."""
    monkeypatch.setenv("SYNTHETIC_DIARY", str(tmp_path / "diary"))
    yield Basf2Workbench(tmp_path)
    for pid in process_ids(tmp_path):
        os.kill(pid, signal.SIGKILL)
