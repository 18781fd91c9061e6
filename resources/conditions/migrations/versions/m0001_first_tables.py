"""The tables of the first version: tags, payloads, IoVs and an audit log, on SQLite only."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "about",
        sa.Column("property", sa.String(40), primary_key=True),
        sa.Column("content", sa.String(200), nullable=False),
    )
    op.create_table(
        "tags",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
    )
    op.create_table(
        "names",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("last_revision", sa.Integer, nullable=False),
    )
    _make_links()
    _make_audit()
    op.execute("INSERT INTO about VALUES ('schema_version', '1')")


def _make_links() -> None:
    op.create_table(
        "payloads",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("names.id"), nullable=False),
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
    op.create_table(
        "tag_names",
        sa.Column("tag_id", sa.Integer, sa.ForeignKey("tags.id"), primary_key=True),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("names.id"), primary_key=True),
        sa.Column("disjoint", sa.Boolean, nullable=False),
    )
    op.create_table(
        "iovs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("tag_id", sa.Integer, sa.ForeignKey("tags.id"), nullable=False),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("names.id"), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("stop", sa.BigInteger, nullable=False),
        sa.Column("payload_id", sa.Integer, sa.ForeignKey("payloads.id"), nullable=False),
        sa.UniqueConstraint("tag_id", "name_id", "start", "stop", "payload_id"),
        sa.CheckConstraint("start < stop", name="not_empty"),
        sqlite_autoincrement=True,
    )


def _make_audit() -> None:
    op.create_table(
        "audit",
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
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
