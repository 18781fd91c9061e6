"""The service with everything on a MariaDB that is killed while a bucket is worked: it goes on by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.mariadb import MariaDBServer
from service_home import Service, prepare_home, running_service

from resources.home import Home

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FIRST_COLLECTED, PUBLISHED = "prompt/caf_svd_time/collector_output", "prompt/published"


@pytest.fixture
def home(tmp_path: Path, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home with the runs of two buckets, on the server."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "deployment.yaml").write_text("storage: {database: 'env:B2CAL_STORAGE'}\n")
    monkeypatch.setenv("B2CAL_STORAGE", f"{mariadb.new_database()}&ssl_disabled=true")
    return prepare_home(directory, runs=6, bucket_runs=3)


def published(service: Service) -> int | None:
    """How many buckets are published, as far as Dagster can read its record."""
    try:
        return service.materialized(PUBLISHED)
    except (AssertionError, OSError):
        return None


def test_buckets_are_published_although_the_server_went_away_in_the_middle(home: Home, mariadb: MariaDBServer) -> None:
    with running_service(home) as service:
        service.wait_until("work", lambda: service.materialized(FIRST_COLLECTED) > 0, seconds=240)
        mariadb.kill()
        service.wait_until("an error on the page", lambda: published(service) is None, seconds=60)
        mariadb.restart()
        service.wait_until("both buckets", lambda: published(service) == 2, seconds=600)
    assert not list(home.dagster_home.rglob("*.db"))
