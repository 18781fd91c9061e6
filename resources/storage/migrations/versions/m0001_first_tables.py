"""The tables of the first version: runs, buckets and decisions, on SQLite only; each part was made when first used."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    make_runs()
    make_buckets()
    make_decisions()


def make_runs() -> None:
    """The part of the run registry."""
    op.create_table(
        "runs",
        sa.Column("exp", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("change_number", sa.BigInteger, nullable=False, unique=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.Text(2**24 - 1), nullable=False),
    )
    op.create_table(
        "last_run_change",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("change_number", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO last_run_change VALUES (1, 0)")


def make_buckets() -> None:
    """The part of the book of buckets."""
    op.create_table(
        "buckets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("campaign", sa.String(64), nullable=False, index=True),
        sa.Column("first_exp", sa.Integer, nullable=False),
        sa.Column("first_run", sa.Integer, nullable=False),
        sa.Column("last_exp", sa.Integer, nullable=False),
        sa.Column("last_run", sa.Integer, nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("closed_by", sa.String(200), nullable=False),
        sa.Column("closed_at", sa.String(32), nullable=False),
        sa.UniqueConstraint("campaign", "first_exp", "first_run"),
    )


def make_decisions() -> None:
    """The part of the sign-off log."""
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("campaign", sa.String(64), nullable=False),
        sa.Column("bucket", sa.String(64), nullable=False),
        sa.Column("calibration", sa.String(64), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.String(200), nullable=False),
        sa.Column("decided_at", sa.String(32), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_by_subject", "decisions", ["campaign", "bucket", "calibration"])
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER decisions_no_{verb.lower()} BEFORE {verb} ON decisions "
            "BEGIN SELECT RAISE(ABORT, 'decisions are only ever appended; log a new one'); END"
        )
