"""The book of simulated samples in the registry: with which global tag and for which runs each was made."""

from datetime import UTC, datetime

from sqlalchemy import Column, Integer, MetaData, RowMapping, String, Table, select

from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.impact import Sample
from b2cal_core.ranges import IoV
from resources.sql_database import TABLE_OPTIONS, SqlDatabase, utc_text

_METADATA = MetaData()
_SAMPLES = Table(
    "reg_samples",
    _METADATA,
    Column("name", String(120), primary_key=True),
    Column("tag", String(255), nullable=False),
    Column("exp_low", Integer, nullable=False),
    Column("run_low", Integer, nullable=False),
    Column("exp_high", Integer, nullable=False),
    Column("run_high", Integer, nullable=False),
    Column("author", String(200), nullable=False),
    Column("added_at", String(32), nullable=False),
    **TABLE_OPTIONS,
)


class EmbeddedSamples:
    """The book in an SQL database; nothing is opened before the first question.

    Args:
        url: SQLAlchemy address, for example ``Home.registry_url``.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, _METADATA, what="the book of samples")

    def add(self, sample: Sample, *, author: str) -> None:
        """Note a sample; the same one again is harmless.

        Raises:
            ConflictError: one of that name was made otherwise.
        """
        with self._database.writing() as connection:
            row = connection.execute(select(_SAMPLES).where(_SAMPLES.c.name == sample.name)).mappings().first()
            if row is None:
                connection.execute(_SAMPLES.insert().values(**_values(sample, author)))
            elif _sample(row) != sample:
                raise ConflictError(
                    f"sample {sample.name} is known with tag {row['tag']} and IoV {_sample(row).iov} already; choose"
                    f" another name, or remove that one: b2cal impact sample remove {sample.name}"
                )

    def remove(self, name: str) -> Sample:
        """Forget a sample, and return it; ``ConfigurationError`` when there is none of that name."""
        chosen = _SAMPLES.c.name == name
        with self._database.writing() as connection:
            row = connection.execute(select(_SAMPLES).where(chosen)).mappings().first()
            if row is None:
                raise ConfigurationError(
                    f"no sample is called {name!r}; b2cal impact sample list shows those there are"
                )
            connection.execute(_SAMPLES.delete().where(chosen))
        return _sample(row)

    def samples(self) -> tuple[Sample, ...]:
        """All of them, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(_SAMPLES).order_by(_SAMPLES.c.name)).mappings().all()
        return tuple(map(_sample, rows))


def _values(sample: Sample, author: str) -> dict[str, str | int]:
    edges = zip(("exp_low", "run_low", "exp_high", "run_high"), sample.iov, strict=True)
    who = {"author": author, "added_at": utc_text(datetime.now(UTC), "now")}
    return {"name": sample.name, "tag": sample.tag, **dict(edges), **who}


def _sample(row: RowMapping) -> Sample:
    return Sample(row["name"], row["tag"], IoV(row["exp_low"], row["run_low"], row["exp_high"], row["run_high"]))
