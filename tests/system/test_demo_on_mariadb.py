"""The demo with everything on a MariaDB that is killed again and again: the very constants of the laptop's defaults."""

import re
from pathlib import Path

import pytest
from batch_demos import ONE_BUCKET
from demo_process import buckets_of, complete_demo, decisions_of, start_demo, tags_of
from servers.mariadb import MariaDBServer

from resources.home import Home

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

LOSSES = ("tz0 running collector", "ecl_energy_merge completed", "publishing, open IoVs closed")
"""The server is killed when the demo says this."""
OF_FILES = {"work", "cache"}
"""What lies below these belongs to files there, and may go with them."""


@pytest.fixture
def home(tmp_path: Path, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose one key puts everything on the server."""
    home = Home(tmp_path / "served" / "home").create().path
    (home / "deployment.yaml").write_text("storage: {database: 'env:B2CAL_STORAGE'}\n")
    monkeypatch.setenv("B2CAL_STORAGE", f"{mariadb.new_database()}&ssl_disabled=true")
    return home


def lose_server(mariadb: MariaDBServer, home: Path, marker: str) -> str:
    """Kill the server when the demo says ``marker``; what the demo, which must fail, says at its end."""
    process = start_demo(home, ONE_BUCKET)
    assert process.stderr is not None
    lines = []
    with process.stderr:
        for line in process.stderr:
            lines.append(line.rstrip())
            if re.search(marker, line):
                mariadb.kill()
    assert process.wait() == 1, "\n".join(lines[-20:])
    return lines[-1]


def test_a_demo_whose_server_is_killed_again_and_again_ends_as_on_the_laptop(
    home: Path, mariadb: MariaDBServer, tmp_path: Path
) -> None:
    for marker in LOSSES:
        said = lose_server(mariadb, home, marker)
        assert re.match(r"b2cal: .*cannot be used.*ask again|b2cal: .*does not answer", said), said
        mariadb.restart()
    answer = complete_demo(home, ONE_BUCKET)
    assert answer["closed"]
    assert [bucket["published"] for bucket in answer["buckets"]] == [True]
    assert complete_demo(home, ONE_BUCKET)["repeated_nothing"]
    laptop = tmp_path / "laptop" / "home"
    complete_demo(laptop, ONE_BUCKET)
    assert tags_of(home) == tags_of(laptop)
    assert buckets_of(home) == buckets_of(laptop)
    assert decisions_of(home) == decisions_of(laptop)
    files = {file.relative_to(home) for pattern in ("*.db", "*.sqlite*") for file in home.rglob(pattern)}
    assert {file.parts[0] for file in files} <= OF_FILES, files
