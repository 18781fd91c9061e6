"""The book of notices and tickets in an SQL database: what was told, what is being told, which tickets stand."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, RowMapping, String, Table, Text, and_, select

from b2cal_core.ports import Delivery, KeptTicket, NoticeBook
from b2cal_core.tickets import TicketReference
from resources.sql_database import TABLE_OPTIONS, SqlDatabase, utc_text

_METADATA = MetaData()
_BEGUN, _FAILED, _TOLD = "begun", "failed", "told"
_NOTICES = Table(
    "reg_notices",
    _METADATA,
    Column("notice_key", String(255), primary_key=True),
    Column("channel", String(64), primary_key=True),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    **TABLE_OPTIONS,
)
_TICKETS = Table(
    "reg_tickets",
    _METADATA,
    Column("ticket_key", String(255), primary_key=True),
    Column("id", String(64), nullable=False),
    Column("address", String(1000), nullable=False),
    Column("digest", String(64), nullable=False),
    **TABLE_OPTIONS,
)
_SETTLED = Table(
    "reg_settled_buckets",
    _METADATA,
    Column("campaign", String(64), primary_key=True),
    Column("bucket", String(64), primary_key=True),
    Column("version", String(64), nullable=False),
    **TABLE_OPTIONS,
)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
_CHUNK = 500


class EmbeddedNoticeBook(NoticeBook):
    """The book in an SQL database; nothing is opened before the first question.

    Args:
        url: SQLAlchemy address, for example ``Home.registry_url``.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, _METADATA, what="the book of notices")

    def due(self, deliveries: Sequence[Delivery], now: datetime) -> tuple[Delivery, ...]:
        """Those that were not told and may be tried now, least tried first, else in order."""
        known = self._known({delivery.key for delivery in deliveries})
        moment = utc_text(now, "now")
        waiting: list[tuple[int, Delivery]] = []
        for delivery in dict.fromkeys(deliveries):
            row = known.get(delivery)
            if row is None or (row["state"] != _TOLD and row["due_at"] <= moment):
                waiting.append((0 if row is None else row["attempts"], delivery))
        return tuple(delivery for _, delivery in sorted(waiting, key=lambda pair: pair[0]))

    def begin(self, delivery: Delivery) -> bool:
        """Note that it is about to be told; whether an attempt before was cut off."""
        with self._database.writing() as connection:
            row = connection.execute(_of(delivery)).mappings().first()
            attempts = 1 + (row["attempts"] if row is not None else 0)
            values = {"state": _BEGUN, "attempts": attempts, "due_at": "", "reason": "it was cut off"}
            _put(connection, _NOTICES, _columns(delivery), values)
        return row is not None and row["state"] == _BEGUN

    def told(self, delivery: Delivery, when: datetime) -> None:
        """Note that it has arrived."""
        values = {"state": _TOLD, "due_at": utc_text(when, "now"), "reason": ""}
        with self._database.writing() as connection:
            _put(connection, _NOTICES, _columns(delivery), values, attempts=1)

    def failed(self, delivery: Delivery, why: str, now: datetime) -> None:
        """Note that it did not arrive, and when it is due again."""
        with self._database.writing() as connection:
            row = connection.execute(_of(delivery)).mappings().first()
            attempts = row["attempts"] if row is not None else 1
            pause = min(_FIRST_PAUSE * 2 ** min(attempts - 1, 10), _LONGEST_PAUSE)
            values = {"state": _FAILED, "due_at": utc_text(now + pause, "now"), "reason": why}
            _put(connection, _NOTICES, _columns(delivery), values, attempts=attempts)

    def undelivered(self) -> Mapping[Delivery, str]:
        """What was tried and has not arrived, with the last reason."""
        query = select(_NOTICES).where(_NOTICES.c.state != _TOLD).order_by(_NOTICES.c.notice_key, _NOTICES.c.channel)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return {_delivery(row): row["reason"] for row in rows}

    def tickets(self, keys: Iterable[str]) -> Mapping[str, KeptTicket]:
        """Ticket key to what was kept, for those that were."""
        rows = self._rows(_TICKETS, "ticket_key", keys)
        return {r["ticket_key"]: KeptTicket(TicketReference(r["id"], r["address"]), r["digest"]) for r in rows}

    def keep_ticket(self, key: str, kept: KeptTicket) -> None:
        """Note how a ticket was kept."""
        values = {"id": kept.reference.id, "address": kept.reference.address, "digest": kept.digest}
        with self._database.writing() as connection:
            _put(connection, _TICKETS, {"ticket_key": key}, values)

    def settled(self, campaign: str) -> Mapping[str, str]:
        """Bucket key to the version of it of which all was told."""
        query = select(_SETTLED).where(_SETTLED.c.campaign == campaign)
        with self._database.reading() as connection:
            return {row["bucket"]: row["version"] for row in connection.execute(query).mappings()}

    def settle(self, campaign: str, bucket: str, version: str) -> None:
        """Note that all is told of this version of a bucket."""
        with self._database.writing() as connection:
            _put(connection, _SETTLED, {"campaign": campaign, "bucket": bucket}, {"version": version})

    def _known(self, keys: Iterable[str]) -> Mapping[Delivery, RowMapping]:
        return {_delivery(row): row for row in self._rows(_NOTICES, "notice_key", keys)}

    def _rows(self, table: Table, column: str, keys: Iterable[str]) -> list[RowMapping]:
        wanted = sorted(set(keys))
        rows: list[RowMapping] = []
        with self._database.reading() as connection:
            for start in range(0, len(wanted), _CHUNK):
                chosen = select(table).where(table.c[column].in_(wanted[start : start + _CHUNK]))
                rows += connection.execute(chosen).mappings().all()
        return rows


def _put(connection: Connection, table: Table, key: Mapping[str, str], values: Mapping[str, Any], **first: int) -> None:
    """Change the row of this key, or make it; ``first`` are values of a new one only."""
    at = and_(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(select(table).where(at).with_for_update()).first() is None:
        connection.execute(table.insert().values({**first, **values, **key}))
    else:
        connection.execute(table.update().where(at).values(**values))


def _columns(delivery: Delivery) -> dict[str, str]:
    return {"notice_key": delivery.key, "channel": delivery.channel}


def _of(delivery: Delivery) -> Any:  # noqa: ANN401 (a select of six columns has no short type)
    return select(_NOTICES).where(_NOTICES.c.notice_key == delivery.key, _NOTICES.c.channel == delivery.channel)


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(row["notice_key"], row["channel"])
