"""The tables of the embedded conditions database, in SQL that SQLite and MariaDB both understand.

IoVs are kept half-open, each edge as one number, so that "the payload valid in a run" is one descent of an index per
name. That descent needs disjoint IoVs; ``tag_names.disjoint`` says for which names of a tag this holds. Only tags
taken over from elsewhere may have overlaps: there every IoV around the run is read and the highest revision wins.

A link that is dropped or shortened leaves its former self in ``past_iovs``, so that a tag can be read as it was after
any line of the audit log. Every name of a table begins with ``cdb_``: the database may hold other things too.
"""

from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import IoV

REVISION = "0002"
"""The newest migration; tables made anew are of this revision."""

_RUNS = 2**31
LARGEST = _RUNS - 2
"""The largest number of an experiment or a run that an IoV may have."""
_TOP = 2**63 - 1
_FOREVER = (2**63, 0)
_LONG_TEXT = sa.Text(2**24)
_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

metadata = sa.MetaData()


def _table(name: str, *columns: sa.schema.SchemaItem, **options: bool) -> sa.Table:
    table: sa.Table = sa.Table(f"cdb_{name}", metadata, *columns, **(_OPTIONS | options))
    return table


version = _table("version", sa.Column("version_num", sa.String(32), primary_key=True))

head = _table(
    "head",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("history_from", sa.Integer, nullable=False),
)
"""One row: the last line of the audit log, and the first line after which the past is known. Writers lock it first."""

tags = _table(
    "tags",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("description", _LONG_TEXT, nullable=False),
    sa.Column("fingerprint", sa.String(80), nullable=False),
    sa.Column("made_at", sa.String(32), nullable=False),
    sa.Column("made_by", sa.String(255), nullable=False),
    sa.Column("changed_at", sa.String(32), nullable=False),
)

names = _table(
    "names",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("last_revision", sa.Integer, nullable=False),
)

payloads = _table(
    "payloads",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name_id", sa.ForeignKey("cdb_names.id"), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("md5", sa.String(32), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("added_at", sa.String(32), nullable=False),
    sa.Column("added_by", sa.String(255), nullable=False),
    sa.UniqueConstraint("name_id", "revision"),
    sa.UniqueConstraint("md5", "name_id"),  # contents are sought by MD5, whatever the number of payloads
    sa.UniqueConstraint("name_id", "sha256"),
)

tag_names = _table(
    "tag_names",
    sa.Column("tag_id", sa.ForeignKey("cdb_tags.id"), primary_key=True),
    sa.Column("name_id", sa.ForeignKey("cdb_names.id"), primary_key=True),
    sa.Column("disjoint", sa.Boolean, nullable=False),
)

iovs = _table(
    "iovs",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("cdb_tags.id"), nullable=False),
    sa.Column("name_id", sa.ForeignKey("cdb_names.id"), nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("stop", sa.BigInteger, nullable=False),
    sa.Column("payload_id", sa.ForeignKey("cdb_payloads.id"), nullable=False),
    sa.Column("added", sa.Integer, nullable=False),
    sa.UniqueConstraint("tag_id", "name_id", "start", "stop", "payload_id", name="cdb_iovs_once"),
    sa.CheckConstraint("start < stop", name="cdb_iovs_not_empty"),
    sa.Index("cdb_iovs_stop", "tag_id", "stop"),
    sqlite_autoincrement=True,  # the id of a dropped link is never given to another
)
"""``added``: the line of the audit log with which the link became as it is."""

past_iovs = _table(
    "past_iovs",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("link", sa.Integer, nullable=False),
    sa.Column("tag_id", sa.ForeignKey("cdb_tags.id"), nullable=False),
    sa.Column("name_id", sa.ForeignKey("cdb_names.id"), nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("stop", sa.BigInteger, nullable=False),
    sa.Column("payload_id", sa.ForeignKey("cdb_payloads.id"), nullable=False),
    sa.Column("added", sa.Integer, nullable=False),
    sa.Column("removed", sa.Integer, nullable=False),
    sa.Index("cdb_past_iovs_removed", "tag_id", "removed"),
)
"""What links were from the line ``added`` on, until the line ``removed``."""

audit = _table(
    "audit",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("author", sa.String(255), nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("tag", sa.String(255), nullable=False, index=True),
    sa.Column("detail", _LONG_TEXT, nullable=False),
    sa.Column("reason", _LONG_TEXT, nullable=False),
    sa.Column("approver", sa.String(255), nullable=False),
    sa.Column("plan_hash", sa.String(64), index=True),
    sa.Column("hash", sa.String(64), nullable=False),
)

records = _table(
    "records",
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("record", _LONG_TEXT, nullable=False),
)
"""Records of provenance, each kept once: the payloads of one calibration share a long one."""

provenance = _table(
    "provenance",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("md5", sa.String(32), nullable=False),
    sa.Column("record_hash", sa.ForeignKey("cdb_records.hash"), nullable=False),
    sa.Column("entry", sa.Integer, nullable=False),
    sa.Index("cdb_provenance_payload", "md5", "name"),
)
"""``entry``: the line of the audit log that holds the hashes of the records written with it."""

leases = _table(
    "leases",
    sa.Column("tag", sa.String(255), primary_key=True),
    sa.Column("holder", sa.String(255), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("expires", sa.String(32), nullable=False),
)
"""``holder`` is blank once a lease was given back; the number stays, so that it only ever grows."""


def run_key(exp: int, run: int) -> int:
    """The number by which a run is compared with the edges of IoVs."""
    return min(exp, _RUNS) * _RUNS + min(run, _RUNS - 1)


def edges(iov: IoV) -> tuple[int, int]:
    """The half-open form of an IoV as two numbers.

    Raises:
        ConfigurationError: an experiment or run number is beyond what the database can hold.
    """
    if max(iov) > LARGEST:
        raise ConfigurationError(f"experiments and runs of an IoV go up to {LARGEST}, got {iov}")
    return run_key(*iov.start), _TOP if iov.is_open else run_key(*iov.stop)


def iov_of(start: int, stop: int) -> IoV:
    """The IoV with these edges."""
    return IoV.of_edges(divmod(start, _RUNS), _FOREVER if stop == _TOP else divmod(stop, _RUNS))


def append_only_triggers(dialect: str) -> list[str]:
    """Statements that make the database itself refuse to change or remove a line of the audit log."""
    message = "the audit log is append-only"
    bodies = {
        "sqlite": f"BEGIN SELECT RAISE(ABORT, '{message}'); END",
        "mysql": f"FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{message}'",
    }
    bodies["mariadb"] = bodies["mysql"]
    create = "CREATE" if dialect == "sqlite" else "CREATE OR REPLACE"  # whoever was killed after this statement goes on
    return [
        f"{create} TRIGGER cdb_audit_no_{verb.lower()} BEFORE {verb} ON cdb_audit {bodies[dialect]}"
        for verb in ("UPDATE", "DELETE")
    ]
