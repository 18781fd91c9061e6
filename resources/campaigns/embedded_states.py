"""The log of campaigns: who paused which one, when and why, and who gave which one another file."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column, Index, Integer, MetaData, RowMapping, String, Table, Text, func, select

from b2cal_core.campaign_states import CampaignChange, CampaignState, CampaignVersion
from resources.append_only import refusing_changes
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
_FILES = Table(
    "reg_campaign_files",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("campaign", String(64), nullable=False),
    Column("author", String(200), nullable=False),
    Column("saved_at", String(32), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("text", Text(2**24 - 1), nullable=False),
    Index("reg_campaign_files_campaign", "campaign"),
    sqlite_autoincrement=True,
    **TABLE_OPTIONS,
)
# Homes that had the states before the files get the triggers of both with the table of files.
_APPEND_ONLY = refusing_changes("the log of campaigns is only ever appended to", _CHANGES, _FILES)


class CampaignStates:
    """The log in an SQL database.

    Args:
        url: SQLAlchemy address.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, _METADATA, what="the log of campaigns", extra=_APPEND_ONLY)

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
        return tuple(map(_change, self._rows(_CHANGES, campaign)))

    def last(self) -> dict[str, CampaignState]:
        """The present state of every campaign that ever changed its state."""
        newest = select(func.max(_CHANGES.c.id)).group_by(_CHANGES.c.campaign)
        query = select(_CHANGES.c.campaign, _CHANGES.c.state).where(_CHANGES.c.id.in_(newest))
        with self._database.reading() as connection:
            return {name: CampaignState(state) for name, state in connection.execute(query)}

    def record_file(self, version: CampaignVersion) -> None:
        """Append a text that a campaign's file got."""
        row = {
            "campaign": version.campaign,
            "author": version.author,
            "saved_at": utc_text(version.when, "the campaign's file"),
            "sha256": version.sha256,
            "text": version.text,
        }
        with self._database.writing() as connection:
            connection.execute(_FILES.insert().values(**row))

    def files(self, campaign: str) -> tuple[CampaignVersion, ...]:
        """The texts that the file of one campaign had, in order."""
        return tuple(map(_version, self._rows(_FILES, campaign)))

    def _rows(self, table: Table, campaign: str) -> Sequence[RowMapping]:
        query = select(table).where(table.c.campaign == campaign).order_by(table.c.id)
        with self._database.reading() as connection:
            return connection.execute(query).mappings().all()


def _version(row: RowMapping) -> CampaignVersion:
    return CampaignVersion(row["campaign"], row["author"], row["text"], datetime.fromisoformat(row["saved_at"]))


def _change(row: RowMapping) -> CampaignChange:
    when = datetime.fromisoformat(row["changed_at"])
    return CampaignChange(row["campaign"], CampaignState(row["state"]), row["author"], row["reason"], when)
