"""What a look-up and a publish ask of a large tag is answered by an index, whichever statement of theirs it is."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from servers.mariadb import MariaDBServer

from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server import lookups

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
GROWING = {"cdb_iovs", "earlier", "cdb_past_iovs", "cdb_payloads", "cdb_provenance", "cdb_records", "cdb_audit"}
IOVS = 20_000
FEW = 1000
"""Rows of one table that a statement about 100 payloads may read."""


@pytest.fixture(scope="module")
def benchmark_module() -> Iterator[Callable[[str], Any]]:
    """Imports modules of the benchmark, which lie outside of any package."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(params=["sqlite", "mariadb"])
def conditions(request: pytest.FixtureRequest, tmp_path: Path, benchmark_module: Any) -> EmbeddedConditionsDB:
    """A database with a large tag ``online``."""
    server: MariaDBServer | None = request.getfixturevalue("mariadb") if request.param == "mariadb" else None
    made = EmbeddedConditionsDB(tmp_path / "conditions", url=server.new_database() if server else None)
    big_tags = benchmark_module("big_tags")
    big_tags.fill(made, big_tags.BigTag("online", IOVS))
    return made


def asked(engine: sa.Engine, work: Callable[[], object]) -> dict[str, Any]:
    """The statements that ``work`` asks, each with its values the first time."""
    found: dict[str, Any] = {}

    def note(_connection: object, _cursor: object, text: str, values: Any, _context: object, many: bool) -> None:  # noqa: FBT001 (SQLAlchemy's event)
        if not re.match(r"BEGIN|INSERT INTO \w+ \([^)]*\) VALUES|SET ", text):
            found.setdefault(text, values[0] if many else values)

    sa.event.listen(engine, "before_cursor_execute", note)
    work()
    sa.event.remove(engine, "before_cursor_execute", note)
    return found


def read_through(conditions: EmbeddedConditionsDB, text: str, values: Any) -> set[str]:
    """The growing tables that a statement reads as a whole, or large parts of."""
    with conditions.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            details = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            return {name for line in details for name in GROWING if re.match(rf"SCAN {name}\b", line)}
        rows = connection.exec_driver_sql(f"EXPLAIN {text}", values).mappings().all()
        return {row["table"] for row in rows if row["table"] in GROWING and int(row["rows"] or 0) > FEW}


def plans(conditions: EmbeddedConditionsDB, statements: dict[str, Any]) -> str:
    """How SQLite would go about the statements; nothing on another database."""
    with conditions.engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            return ""
        explained = (connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", statements[text]) for text in statements)
        return "\n".join(row[3] for rows in explained for row in rows)


def test_no_look_up_reads_through_a_table(conditions: EmbeddedConditionsDB) -> None:
    def look() -> None:
        for run in (ExpRun(1, 0), ExpRun(1, 100), ExpRun(7, 0)):
            conditions.resolve(["online"], run)
            with conditions.database.read() as connection:
                lookups.valid_in(connection, "online", run, "http://localhost/")

    statements = asked(conditions.engine, look)
    assert any("cdb_iovs" in text for text in statements)
    assert "cdb_iovs_stop" not in plans(conditions, statements)  # by which all that ends later is read
    assert {text: read for text, values in statements.items() if (read := read_through(conditions, text, values))} == {}


def test_no_step_of_a_publish_reads_through_a_table(
    conditions: EmbeddedConditionsDB, benchmark_module: Any, tmp_path: Path
) -> None:
    figures, big_tags, publishing = map(benchmark_module, ("figures", "big_tags", "publishing"))
    tag = big_tags.BigTag("online", IOVS)

    def publish() -> None:
        subject = figures.Subject("any", IOVS)
        publishing.publishes(conditions, tag, subject, tmp_path / "files", payloads=200)

    statements = asked(conditions.engine, publish)
    assert {"SELECT", "UPDATE"} <= {text.split()[0] for text in statements}
    assert len(conditions.list_iovs("online", IoV(*tag.run(tag.runs), -1, -1))) == 200
    assert {text: read for text, values in statements.items() if (read := read_through(conditions, text, values))} == {}
