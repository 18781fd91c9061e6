from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.rest_world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty server and a client of it."""
    with new_world(tmp_path) as world:
        yield world
