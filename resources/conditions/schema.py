"""The tables of the embedded conditions database, in SQL that SQLite and MariaDB both understand.

IoVs are kept half-open, each edge as one number, so that "the payload valid in a run" is one descent of an index per
name. That descent needs disjoint IoVs; ``tag_names.disjoint`` says for which names of a tag this holds. Only tags
taken over from elsewhere may have overlaps: there every IoV around the run is read and the highest revision wins.
"""

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import IoV

SCHEMA_VERSION = 1

_RUNS = 2**31
_TOP = 2**63 - 1
_FOREVER = (2**63, 0)

metadata = sa.MetaData()

about = sa.Table(
    "about",
    metadata,
    sa.Column("property", sa.String(40), primary_key=True),
    sa.Column("content", sa.String(200), nullable=False),
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
)

names = sa.Table(
    "names",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("last_revision", sa.Integer, nullable=False),
)

payloads = sa.Table(
    "payloads",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name_id", sa.ForeignKey("names.id"), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("md5", sa.String(32), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("added_at", sa.String(32), nullable=False),
    sa.Column("added_by", sa.String(255), nullable=False),
    sa.UniqueConstraint("name_id", "revision"),
    sa.UniqueConstraint("name_id", "md5"),
    sa.UniqueConstraint("name_id", "sha256"),
)

tag_names = sa.Table(
    "tag_names",
    metadata,
    sa.Column("tag_id", sa.ForeignKey("tags.id"), primary_key=True),
    sa.Column("name_id", sa.ForeignKey("names.id"), primary_key=True),
    sa.Column("disjoint", sa.Boolean, nullable=False),
)

iovs = sa.Table(
    "iovs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tags.id"), nullable=False),
    sa.Column("name_id", sa.ForeignKey("names.id"), nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("stop", sa.BigInteger, nullable=False),
    sa.Column("payload_id", sa.ForeignKey("payloads.id"), nullable=False),
    sa.UniqueConstraint("tag_id", "name_id", "start", "stop", "payload_id"),
    sa.CheckConstraint("start < stop", name="not_empty"),
    sqlite_autoincrement=True,  # the id of a dropped link is never given to another
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("author", sa.String(255), nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("tag", sa.String(255), nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("plan_hash", sa.String(64)),
    sqlite_autoincrement=True,
)

for _verb in ("UPDATE", "DELETE"):
    _trigger = sa.DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy left this constructor without types
        f"CREATE TRIGGER audit_no_{_verb.lower()} BEFORE {_verb} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    )
    sa.event.listen(audit, "after_create", _trigger.execute_if(dialect="sqlite"))


def run_key(exp: int, run: int) -> int:
    """The number by which a run is compared with the edges of IoVs."""
    return min(exp, _RUNS) * _RUNS + min(run, _RUNS - 1)


def edges(iov: IoV) -> tuple[int, int]:
    """The half-open form of an IoV as two numbers.

    Raises:
        ConfigurationError: an experiment or run number is beyond what the database can hold.
    """
    if max(iov) >= _RUNS - 1:
        raise ConfigurationError(f"experiments and runs of an IoV go up to {_RUNS - 2}, got {iov}")
    return run_key(*iov.start), _TOP if iov.is_open else run_key(*iov.stop)


def iov_of(start: int, stop: int) -> IoV:
    """The IoV with these edges."""
    return IoV.of_edges(divmod(start, _RUNS), _FOREVER if stop == _TOP else divmod(stop, _RUNS))
