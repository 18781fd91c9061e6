"""Publishing sets of 100 payloads with all checks, beside the bare SQL that writes as many rows of the same tables."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from big_tags import NAMES, BigTag
from figures import Row, Subject, Times

from b2cal_core.payloads import LocalPayload, Release, TagState
from b2cal_core.provenance import Provenance
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import schema
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher

BARE = "bare SQL"
_SIZE = 1000
_LAST_EXPERIMENT = 100_000
"""The bare SQL writes from here on, where nothing else is."""
_RELEASE = Release("anna", "bert", "benchmark")
_STAGES = ("upload", "provenance", "states", "plan", "apply and verify")


@dataclass(slots=True)
class _Clock:
    """Seconds per stage, set after set."""

    stages: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self.stages.setdefault(name, []).append(time.perf_counter() - before)

    def sum(self, *names: str) -> Times:
        """The seconds of each set in some stages."""
        seconds = tuple(map(sum, zip(*(self.stages[name] for name in names), strict=True)))
        return Times(seconds, sum(seconds))


def publishes(
    conditions: EmbeddedConditionsDB, tag: BigTag, subject: Subject, directory: Path, *, payloads: int
) -> list[Row]:
    """Rows of the report about publishing so many payloads into the tag, a set of 100 after the other."""
    clock, publisher = _Clock(), Publisher(conditions)
    bare = _BarePublish(conditions, tag)
    for number in range(payloads // len(NAMES)):
        files = _files(directory)
        _publish(conditions, publisher, tag, tag.run(tag.runs + number), files, clock)
        with clock.stage(BARE):
            bare.publish(number)
        for file in files:
            file.unlink()
    bound = {BARE: clock.sum(BARE)}
    return [
        subject.row("publish: plan, apply, verify", clock.sum("plan", "apply and verify"), bound),
        subject.row("publish with upload, provenance, states", clock.sum(*_STAGES), bound),
        *(subject.row(f"  of it {stage}", clock.sum(stage)) for stage in _STAGES),
        subject.row("the rows of a publish by bare SQL", clock.sum(BARE)),
    ]


def _files(directory: Path) -> list[Path]:
    """New files, as calibrations leave them."""
    directory.mkdir(exist_ok=True)
    files = [directory / f"{name}.root" for name in NAMES]
    for file in files:
        file.write_bytes(secrets.token_bytes(_SIZE))
    return files


def _publish(
    conditions: EmbeddedConditionsDB,
    publisher: Publisher,
    tag: BigTag,
    first_run: ExpRun,
    files: Sequence[Path],
    clock: _Clock,
) -> None:
    staging = f"staging_{first_run.exp}_{first_run.run}"
    local = [LocalPayload(name, file, IoV(0, 0, -1, -1)) for name, file in zip(NAMES, files, strict=True)]
    with clock.stage("upload"):
        stored = conditions.put_payloads([(each.name, each.file) for each in local])
        conditions.create_tag(staging)
        conditions.replace_iovs(staging, NAMES, local)
    records = {(payload.name, payload.md5): _record(payload.md5, first_run) for payload in stored}
    with clock.stage("provenance"):
        conditions.record_provenance(records, author="anna")
    with clock.stage("states"):
        conditions.set_state(staging, expected=TagState.OPEN, new=TagState.TESTING)
        conditions.set_state(staging, expected=TagState.TESTING, new=TagState.VALIDATED)
    with clock.stage("plan"):
        document = publisher.plan_update(tag.name, staging, first_run=first_run)
    with clock.stage("apply and verify"):
        publisher.apply(document, _RELEASE)


def _record(md5: str, run: ExpRun) -> Provenance:
    """A record that no other payload has."""
    return Provenance(
        code="release-09, caf_benchmark.py 1a2b3c",
        inputs=tuple(f"run{run.run}_{part}.root sha256:{md5}" for part in range(5)),
        runs=(tuple(run),),
        tags=("online", "data_prompt"),
        upstream=(),
        config={"minimum_events": 1000, "strategy": "sequential run by run"},
        validation={"verdict": "pass", "figures": {"chi2": 1.02, "events": 12345}},
    )


class _BarePublish:
    """What a publish writes of payloads and IoVs, without any check: 100 rows each, 100 IoVs closed, one commit."""

    def __init__(self, conditions: EmbeddedConditionsDB, tag: BigTag) -> None:
        self._engine = conditions.engine
        name = f"{tag.name}_bare"
        conditions.create_tag(name)
        rows = [{"name": f"{each}Bare", "last_revision": 0} for each in NAMES]
        with conditions.database.write() as connection:
            self._tag_id = connection.scalars(sa.select(schema.tags.c.id).where(schema.tags.c.name == name)).one()
            connection.execute(sa.insert(schema.names), rows)
            query = sa.select(schema.names.c.id).where(schema.names.c.name.in_([row["name"] for row in rows]))
            self._names = list(connection.scalars(query))

    def publish(self, number: int) -> None:
        """Write one set."""
        start, end = (schema.run_key(_LAST_EXPERIMENT + number + more, 0) for more in (0, -1))
        last = schema.edges(IoV(0, 0, -1, -1))[1]
        with closing(self._engine.raw_connection()) as connection:
            cursor: Any = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE" if self._engine.dialect.name == "sqlite" else "BEGIN")
            cursor.execute("SELECT MAX(id) FROM cdb_payloads")
            first = (cursor.fetchone()[0] or 0) + 1
            payloads = [
                (first + i, name, number + 1, secrets.token_hex(16), secrets.token_hex(32), _SIZE, "now", "anna")
                for i, name in enumerate(self._names)
            ]
            self._many(cursor, "INSERT INTO cdb_payloads VALUES (?, ?, ?, ?, ?, ?, ?, ?)", payloads)
            closed = [(start, self._tag_id, name, end) for name in self._names]
            self._many(cursor, "UPDATE cdb_iovs SET stop = ? WHERE tag_id = ? AND name_id = ? AND start = ?", closed)
            into = "INSERT INTO cdb_iovs (tag_id, name_id, start, stop, payload_id, added) VALUES (?, ?, ?, ?, ?, 1)"
            links = [(self._tag_id, name, start, last, first + i) for i, name in enumerate(self._names)]
            self._many(cursor, into, links)
            cursor.execute("COMMIT")
            cursor.close()

    def _many(self, cursor: Any, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:  # noqa: ANN401 (any driver's)
        cursor.executemany(statement if self._engine.dialect.name == "sqlite" else statement.replace("?", "%s"), rows)
