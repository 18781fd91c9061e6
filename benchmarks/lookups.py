"""Looking up all payloads of a run in process, beside the bare SQL for it on the same table and kind of connection."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing

import sqlalchemy as sa
from big_tags import NAMES, BigTag
from figures import Row, Subject, Times, in_turn

from b2cal_core.ranges import ExpRun
from resources.conditions import latest_links, schema
from resources.conditions.embedded import EmbeddedConditionsDB

_SEED = 20
BARE, TEXTBOOK = "bare SQL", "textbook SQL"


def look_ups(conditions: EmbeddedConditionsDB, tag: BigTag, subject: Subject, *, seconds: float) -> Iterator[Row]:
    """Rows of the report; ``seconds`` for each kind of run."""
    bare = BareLookUp(conditions, tag)
    for which, runs in _kinds(tag).items():
        yield subject.row(f"look-up in process, {which}", *_beside(conditions, tag, bare, runs, seconds=seconds))
    (textbook, quick) = in_turn(
        [lambda: bare.textbook(tag.run(tag.runs // 2)), lambda: bare.valid(tag.run(tag.runs // 2))], seconds, most=20
    )
    yield subject.row("the same by textbook SQL", textbook, {BARE: quick})


def _beside(
    conditions: EmbeddedConditionsDB, tag: BigTag, bare: "BareLookUp", runs: Callable[[], ExpRun], *, seconds: float
) -> tuple[Times, dict[str, Times]]:
    ours, theirs = in_turn([lambda: _resolve(conditions, tag, runs()), lambda: bare.valid(runs())], seconds)
    return ours, {BARE: theirs}


def _kinds(tag: BigTag) -> dict[str, Callable[[], ExpRun]]:
    chance = random.Random(_SEED)  # noqa: S311 (no secret is made)
    return {
        "any run": lambda: tag.run(chance.randrange(tag.runs)),
        "first run": lambda: tag.run(0),
        "last run": lambda: tag.run(tag.runs - 1),
    }


def _resolve(conditions: EmbeddedConditionsDB, tag: BigTag, run: ExpRun) -> None:
    found = conditions.resolve([tag.name], run)
    assert len(found) == len(NAMES), f"{len(found)} payloads in {run}"


class BareLookUp:
    """The same question put to the driver itself: a connection, one statement, its rows.

    ``valid`` is the statement our own look-up uses, so that the difference is what Python adds to it; ``textbook`` is
    what one would write first, which reads half of the tag.
    """

    def __init__(self, conditions: EmbeddedConditionsDB, tag: BigTag) -> None:
        self._engine = conditions.engine
        with conditions.database.read() as connection:
            query = sa.select(schema.tags.c.id).where(schema.tags.c.name == tag.name)
            self._tag_id = connection.scalars(query).one()
            own = schema.tag_names.c.tag_id == self._tag_id
            booked = connection.scalars(sa.select(schema.tag_names.c.name_id).where(own))
            ids = tuple(sorted(booked))
        look_up, dialect = latest_links.LOOK_UP, self._engine.dialect
        valid = look_up.in_one if dialect.name == "sqlite" else look_up.of_each(ids)
        self._valid = valid.compile(dialect=dialect)
        self._textbook = _textbook_query().compile(dialect=self._engine.dialect)

    def valid(self, run: ExpRun) -> None:
        """Ask for the payloads of a run."""
        self._ask(self._valid, run)

    def textbook(self, run: ExpRun) -> None:
        """Ask for the payloads of a run, in the words of a textbook."""
        self._ask(self._textbook, run)

    def _ask(self, statement: sa.Compiled, run: ExpRun) -> None:
        values = statement.construct_params({"tag": self._tag_id, "key": schema.run_key(run.exp, run.run)})
        names = getattr(statement, "positiontup", None)
        with closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(str(statement), [values[name] for name in names] if names else values)
            rows = cursor.fetchall()
            cursor.close()
        assert len(rows) == len(NAMES), f"{len(rows)} rows in {run}"


def _textbook_query() -> sa.Select[tuple[str, int]]:
    iovs, key = schema.iovs, sa.bindparam("key", type_=sa.BigInteger)
    joined = iovs.join(schema.payloads, schema.payloads.c.id == iovs.c.payload_id)
    named = joined.join(schema.names, schema.names.c.id == iovs.c.name_id)
    query = sa.select(schema.names.c.name, schema.payloads.c.revision).select_from(named)
    return query.where(iovs.c.tag_id == sa.bindparam("tag"), iovs.c.start <= key, iovs.c.stop > key)
