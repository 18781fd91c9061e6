"""A decision gets room for what only some have: the end of a waiver, an instruction for a redo, a deputy's expert."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column where the log was ever used; older decisions have nothing in it."""
    if sa.inspect(op.get_bind()).has_table("reg_decisions"):
        op.add_column("reg_decisions", sa.Column("terms", sa.Text, nullable=True))
