"""The embedded sign-off log: the database itself refuses to change or remove a decision."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, RowMapping, String, Table, Text, select

from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.ports import SignOffLog
from b2cal_core.redo import Redo
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Decision, SignOff
from resources.append_only import refusing_changes
from resources.sql_database import TABLE_OPTIONS, SqlDatabase, utc_text

_METADATA = MetaData()
_DECISIONS = Table(
    "reg_decisions",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("campaign", String(64), nullable=False),
    Column("bucket", String(64), nullable=False),
    Column("calibration", String(64), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("author", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", String(200), nullable=False),
    Column("decided_at", String(32), nullable=False),
    Column("terms", Text),  # JSON of what only some decisions have
    Index("reg_decisions_subject", "campaign", "bucket", "calibration"),
    sqlite_autoincrement=True,
    **TABLE_OPTIONS,
)
_CHOICES = Table(
    "reg_shortage_choices",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("campaign", String(64), nullable=False),
    Column("bucket", String(64), nullable=False),
    Column("calibration", String(64), nullable=False),
    Column("remedy", String(16), nullable=False),
    Column("author", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("chosen_at", String(32), nullable=False),
    Index("reg_shortage_choices_subject", "campaign", "bucket"),
    sqlite_autoincrement=True,
    **TABLE_OPTIONS,
)
_APPEND_ONLY = refusing_changes("decisions are only ever appended; log a new one", _DECISIONS, _CHOICES)


class EmbeddedSignOffLog(SignOffLog):
    """The log in an SQL database; nothing is opened before the first question.

    Args:
        url: SQLAlchemy address, for example ``Home.registry_url``.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(
            url, _METADATA, what="the sign-off log", extra=_APPEND_ONLY, later=["reg_decisions_no_replace"]
        )

    def record(self, decision: SignOff) -> None:
        """Append a decision; ``DataError`` when one of its times has no time zone."""
        with self._database.writing() as connection:
            connection.execute(_DECISIONS.insert().values(**_row(decision)))

    def decisions(
        self, campaign: str, bucket: str | None = None, calibration: str | None = None
    ) -> tuple[SignOff, ...]:
        """Decisions in the order they were logged."""
        query = select(_DECISIONS).where(_DECISIONS.c.campaign == campaign).order_by(_DECISIONS.c.id)
        if bucket is not None:
            query = query.where(_DECISIONS.c.bucket == bucket)
        if calibration is not None:
            query = query.where(_DECISIONS.c.calibration == calibration)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(_decision(row) for row in rows)

    def choose(self, choice: ShortageChoice) -> None:
        """Append a choice; ``DataError`` when its time has no time zone."""
        row = {name: getattr(choice, name) for name in ("campaign", "bucket", "calibration", "author", "reason")}
        row |= {"remedy": choice.remedy.value, "chosen_at": utc_text(choice.when, "the choice")}
        with self._database.writing() as connection:
            connection.execute(_CHOICES.insert().values(**row))

    def choices(self, campaign: str, bucket: str) -> tuple[ShortageChoice, ...]:
        """Choices in the order they were logged."""
        of_bucket = (_CHOICES.c.campaign == campaign) & (_CHOICES.c.bucket == bucket)
        with self._database.reading() as connection:
            rows = connection.execute(select(_CHOICES).where(of_bucket).order_by(_CHOICES.c.id)).mappings().all()
        return tuple(_choice(row) for row in rows)

    def logged_since(self, mark: str = "") -> tuple[frozenset[tuple[str, str]], str]:
        """Campaign and bucket of everything logged since a mark, which an earlier call returned, and the next mark."""
        numbers = [int(number) for number in mark.split()] or [0, 0]
        found = set()
        with self._database.reading() as connection:
            for place, table in enumerate((_DECISIONS, _CHOICES)):
                news = select(table.c.id, table.c.campaign, table.c.bucket).where(table.c.id > numbers[place])
                for number, campaign, bucket in connection.execute(news):
                    numbers[place] = max(numbers[place], number)
                    found.add((campaign, bucket))
        return frozenset(found), " ".join(map(str, numbers))


def _choice(row: RowMapping) -> ShortageChoice:
    subject = (row["campaign"], row["bucket"], row["calibration"])
    when = datetime.fromisoformat(row["chosen_at"])
    return ShortageChoice(*subject, Remedy(row["remedy"]), row["author"], row["reason"], when)


def _row(decision: SignOff) -> dict[str, Any]:
    return {
        "campaign": decision.campaign,
        "bucket": decision.bucket,
        "calibration": decision.calibration,
        "decision": decision.decision.value,
        "author": decision.author,
        "reason": decision.reason,
        "evidence": decision.evidence,
        "decided_at": utc_text(decision.when, "the decision"),
        "terms": _terms(decision),
    }


def _terms(decision: SignOff) -> str | None:
    """What only some decisions have, as JSON; nothing when it is one of the others."""
    terms = {
        "deputy_of": decision.deputy_of,
        "until": utc_text(decision.until, "the end of the waiver") if decision.until is not None else "",
        "figure": decision.figure,
        "redo": decision.redo.to_json() if decision.redo is not None else "",
    }
    given = {name: value for name, value in terms.items() if value}
    return json.dumps(given) if given else None


def _decision(row: RowMapping) -> SignOff:
    terms = json.loads(row["terms"] or "{}")
    return SignOff(
        row["campaign"],
        row["bucket"],
        row["calibration"],
        Decision(row["decision"]),
        row["author"],
        row["reason"],
        row["evidence"],
        datetime.fromisoformat(row["decided_at"]),
        deputy_of=terms.get("deputy_of", ""),
        until=datetime.fromisoformat(terms["until"]) if "until" in terms else None,
        figure=terms.get("figure", ""),
        redo=Redo.from_json(terms["redo"]) if "redo" in terms else None,
    )
