"""How a Dagster instance is set up for calibration: written into a home, read by its web server and daemon."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from b2cal_caf.atomic_files import write_atomically
from b2cal_core.errors import BackendError, CalibrationError, ConfigurationError

SETTINGS: dict[str, Any] = {
    "concurrency": {
        "runs": {
            "max_concurrent_runs": 4,
            "tag_concurrency_limits": [
                # A bucket uses all processors; more of a campaign at a time would only wait for each other.
                {"key": "b2cal/campaign", "value": {"applyLimitPerUniqueValue": True}, "limit": 2},
                # What is done on the side never takes the places of prompt calibration.
                {"key": "b2cal/background", "limit": 1},
                {"key": "dagster/backfill", "limit": 1},
            ],
        }
    },
    # Says which processes died; what they worked on would count as at work for ever.
    "run_launcher": {"module": "b2cal_assets.run_launcher", "class": "WatchedRunLauncher"},
    # The gates sensor starts again what a dead worker left, and finished steps are kept.
    "run_monitoring": {
        "enabled": True,
        "start_timeout_seconds": 90,
        "max_resume_run_attempts": 0,
        "poll_interval_seconds": 20,
        "free_slots_after_run_end_seconds": 60,  # its places in pools; by then its steps have ended too
    },
    # The gates sensor ticks every few seconds, and each tick without news is a row.
    "retention": {"sensor": {"purge_after_days": {"skipped": 1}}},
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},  # no advertisement over the first page
}
_HEADER = "# Written once by b2cal; change it as you like, it is not written again.\n"
_STORAGE_KEYS = {"storage", "run_storage", "event_log_storage", "schedule_storage"}
_BEGIN = "# storage.database of deployment.yaml, written by b2cal; change it there\n"
_END = "# end of what b2cal writes\n"
_BLOCK = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.DOTALL)


def make_storage(directory: Path) -> None:
    """Make the tables of a Dagster home before two servers do so at the same time, which leaves them with warnings."""
    import dagster as dg  # noqa: PLC0415 (every command uses this module, few of them Dagster)

    with telling_storage_failures(), dg.DagsterInstance.from_config(str(prepare_dagster_home(directory))) as instance:
        instance.get_runs_count()


def upgrade_storage(directory: Path) -> tuple[str, str] | None:
    """Bring Dagster's own tables up to date, and return their version before and after; ``None`` without a home."""
    import dagster as dg  # noqa: PLC0415 (as above)

    if not (directory / "dagster.yaml").exists():
        return None
    with telling_storage_failures(), dg.DagsterInstance.from_config(str(directory)) as instance:
        before = instance.run_storage.alembic_version()
        with redirect_stdout(sys.stderr):  # Dagster prints what it does, and the output is the command's
            instance.upgrade()
        after = instance.run_storage.alembic_version()
    return str((before or [None])[0]), str((after or [None])[0])


@contextmanager
def telling_storage_failures() -> Iterator[None]:
    """Say what people can do when the database with Dagster's record fails, as a ``BackendError``."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 (as above)

    try:
        yield
    except CalibrationError:
        raise
    except Exception as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__  # Dagster tries connections some times
        if not isinstance(cause, DBAPIError):
            raise
        raise BackendError(
            f"the database with Dagster's record cannot be used: {cause.orig}; check that it can be reached, then ask"
            " again: finished work is kept",
            transient=True,
        ) from error


def prepare_dagster_home(directory: Path) -> Path:
    """Make the directory and its ``dagster.yaml`` where they are missing; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "dagster.yaml"
    if not file.exists():
        write_atomically(file, (_HEADER + yaml.safe_dump(SETTINGS, sort_keys=False)).encode())
    return directory


def store_dagster_in(directory: Path, database: str | None) -> None:
    """Have ``dagster.yaml`` say where Dagster keeps its record; the rest of the file stays as people wrote it.

    Args:
        directory: the Dagster home; made when a database is named.
        database: SQLAlchemy address without a password, or ``env:NAME``; ``None`` for SQLite in the directory, or for
            what people wrote into the file.

    Raises:
        ConfigurationError: people have named another storage in the file.
    """
    file = directory / "dagster.yaml"
    if database is None and not file.exists():
        return
    prepare_dagster_home(directory)
    text = file.read_text(encoding="utf-8")
    rest = _BLOCK.sub("", text)
    if database is not None and (others := sorted(_storage_keys(rest))):
        raise ConfigurationError(
            f"{file} says with {', '.join(others)} where Dagster keeps its record, and deployment.yaml says so with"
            " storage.database; remove one of them"
        )
    wanted = rest if database is None else rest + _block(database)
    if wanted != text:
        write_atomically(file, wanted.encode())


def keeps_own_record(directory: Path) -> bool:
    """Whether Dagster keeps its record in SQLite below its home, as it does unless its file says otherwise."""
    file = directory / "dagster.yaml"
    return not file.exists() or not _storage_keys(file.read_text(encoding="utf-8"))


def _storage_keys(text: str) -> set[str]:
    return _STORAGE_KEYS & set(yaml.safe_load(text) or {})


def _block(database: str) -> str:
    kind, _, name = database.partition(":")
    url = {"env": name} if kind == "env" else database
    return _BEGIN + yaml.safe_dump({"storage": {"mysql": {"mysql_url": url}}}) + _END
