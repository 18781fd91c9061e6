"""History, leases, provenance and a chained audit log; every table gets a name that begins with ``cdb_``.

What links were before this migration is not known: the history begins with the line of the audit log that tells of it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from b2cal_core.payloads import AuditEntry, TagState, chained_hash
from b2cal_core.plans import fingerprint_of
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV

revision = "0002"
down_revision = "0001"

_LONG_TEXT = sa.Text(2**24)
_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_COPIED = (
    ("names", "id, name, last_revision"),
    ("payloads", "id, name_id, revision, md5, sha256, size, added_at, added_by"),
    ("tag_names", "tag_id, name_id, disjoint"),
)


def upgrade() -> None:
    """Make the new tables, bring everything over, drop the old ones."""
    _make_tags_and_payloads()
    _make_links()
    _make_record()
    connection = op.get_bind()
    entries = _bring_audit(connection)
    _bring_tags(connection, entries)
    for table, columns in _COPIED:
        op.execute(f"INSERT INTO cdb_{table} ({columns}) SELECT {columns} FROM {table}")  # noqa: S608 (our own words)
    columns = "id, tag_id, name_id, start, stop, payload_id"
    op.execute(f"INSERT INTO cdb_iovs ({columns}, added) SELECT {columns}, 0 FROM iovs")  # noqa: S608 (likewise)
    for table in ("tag_names", "iovs", "payloads", "names", "tags", "audit", "about"):
        op.drop_table(table)
    _make_triggers()


def _bring_audit(connection: sa.Connection) -> list[AuditEntry]:
    """Chain the lines there are, with one about this migration at the end."""
    found = connection.execute(sa.text("SELECT * FROM audit ORDER BY id")).mappings()
    rows: list[Mapping[str, Any]] = [dict(row) for row in found]
    last = rows[-1]["id"] if rows else 0
    now = {"id": last + 1, "at": datetime.now(UTC).isoformat(timespec="microseconds"), "author": "b2cal"}
    own = now | {"action": "upgrade", "tag": "", "detail": '{"to":"0002"}', "reason": "", "plan_hash": None}
    entries: list[AuditEntry] = []
    for row in (*rows, own):
        entries.append(_chained(entries[-1].hash if entries else "", row))
    table = sa.table("cdb_audit", *map(sa.column, (*own, "approver", "hash")))
    op.bulk_insert(table, [_audit_row(entry) for entry in entries])
    head = {"entry": entries[-1].id, "hash": entries[-1].hash}
    statement = "INSERT INTO cdb_head (id, entry, hash, history_from) VALUES (1, :entry, :hash, :entry)"
    connection.execute(sa.text(statement), head)
    return entries


def _chained(previous: str, row: Mapping[str, Any]) -> AuditEntry:
    columns = {key: row[key] for key in ("id", "author", "action", "tag", "detail", "reason", "plan_hash")}
    blank = AuditEntry(when=datetime.fromisoformat(row["at"]), **columns)
    return AuditEntry(when=blank.when, **columns, hash=chained_hash(previous, blank))


def _audit_row(entry: AuditEntry) -> dict[str, Any]:
    columns = ("id", "author", "action", "tag", "detail", "reason", "approver", "plan_hash", "hash")
    return {name: getattr(entry, name) for name in columns} | {"at": entry.when.isoformat(timespec="microseconds")}


def _bring_tags(connection: sa.Connection, entries: Iterable[AuditEntry]) -> None:
    made: dict[str, AuditEntry] = {}
    changed: dict[str, AuditEntry] = {}
    for entry in entries:
        made.setdefault(entry.tag, entry)
        changed[entry.tag] = entry
    statement = sa.text(
        "INSERT INTO cdb_tags (id, name, state, type, description, fingerprint, made_at, made_by, changed_at)"
        " VALUES (:id, :name, :state, :type, :description, :fingerprint, :made_at, :made_by, :changed_at)"
    )
    for row in connection.execute(sa.text("SELECT * FROM tags")).mappings().all():
        first, last = made.get(row["name"]), changed.get(row["name"])
        connection.execute(
            statement,
            {
                **row,
                "fingerprint": fingerprint_of(TagState(row["state"]), _links(connection, row["id"])),
                "made_at": first.when.isoformat(timespec="microseconds") if first else "",
                "made_by": first.author if first else "",
                "changed_at": last.when.isoformat(timespec="microseconds") if last else "",
            },
        )


def _links(connection: sa.Connection, tag_id: int) -> Iterable[TagIov]:
    query = (
        "SELECT n.name, p.revision, i.start, i.stop FROM iovs i JOIN payloads p ON p.id = i.payload_id"
        " JOIN names n ON n.id = i.name_id WHERE i.tag_id = :tag"
    )
    for name, number, start, stop in connection.execute(sa.text(query), {"tag": tag_id}):
        end = (2**63, 0) if stop == 2**63 - 1 else divmod(stop, 2**31)
        yield TagIov(name, number, IoV.of_edges(divmod(start, 2**31), end))


def _make_tags_and_payloads() -> None:
    op.create_table(
        "cdb_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("entry", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("history_from", sa.Integer, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "cdb_tags",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("description", _LONG_TEXT, nullable=False),
        sa.Column("fingerprint", sa.String(80), nullable=False),
        sa.Column("made_at", sa.String(32), nullable=False),
        sa.Column("made_by", sa.String(255), nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "cdb_names",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("last_revision", sa.Integer, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "cdb_payloads",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("cdb_names.id"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("md5", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("added_at", sa.String(32), nullable=False),
        sa.Column("added_by", sa.String(255), nullable=False),
        sa.UniqueConstraint("name_id", "revision"),
        sa.UniqueConstraint("md5", "name_id"),
        sa.UniqueConstraint("name_id", "sha256"),
        **_OPTIONS,
    )


def _make_links() -> None:
    op.create_table(
        "cdb_tag_names",
        sa.Column("tag_id", sa.Integer, sa.ForeignKey("cdb_tags.id"), primary_key=True),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("cdb_names.id"), primary_key=True),
        sa.Column("disjoint", sa.Boolean, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "cdb_iovs",
        sa.Column("id", sa.Integer, primary_key=True),
        *_link_columns(),
        sa.Column("added", sa.Integer, nullable=False),
        sa.UniqueConstraint("tag_id", "name_id", "start", "stop", "payload_id", name="cdb_iovs_once"),
        sa.CheckConstraint("start < stop", name="cdb_iovs_not_empty"),
        sqlite_autoincrement=True,
        **_OPTIONS,
    )
    op.create_index("cdb_iovs_stop", "cdb_iovs", ["tag_id", "stop"])
    op.create_table(
        "cdb_past_iovs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("link", sa.Integer, nullable=False),
        *_link_columns(),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("removed", sa.Integer, nullable=False),
        **_OPTIONS,
    )
    op.create_index("cdb_past_iovs_removed", "cdb_past_iovs", ["tag_id", "removed"])


def _link_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("tag_id", sa.Integer, sa.ForeignKey("cdb_tags.id"), nullable=False),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("cdb_names.id"), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("stop", sa.BigInteger, nullable=False),
        sa.Column("payload_id", sa.Integer, sa.ForeignKey("cdb_payloads.id"), nullable=False),
    ]


def _make_record() -> None:
    op.create_table(
        "cdb_audit",
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
        **_OPTIONS,
    )
    op.create_table(
        "cdb_records",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("record", _LONG_TEXT, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "cdb_provenance",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("md5", sa.String(32), nullable=False),
        sa.Column("record_hash", sa.String(64), sa.ForeignKey("cdb_records.hash"), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False),
        **_OPTIONS,
    )
    op.create_index("cdb_provenance_payload", "cdb_provenance", ["md5", "name"])
    op.create_table(
        "cdb_leases",
        sa.Column("tag", sa.String(255), primary_key=True),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("expires", sa.String(32), nullable=False),
        **_OPTIONS,
    )


def _make_triggers() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER cdb_audit_no_{verb.lower()} BEFORE {verb} ON cdb_audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
