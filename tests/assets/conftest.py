"""Fixtures of the asset tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from asset_fakes import Laboratory
from servers.fake_gitlab import FakeGitLab


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def laboratory(tmp_path: Path, instance: dg.DagsterInstance) -> Any:
    """Makes the laboratory of a test."""

    def make(**choices: Any) -> Laboratory:
        return Laboratory(tmp_path, instance, **choices)

    return make


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitLab]:
    server = FakeGitLab()
    monkeypatch.setenv("GITLAB_TOKEN_OF_THE_TESTS", server.token)
    yield server
    server.stop()
