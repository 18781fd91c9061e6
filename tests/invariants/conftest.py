"""The worlds, one for each module of tests and each way to keep conditions."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from backends import RestWorld, new_world
from servers.mariadb import MariaDBServer
from worlds import World


@pytest.fixture(scope="module", params=["sqlite", "mariadb", "rest"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A conditions database, of each kind in turn."""
    yield from _opened(request, tmp_path_factory, request.param)


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def embedded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An embedded conditions database, for what a server of the Belle II kind cannot have."""
    yield from _opened(request, tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def rest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestWorld]:
    """A server with its client, for what happens on the way between them."""
    yield from _opened(request, tmp_path_factory, "rest")


@pytest.fixture(scope="module")
def worlds(mariadb: MariaDBServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, ...]]:
    """All three side by side."""
    with ExitStack() as stack:
        kinds = ("sqlite", "mariadb", "rest")
        yield tuple(stack.enter_context(_world(kind, mariadb, tmp_path_factory)) for kind in kinds)


def _opened(request: pytest.FixtureRequest, directories: pytest.TempPathFactory, kind: str) -> Iterator[Any]:
    server = request.getfixturevalue("mariadb") if kind == "mariadb" else None
    with _world(kind, server, directories) as made:
        yield made


@contextmanager
def _world(kind: str, server: MariaDBServer | None, directories: pytest.TempPathFactory) -> Iterator[World]:
    url = server.new_database() if server is not None and kind == "mariadb" else None
    made = new_world(kind, directories.mktemp(kind), url)
    try:
        yield made
    finally:
        made.close()
