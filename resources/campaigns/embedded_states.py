"""The log of the states of campaigns: who paused which one, when and why."""

from datetime import datetime

from sqlalchemy import Column, Index, Integer, MetaData, RowMapping, String, Table, Text, func, select

from b2cal_core.campaign_states import CampaignChange, CampaignState
from resources.sql_database import TABLE_OPTIONS, SqlDatabase, utc_text

_METADATA = MetaData()
_CHANGES = Table(
    "reg_campaign_states",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("campaign", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("author", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", String(32), nullable=False),
    Index("reg_campaign_states_campaign", "campaign"),
    sqlite_autoincrement=True,
    **TABLE_OPTIONS,
)


class CampaignStates:
    """The log in an SQL database.

    Args:
        url: SQLAlchemy address.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, _METADATA, what="the log of campaigns")

    def record(self, change: CampaignChange) -> None:
        """Append a change."""
        row = {
            "campaign": change.campaign,
            "state": change.state.value,
            "author": change.author,
            "reason": change.reason,
            "changed_at": utc_text(change.when, "the change"),
        }
        with self._database.writing() as connection:
            connection.execute(_CHANGES.insert().values(**row))

    def changes(self, campaign: str) -> tuple[CampaignChange, ...]:
        """Of one campaign, in order."""
        query = select(_CHANGES).where(_CHANGES.c.campaign == campaign).order_by(_CHANGES.c.id)
        with self._database.reading() as connection:
            return tuple(map(_change, connection.execute(query).mappings().all()))

    def last(self) -> dict[str, CampaignState]:
        """The present state of every campaign that ever changed its state."""
        newest = select(func.max(_CHANGES.c.id)).group_by(_CHANGES.c.campaign)
        query = select(_CHANGES.c.campaign, _CHANGES.c.state).where(_CHANGES.c.id.in_(newest))
        with self._database.reading() as connection:
            return {name: CampaignState(state) for name, state in connection.execute(query)}


def _change(row: RowMapping) -> CampaignChange:
    when = datetime.fromisoformat(row["changed_at"])
    return CampaignChange(row["campaign"], CampaignState(row["state"]), row["author"], row["reason"], when)
