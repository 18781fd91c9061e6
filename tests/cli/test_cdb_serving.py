import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cli_answers import CommandLine

from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server.tokens import rights_of
from resources.home import Home


@pytest.fixture(autouse=True)
def made(home: Home) -> Home:
    return home.create()


@pytest.fixture
def served(home: Home) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``b2cal cdb serve`` as a process, and the address it names."""
    command = [sys.executable, "-m", "b2cal_cli", "--home", str(home.path), "cdb", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    found = re.search(r"http://\S+/b2s/rest/", process.stdout.readline())
    assert found is not None, process.communicate()[1]
    yield process, found[0]
    process.kill()
    process.communicate()


def test_a_token_lets_its_user_change_the_served_database(b2cal: CommandLine, home: Home, served) -> None:
    process, address = served
    answer = b2cal.ok("cdb", "token", "anna", "--admin", "online", "--json").json
    file = Path(answer["file"])
    assert file.stat().st_mode & 0o777 == 0o600
    headers = {"X-Authorization": f"Bearer {file.read_text().strip()}"}
    for name, status in (("user_anna_1", 200), ("online", 200), ("main", 403)):
        reply = requests.post(
            f"{address}v2/globalTag/DEV", json={"name": name, "description": ""}, headers=headers, timeout=30
        )
        assert reply.status_code == status
    assert {line.author for line in EmbeddedConditionsDB(home.conditions_dir).audit()} == {"anna"}
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "has ended" in errors
    assert "BELLE2_CONDB_SERVERLIST" in errors


def test_a_token_is_shown_only_when_asked_for(b2cal: CommandLine, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "kept" / "token"
    quiet = b2cal.ok("cdb", "token", "anna", "-o", file, "--hours", "2", "--create-iov", "staging_.*")
    token = file.read_text().strip()
    assert token not in quiet.out + quiet.err
    said = b2cal.ok("cdb", "token", "anna", "-o", file, "--show").out
    assert file.read_text().strip() in said
    shown = b2cal.ok("cdb", "token", "bert", "--show", "--json").json
    rights = rights_of((home.conditions_dir / "token-secret").read_text().strip(), shown["token"])
    assert rights.user == "bert"
    assert rights.may_administer("user_bert_1")
    assert not rights.may_administer("user_anna_1")
    assert shown["token"] == (home.path / "tokens" / "bert").read_text().strip()


@pytest.mark.parametrize("words", [("a/b",), ("..",), (" ",), ("anna", "--admin", "("), ("anna", "--hours", "0")])
def test_a_token_for_nobody_or_for_no_tags_is_wrong_usage(b2cal: CommandLine, home: Home, words) -> None:
    assert b2cal("cdb", "token", *words).code == 2
    assert not (home.path / "tokens").exists()


def test_a_secret_that_others_can_read_signs_nothing(b2cal: CommandLine, home: Home) -> None:
    b2cal.ok("cdb", "token", "anna")
    (home.conditions_dir / "token-secret").chmod(0o644)
    answer = b2cal("cdb", "token", "anna")
    assert answer.code == 2
    assert "others may read" in answer.err


def test_a_port_that_is_taken_is_wrong_usage(b2cal: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = b2cal("cdb", "serve", "--port", taken.getsockname()[1])
    assert answer.code == 2
    assert "--port" in answer.err


def test_a_server_of_another_database_is_not_started(b2cal: CommandLine, home: Home) -> None:
    settings = {"conditions": {"kind": "belle2", "server": "http://127.0.0.1:9/b2s/rest"}}
    (home.path / "deployment.yaml").write_text(json.dumps(settings))
    assert b2cal("cdb", "serve", "--port", "0").code == 2
