"""The book of buckets: which buckets a campaign has, who closed them and when."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, RowMapping, Select, String, Table, UniqueConstraint, select

from b2cal_core.buckets import BookedBucket, Bucket
from b2cal_core.errors import ConflictError
from b2cal_core.ranges import ExpRun
from resources.sql_database import TABLE_OPTIONS, SqlDatabase, utc_text

_METADATA = MetaData()
_BUCKETS = Table(
    "reg_buckets",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("campaign", String(64), nullable=False),
    Column("first_exp", Integer, nullable=False),
    Column("first_run", Integer, nullable=False),
    Column("last_exp", Integer, nullable=False),
    Column("last_run", Integer, nullable=False),
    Column("label", String(200), nullable=False),
    Column("closed_by", String(200), nullable=False),
    Column("closed_at", String(32), nullable=False),
    UniqueConstraint("campaign", "first_exp", "first_run"),
    Index("reg_buckets_campaign", "campaign"),
    **TABLE_OPTIONS,
)


class BucketBook:
    """The book in an SQL database.

    Args:
        url: SQLAlchemy address.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, _METADATA, what="the book of buckets")

    def entries(self, campaign: str) -> tuple[BookedBucket, ...]:
        """The campaign's entries in order of runs."""
        with self._database.reading() as connection:
            rows = connection.execute(_of(campaign)).mappings().all()
        return tuple(map(_entry, rows))

    def add(self, campaign: str, bucket: Bucket, *, closed_by: str) -> Bucket:
        """Book the bucket, and return it as it stands: one that is booked already keeps its label.

        Raises:
            ConflictError: it shares runs with another bucket of the campaign.
        """
        with self._database.writing() as connection:
            booked = [_entry(row).bucket for row in connection.execute(_of(campaign).with_for_update()).mappings()]
            for other in booked:
                if other.key == bucket.key:
                    return other
                if other.first <= bucket.last and bucket.first <= other.last:
                    raise ConflictError(
                        f"bucket {bucket.key} shares runs with {other.key} of campaign {campaign}; "
                        f"start after {other.last} or end before {other.first}"
                    )
            connection.execute(_BUCKETS.insert().values(campaign=campaign, closed_by=closed_by, **_row(bucket)))
        return bucket


def _of(campaign: str) -> Select[Any]:
    return select(_BUCKETS).where(_BUCKETS.c.campaign == campaign).order_by(_BUCKETS.c.first_exp, _BUCKETS.c.first_run)


def _row(bucket: Bucket) -> dict[str, Any]:
    return {
        "first_exp": bucket.first.exp,
        "first_run": bucket.first.run,
        "last_exp": bucket.last.exp,
        "last_run": bucket.last.run,
        "label": bucket.label,
        "closed_at": utc_text(datetime.now(UTC), "now"),
    }


def _entry(row: RowMapping) -> BookedBucket:
    first, last = ExpRun(row["first_exp"], row["first_run"]), ExpRun(row["last_exp"], row["last_run"])
    return BookedBucket(Bucket(first, last, row["label"]), row["closed_by"], datetime.fromisoformat(row["closed_at"]))
