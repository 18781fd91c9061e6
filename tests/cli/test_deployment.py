"""One file in the home says which conditions database an installation uses."""

from pathlib import Path

import pytest
from cli_answers import CommandLine
from servers.mariadb import MariaDBServer

from b2cal_core.errors import ConfigurationError
from resources.conditions.deployed import open_conditions, open_embedded, tables_of
from resources.deployment import Deployment, from_environment, read_deployment
from resources.home import Home


def test_without_a_file_everything_is_embedded(home: Home) -> None:
    assert read_deployment(home) == Deployment()
    assert tables_of(home).database == str(home.conditions_dir / "conditions.db")


def test_the_commands_work_on_mariadb_when_the_file_says_so(
    home: Home, b2cal: CommandLine, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.create()
    (home.path / "deployment.yaml").write_text("conditions: {database: 'env:CONDITIONS'}\n")
    assert "CONDITIONS, which is not set" in b2cal("cdb", "tags").err
    monkeypatch.setenv("CONDITIONS", mariadb.new_database())
    b2cal.ok("cdb", "create", "a")
    assert [tag["name"] for tag in b2cal.ok("cdb", "tags", "--json").json] == ["a"]
    assert open_conditions(home).get_tag("a") is not None
    assert not (home.conditions_dir / "conditions.db").exists()


@pytest.mark.parametrize(
    "text",
    [
        "conditions: {kind: another}",
        "conditions: {server: 'https://example.org/b2s/rest'}",
        "conditions: {kind: belle2}",
        "conditions: {token_file: /somewhere}",
        "unknown: 1",
        "conditions: [",
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_key(home: Home, b2cal: CommandLine, text: str) -> None:
    home.create()
    (home.path / "deployment.yaml").write_text(text)
    answer = b2cal("cdb", "tags")
    assert answer.code != 0
    assert "deployment.yaml" in answer.err


def test_what_works_on_the_embedded_database_only_says_so(home: Home) -> None:
    home.create()
    (home.path / "deployment.yaml").write_text(
        "conditions: {kind: belle2, server: 'http://127.0.0.1:9/b2s/rest', token_file: /nowhere}"
    )
    with pytest.raises(ConfigurationError, match="embedded one"):
        open_embedded(home)


def test_a_value_comes_from_the_environment_only_where_it_says_so(tmp_path: Path) -> None:
    assert from_environment(str(tmp_path), {}) == str(tmp_path)
    assert from_environment("env:A", {"A": "b"}) == "b"
