"""Every table gets a name that begins with ``reg_``, so that Dagster, which has ``runs`` too, fits into one database.

A part that was never used is not there, and is made when it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_RENAMED = {
    "runs": "reg_runs",
    "last_run_change": "reg_last_change",
    "buckets": "reg_buckets",
    "decisions": "reg_decisions",
}


def upgrade() -> None:
    """Rename what is there, with its indexes, and note which tables are complete."""
    op.create_table("reg_tables", sa.Column("name", sa.String(64), primary_key=True))
    found = set(sa.inspect(op.get_bind()).get_table_names())
    for old, new in _RENAMED.items():
        if old in found:
            op.rename_table(old, new)
            op.execute(f"INSERT INTO reg_tables VALUES ('{new}')")  # noqa: S608 (both names are ours)
    if "runs" in found:
        op.create_index("reg_runs_changes", "reg_runs", ["exp", "run", "change_number"])
    if "buckets" in found:
        op.drop_index("ix_buckets_campaign", "reg_buckets")
        op.create_index("reg_buckets_campaign", "reg_buckets", ["campaign"])
    if "decisions" in found:
        _rename_around_decisions()


def _rename_around_decisions() -> None:
    op.drop_index("decisions_by_subject", "reg_decisions")
    op.create_index("reg_decisions_subject", "reg_decisions", ["campaign", "bucket", "calibration"])
    for verb in ("UPDATE", "DELETE"):
        op.execute(f"DROP TRIGGER decisions_no_{verb.lower()}")
        op.execute(
            f"CREATE TRIGGER reg_decisions_no_{verb.lower()} BEFORE {verb} ON reg_decisions "
            "BEGIN SELECT RAISE(ABORT, 'decisions are only ever appended; log a new one'); END"
        )
